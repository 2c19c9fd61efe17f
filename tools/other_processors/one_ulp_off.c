/* Another processor's mathematics: a library for LD_PRELOAD under which the elementary functions of glibc, of MKL's vector
 * library and of SLEEF, and MKL's matrix products, end one unit in the last place off, each way in a quarter of the cases.
 *
 * libtorch_cpu.so links MKL and SLEEF statically but calls them through its procedure linkage table, so they can be replaced
 * too. What libtorch computes inline (its own exp and erf, square roots by the processor's instruction, sums, oneDNN's
 * generated code) cannot.
 *
 * What a function returns depends on its argument only, as on a real processor: two runs still agree to the bit. Results with
 * few digits (exp(0), tanh(20), sums of small integers) are exact on every processor and are left alone.
 *
 *   cc -O2 -shared -fPIC -o one_ulp_off.so one_ulp_off.c -ldl
 *   LD_PRELOAD=./one_ulp_off.so ULP_SEED=1 ULP_LOG=calls.txt cargo test ...
 *
 * ULP_SEED chooses which results are off. At exit one line for each function that was called is appended to ULP_LOG.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t seed;

static uint64_t mixed(uint64_t x) {
    x += seed + 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Zero, infinite, NaN, or a mantissa whose lower half is zero: the same everywhere. */
static float off_f(float y) {
    uint32_t bits;
    memcpy(&bits, &y, 4);
    if ((bits & 0x7fffffff) < 0x00800000 || (bits & 0x7f800000) == 0x7f800000 || !(bits & 0xfff)) return y;
    uint64_t draw = mixed(bits) & 3;
    bits += draw == 0 ? 1 : draw == 1 ? -1u : 0;
    memcpy(&y, &bits, 4);
    return y;
}

static double off_d(double y) {
    uint64_t bits;
    memcpy(&bits, &y, 8);
    uint64_t exponent = bits & 0x7ff0000000000000u;
    if (!exponent || exponent == 0x7ff0000000000000u || !(bits & 0x3ffffff)) return y;
    uint64_t draw = mixed(bits) & 3;
    bits += draw == 0 ? 1 : draw == 1 ? -(uint64_t)1 : 0;
    memcpy(&y, &bits, 8);
    return y;
}

struct real {
    const char *name;
    void *function;
    unsigned long calls;
    struct real *next;
};
static struct real *used;

static void *found(struct real *real) {
    if (!real->function) {
        real->function = dlsym(RTLD_NEXT, real->name);
        if (!real->function) {
            fprintf(stderr, "one_ulp_off: there is no %s to call\n", real->name);
            abort();
        }
        struct real *head = __atomic_load_n(&used, __ATOMIC_RELAXED);
        do real->next = head;
        while (!__atomic_compare_exchange_n(&used, &head, real, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    }
    __atomic_fetch_add(&real->calls, 1, __ATOMIC_RELAXED);
    return real->function;
}

__attribute__((constructor)) static void begin(void) {
    const char *given = getenv("ULP_SEED");
    seed = given ? strtoull(given, NULL, 10) * 0xd1342543de82ef95u : 0;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("ULP_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (!log) return;
    for (struct real *real = used; real; real = real->next) fprintf(log, "%s %lu\n", real->name, real->calls);
    fclose(log);
}

#define REAL(name) static struct real real_##name = {#name, NULL, 0, NULL}

/* glibc, one and two arguments. */
#define SCALAR(name, type, off)                                                                                                  \
    REAL(name);                                                                                                                  \
    type name(type x) { return off(((type(*)(type))found(&real_##name))(x)); }
#define SCALAR2(name, type, off)                                                                                                 \
    REAL(name);                                                                                                                  \
    type name(type x, type y) { return off(((type(*)(type, type))found(&real_##name))(x, y)); }
#define BOTH(name) SCALAR(name, double, off_d) SCALAR(name##f, float, off_f)
#define BOTH2(name) SCALAR2(name, double, off_d) SCALAR2(name##f, float, off_f)
BOTH(exp) BOTH(exp2) BOTH(expm1) BOTH(log) BOTH(log2) BOTH(log10) BOTH(log1p) BOTH(sin) BOTH(cos) BOTH(tan) BOTH(asin) BOTH(acos)
BOTH(atan) BOTH(sinh) BOTH(cosh) BOTH(tanh) BOTH(erf) BOTH(erfc) BOTH(cbrt) BOTH2(pow) BOTH2(atan2) BOTH2(hypot)

#define SINCOS(name, type, off)                                                                                                  \
    REAL(name);                                                                                                                  \
    void name(type x, type *s, type *c) {                                                                                        \
        ((void (*)(type, type *, type *))found(&real_##name))(x, s, c);                                                          \
        *s = off(*s), *c = off(*c);                                                                                              \
    }
SINCOS(sincos, double, off_d) SINCOS(sincosf, float, off_f)

/* MKL's vector library as libtorch calls it: count, from, to, mode. */
#define VML(name, type, off)                                                                                                     \
    REAL(name);                                                                                                                  \
    void name(int n, const type *a, type *r, int64_t mode) {                                                                     \
        ((void (*)(int, const type *, type *, int64_t))found(&real_##name))(n, a, r, mode);                                      \
        for (int i = 0; i < n; i++) r[i] = off(r[i]);                                                                            \
    }
#define VML_BOTH(name) VML(vms##name, float, off_f) VML(vmd##name, double, off_d)
VML_BOTH(Sqrt) VML_BOTH(Exp) VML_BOTH(Ln) VML_BOTH(Log10) VML_BOTH(Log2) VML_BOTH(Sin) VML_BOTH(Cos) VML_BOTH(Tan) VML_BOTH(Tanh)
VML_BOTH(Erf) VML_BOTH(Erfc) VML_BOTH(ErfInv) VML_BOTH(Asin) VML_BOTH(Acos) VML_BOTH(Atan)

/* SLEEF, whole registers. */
#define LANES(isa, vector, type, lanes, off, load, store)                                                                        \
    __attribute__((target(isa))) static vector off##lanes(vector x) {                                                            \
        type all[lanes];                                                                                                         \
        store(all, x);                                                                                                           \
        for (int i = 0; i < lanes; i++) all[i] = off(all[i]);                                                                    \
        return load(all);                                                                                                        \
    }
LANES("avx2", __m256, float, 8, off_f, _mm256_loadu_ps, _mm256_storeu_ps)
LANES("avx2", __m256d, double, 4, off_d, _mm256_loadu_pd, _mm256_storeu_pd)
LANES("avx512f", __m512, float, 16, off_f, _mm512_loadu_ps, _mm512_storeu_ps)
LANES("avx512f", __m512d, double, 8, off_d, _mm512_loadu_pd, _mm512_storeu_pd)
#define SLEEF1(name, isa, vector, off)                                                                                           \
    REAL(name);                                                                                                                  \
    __attribute__((target(isa))) vector name(vector x) { return off(((vector(*)(vector))found(&real_##name))(x)); }
#define SLEEF2(name, isa, vector, off)                                                                                           \
    REAL(name);                                                                                                                  \
    __attribute__((target(isa))) vector name(vector x, vector y) {                                                               \
        return off(((vector(*)(vector, vector))found(&real_##name))(x, y));                                                      \
    }
#define SLEEF(define, name, digits)                                                                                              \
    define(Sleef_##name##f8_##digits, "avx2", __m256, off_f8) define(Sleef_##name##d4_##digits, "avx2", __m256d, off_d4)         \
    define(Sleef_##name##f16_##digits, "avx512f", __m512, off_f16) define(Sleef_##name##d8_##digits, "avx512f", __m512d, off_d8)
SLEEF(SLEEF1, exp, u10) SLEEF(SLEEF1, exp2, u10) SLEEF(SLEEF1, expm1, u10) SLEEF(SLEEF1, log, u10) SLEEF(SLEEF1, log2, u10)
SLEEF(SLEEF1, log10, u10) SLEEF(SLEEF1, log1p, u10) SLEEF(SLEEF1, sin, u10) SLEEF(SLEEF1, cos, u10) SLEEF(SLEEF1, sin, u35)
SLEEF(SLEEF1, cos, u35) SLEEF(SLEEF1, tan, u10) SLEEF(SLEEF1, tanh, u10) SLEEF(SLEEF1, sinh, u10) SLEEF(SLEEF1, cosh, u10)
SLEEF(SLEEF1, erf, u10) SLEEF(SLEEF1, erfc, u15) SLEEF(SLEEF1, asin, u10) SLEEF(SLEEF1, acos, u10) SLEEF(SLEEF1, atan, u10)
SLEEF(SLEEF2, pow, u10) SLEEF(SLEEF2, atan2, u10) SLEEF(SLEEF2, hypot, u05)

/* Matrix products, Fortran's order. */
#define GEMM(name, type, off)                                                                                                    \
    REAL(name);                                                                                                                  \
    void name(const char *ta, const char *tb, const int *m, const int *n, const int *k, const type *alpha, const type *a,        \
              const int *lda, const type *b, const int *ldb, const type *beta, type *c, const int *ldc) {                        \
        ((void (*)(const char *, const char *, const int *, const int *, const int *, const type *, const type *, const int *,   \
                   const type *, const int *, const type *, type *, const int *))found(&real_##name))(                           \
            ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);                                                               \
        for (int j = 0; j < *n; j++)                                                                                             \
            for (int i = 0; i < *m; i++) c[i + (int64_t)j * *ldc] = off(c[i + (int64_t)j * *ldc]);                               \
    }
GEMM(sgemm_, float, off_f) GEMM(dgemm_, double, off_d)

#define GEMV(name, type, off)                                                                                                    \
    REAL(name);                                                                                                                  \
    void name(const char *t, const int *m, const int *n, const type *alpha, const type *a, const int *lda, const type *x,        \
              const int *incx, const type *beta, type *y, const int *incy) {                                                     \
        ((void (*)(const char *, const int *, const int *, const type *, const type *, const int *, const type *, const int *,   \
                   const type *, type *, const int *))found(&real_##name))(t, m, n, alpha, a, lda, x, incx, beta, y, incy);      \
        int rows = *t == 'n' || *t == 'N' ? *m : *n;                                                                             \
        for (int i = 0; i < rows; i++) y[(int64_t)i * *incy] = off(y[(int64_t)i * *incy]);                                       \
    }
GEMV(sgemv_, float, off_f) GEMV(dgemv_, double, off_d)

/* Batches of them; order 101 is row by row, 102 column by column. */
#define BATCH(name, type, off)                                                                                                   \
    REAL(name);                                                                                                                  \
    void name(int order, const int *ta, const int *tb, const int *m, const int *n, const int *k, const type *alpha,              \
              const type **a, const int *lda, const type **b, const int *ldb, const type *beta, type **c, const int *ldc,        \
              int groups, const int *sizes) {                                                                                    \
        ((void (*)(int, const int *, const int *, const int *, const int *, const int *, const type *, const type **,            \
                   const int *, const type **, const int *, const type *, type **, const int *, int, const int *))               \
             found(&real_##name))(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, groups, sizes);                   \
        for (int g = 0, one = 0; g < groups; g++)                                                                                \
            for (int s = 0; s < sizes[g]; s++, one++) {                                                                          \
                int lines = order == 102 ? n[g] : m[g], length = order == 102 ? m[g] : n[g];                                     \
                for (int j = 0; j < lines; j++)                                                                                  \
                    for (int i = 0; i < length; i++) {                                                                           \
                        type *at = c[one] + i + (int64_t)j * ldc[g];                                                             \
                        *at = off(*at);                                                                                          \
                    }                                                                                                            \
            }                                                                                                                    \
    }
BATCH(cblas_sgemm_batch, float, off_f) BATCH(cblas_dgemm_batch, double, off_d)
