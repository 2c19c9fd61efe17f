"""The functions against numpy's dense linear algebra, with numpy alone."""

import threading
import warnings

import numpy as np
import pytest

import tokenrank as tr

F64, F32, F16 = np.float64, np.float32, np.float16


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def maps(*shape, seed=0, sharp=2.0):
    return softmax(sharp * np.random.default_rng(seed).standard_normal(shape))


def causal(*shape, seed=0):
    logits = np.random.default_rng(seed).standard_normal(shape)
    n = shape[-1]
    return softmax(np.where(np.tril(np.ones((n, n), bool)), logits, -np.inf))


def teleported(a, alpha, target=None):
    n = a.shape[-1]
    target = np.full(n, 1 / n) if target is None else target
    return alpha * a + (1 - alpha) * np.broadcast_to(target, a.shape)


def reversed_chain(t):
    return t.swapaxes(-1, -2) / t.sum(-2)[..., None]


def steady(t):
    """The steady state by a linear solve, [..., n]."""
    n = t.shape[-1]
    system = np.swapaxes(t, -1, -2) - np.eye(n)
    system[..., -1, :] = 1.0
    right = np.zeros((*t.shape[:-1], 1))
    right[..., -1, 0] = 1.0
    return np.linalg.solve(system, right)[..., 0]


def moduli(a):
    return np.sort(np.abs(np.linalg.eigvals(a.astype(F64))), axis=-1)[..., ::-1]


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("shape", [(7, 7), (3, 40, 40), (2, 0, 5, 5), (2, 3, 70, 70), (1, 1)])
def test_token_rank_is_the_steady_state(shape, direction):
    a = maps(*shape)
    t = teleported(a, 0.9)
    expected = steady(reversed_chain(t) if direction == "backward" else t)
    found = tr.token_rank(a, alpha=0.9, direction=direction)
    assert found.shape == shape[:-1] and found.dtype == F64
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_the_power_method_stops_as_the_reference_implementation_does():
    a = maps(60, 60)
    t, state = teleported(a, 0.99), np.full(60, 1 / 60)
    for _ in range(200):
        moved = state @ t
        if np.abs(moved - state).sum() < 1e-5:
            state = moved
            break
        state = moved
    np.testing.assert_allclose(tr.token_rank(a, method="power"), state, atol=1e-12)
    one = tr.token_rank(a, method="power", max_steps=1)
    np.testing.assert_allclose(one, np.full(60, 1 / 60) @ t, atol=1e-12)


@pytest.mark.parametrize(
    "teleport, target",
    [
        (3, np.eye(9)[3]),
        (-1, np.eye(9)[8]),
        ([0, 4], np.array([0.5, 0, 0, 0, 0.5, 0, 0, 0, 0])),
        (np.array([0, 4]), np.array([0.5, 0, 0, 0, 0.5, 0, 0, 0, 0])),
        (np.arange(9) / 36, np.arange(9) / 36),
    ],
)
def test_teleports_go_where_they_are_told(teleport, target):
    a = maps(4, 9, 9)
    expected = steady(teleported(a, 0.8, target))
    np.testing.assert_allclose(tr.token_rank(a, alpha=0.8, teleport=teleport), expected, atol=1e-8)


def test_each_matrix_may_have_its_own_teleport():
    a, target = maps(2, 3, 6, 6), maps(2, 3, 6)
    expected = steady(0.7 * a + 0.3 * target[..., None, :])
    np.testing.assert_allclose(tr.token_rank(a, alpha=0.7, teleport=target), expected, atol=1e-8)


def test_bounces_are_powers_of_the_chain():
    a = maps(2, 12, 12)
    powers = np.stack([np.linalg.matrix_power(a, k) for k in (1, 2, 3)], axis=-3)
    np.testing.assert_allclose(tr.bounces(a, 5, 3), powers[..., 5, :], atol=1e-14)
    several = tr.bounces(a, [5, 0, -1], 3)
    assert several.shape == (2, 3, 3, 12)
    np.testing.assert_allclose(several, powers[..., [5, 0, 11], :].swapaxes(1, 2), atol=1e-14)
    start = maps(2, 12)
    np.testing.assert_allclose(tr.bounces(a, start, 2)[..., 1, :], (start[:, None] @ a @ a)[:, 0], atol=1e-14)
    back = reversed_chain(teleported(a, 0.9))
    found = tr.bounces(a, 1, 2, alpha=0.9, direction="backward")
    np.testing.assert_allclose(found[..., 1, :], (back @ back)[..., 1, :], atol=1e-13)


def test_column_sum_is_the_mean_row():
    a = maps(2, 3, 8, 8)
    np.testing.assert_allclose(tr.column_sum(a), a.mean(-2), atol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 3, 30, 64, 65, 150, 300])
def test_lambda2_is_the_second_eigenvalue(n):
    a = maps(3, n, n, sharp=3)
    expected = moduli(a)[..., 1] if n > 1 else np.zeros(3)
    np.testing.assert_allclose(tr.lambda2(a), expected, atol=1e-9)
    np.testing.assert_allclose(tr.lambda2(a.astype(F32), tol=1e-4), expected, atol=1e-4)


def test_lambda2_of_a_causal_map_is_its_diagonal():
    a = causal(4, 50, 50)
    expected = np.sort(np.diagonal(a, axis1=-2, axis2=-1)[:, 1:])[:, -1]
    with pytest.warns(tr.CausalWarning, match="4 of 4 matrices are triangular"):
        np.testing.assert_array_equal(tr.lambda2(a), expected)


def test_the_spectrum_has_the_leading_eigenvalues():
    a = maps(2, 80, 80)
    found = tr.spectrum(a, 6)
    np.testing.assert_allclose(np.abs(found.values), moduli(a)[..., :6], atol=1e-9)
    for matrix, values in zip(a, found.values):
        all_of_it = np.linalg.eigvals(matrix)
        for value in values:
            assert np.abs(all_of_it - value).min() < 1e-9
    assert (found.residual < 1e-8).all() and (found.condition >= 1).all()
    assert tr.spectrum(a, 500).values.shape == (2, 80)


def test_visits_are_the_fundamental_matrix():
    a = maps(3, 10, 10)
    keep = [1, 2, 3, 4, 5, 6, 8, 9]
    q = a[:, keep][:, :, keep]
    fundamental = np.linalg.inv(np.eye(8) - q)
    found = tr.visits(a, [7, 0], start=4)
    np.testing.assert_allclose(found.visits[:, keep], fundamental[:, 3], atol=1e-10)
    np.testing.assert_array_equal(found.visits[:, [0, 7]], 0)
    np.testing.assert_allclose(found.steps[:, keep], fundamental.sum(-1), atol=1e-10)
    np.testing.assert_allclose(found.ends[:, keep], fundamental @ a[:, keep][:, :, [0, 7]], atol=1e-10)
    uniform = tr.visits(a, 0)
    one = np.linalg.inv(np.eye(9) - a[:, 1:, 1:])
    np.testing.assert_allclose(uniform.visits[:, 1:], one.sum(-2) / 10, atol=1e-10)


def test_blocks_are_metastable_sets():
    blocks = np.kron(np.eye(3), np.ones((5, 5))) + 1e-3
    a = np.stack([blocks / blocks.sum(-1, keepdims=True)] * 2)
    for asked in (3, None):
        found = tr.metastable_sets(a, asked)
        np.testing.assert_array_equal(found.count, [3, 3])
        for assignment in found.assignment:
            assert len(set(assignment[:5])) == len(set(assignment[5:10])) == len(set(assignment[10:])) == 1
            assert len(set(assignment)) == 3
        np.testing.assert_allclose(found.memberships.sum(-1), 1, atol=1e-9)
        assert (found.staying > 0.98).all() and (found.crispness > 0.9).all()


def test_matrices_with_fewer_sets_have_nan_behind_theirs():
    def block(count):
        size = 12 // count
        b = np.kron(np.eye(count), np.ones((size, size))) + 1e-3
        return b / b.sum(-1, keepdims=True)

    found = tr.metastable_sets(np.stack([block(2), block(4)]))
    np.testing.assert_array_equal(found.count, [2, 4])
    assert found.weights.shape == (2, 4)
    np.testing.assert_array_equal(np.isnan(found.weights), [[False, False, True, True], [False] * 4])


def test_head_weights_follow_the_rule():
    values = np.array([[0.1, 0.3], [0.0, 0.0]])
    np.testing.assert_allclose(tr.head_weights(values), [[0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_allclose(tr.head_weights(values[0], rule="top", top=1), [0, 1])
    np.testing.assert_allclose(tr.head_weights(values, rule="uniform"), np.full((2, 2), 0.5))


def test_row_stochastic_renormalises_and_drops():
    a = maps(2, 6, 6)
    rough = a * (1 + 5e-4)
    np.testing.assert_allclose(tr.row_stochastic(rough), a, atol=1e-15)
    keep = [0, 1, 3, 5]
    part = a[:, keep][:, :, keep]
    padded = a.copy()
    padded[:, 2] = np.nan
    np.testing.assert_allclose(
        tr.row_stochastic(padded, drop=[2, -2]), part / part.sum(-1, keepdims=True), atol=1e-15
    )


@pytest.mark.parametrize("dtype, error", [(F64, 0), (F32, 1e-7), (F16, 1e-3)])
def test_each_number_format_gives_the_same_answer(dtype, error):
    a = maps(3, 20, 20)
    stored = a.astype(dtype)
    again = stored.astype(F64)
    again /= again.sum(-1, keepdims=True)
    np.testing.assert_allclose(tr.token_rank(stored), tr.token_rank(again), atol=1e-9)
    np.testing.assert_allclose(tr.token_rank(stored), tr.token_rank(a), atol=max(error, 1e-9))


def test_other_layouts_are_read_as_they_are_meant():
    a = maps(4, 3, 16, 16)
    expected = tr.token_rank(a)
    wide = np.zeros((4, 3, 32, 20))
    wide[:, :, ::2, 2:18] = a
    swapped = np.asfortranarray(a)
    big_endian = a.astype(">f8")
    readonly = a.copy()
    readonly.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(F64).reshape(a.shape)
    for other in (wide[:, :, ::2, 2:18], swapped, big_endian, readonly, unaligned, a[::-1][::-1], a.tolist()):
        np.testing.assert_array_equal(tr.token_rank(other), expected)
    np.testing.assert_array_equal(tr.token_rank(a.transpose(1, 0, 2, 3)), expected.transpose(1, 0, 2))


def test_inputs_are_not_changed():
    for dtype in (F16, F32, F64):
        a = (maps(2, 9, 9) * (1 + 1e-4)).astype(dtype)
        copy = a.copy()
        tr.token_rank(a)
        tr.lambda2(a)
        tr.row_stochastic(a)
        tr.metastable_sets(a)
        np.testing.assert_array_equal(a, copy)


GOOD = maps(2, 3, 4, 4)


def broken(index, value):
    a = GOOD.copy()
    a[index] = value
    return a


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: tr.token_rank(GOOD * 2), ValueError, ["matrix [0, 0]", "row 0 sums to"]),
        (lambda: tr.token_rank(broken((1, 2, 3, 0), np.nan)), ValueError, ["matrix [1, 2]", "entry (3, 0) is NaN"]),
        (lambda: tr.lambda2(broken((0, 1, 2, 0), -0.1)), ValueError, ["matrix [0, 1]", "(2, 0)", "logits"]),
        (lambda: tr.token_rank(broken((0, 1, 2, 0), np.inf)), ValueError, ["(2, 0) is inf"]),
        (lambda: tr.row_stochastic(broken((1, 0, 1, 1), 3.0)), ValueError, ["matrix [1, 0]", "row 1 sums to"]),
        (lambda: tr.row_stochastic(np.eye(3), drop=[0, 1, 2]), ValueError, ["empty"]),
        (lambda: tr.row_stochastic(np.eye(3)[[1, 0, 2]], drop=0), ValueError, ["row 1 keeps no mass"]),
        (lambda: tr.row_stochastic(np.eye(3), tolerance=-1), ValueError, ["tolerance"]),
        (lambda: tr.token_rank(np.ones((2, 3))), ValueError, ["2 × 3"]),
        (lambda: tr.token_rank(np.ones(3)), ValueError, ["[..., n, n]", "[3]"]),
        (lambda: tr.token_rank(np.zeros((0, 0))), ValueError, ["empty"]),
        (lambda: tr.token_rank(GOOD.astype(complex)), TypeError, ["complex128"]),
        (lambda: tr.token_rank("attention"), TypeError, ["float16"]),
        (lambda: tr.token_rank(None), TypeError, ["object"]),
        (lambda: tr.token_rank([[1.0], [0.5, 0.5]]), ValueError, []),
        (lambda: tr.token_rank(GOOD, alpha=1.5), ValueError, ["alpha is 1.5"]),
        (lambda: tr.token_rank(GOOD, alpha=float("nan")), ValueError, ["alpha"]),
        (lambda: tr.token_rank(GOOD, direction="sideways"), ValueError, ["sideways"]),
        (lambda: tr.token_rank(GOOD, method="magic"), ValueError, ["magic"]),
        (lambda: tr.token_rank(GOOD, tol=0.0), ValueError, ["tol"]),
        (lambda: tr.token_rank(GOOD, max_steps=0), ValueError, ["steps"]),
        (lambda: tr.token_rank(GOOD, errors="ignore"), ValueError, ["ignore"]),
        (lambda: tr.token_rank(GOOD, threads=-1), (ValueError, OverflowError), []),
        (lambda: tr.token_rank(GOOD, teleport=4), ValueError, ["token 4 does not exist", "4 states"]),
        (lambda: tr.token_rank(GOOD, teleport=[]), ValueError, ["[0]"]),
        (lambda: tr.token_rank(GOOD, teleport=[0.5, 0.5]), ValueError, ["teleport has shape [2]", "[2, 3, 4]"]),
        (lambda: tr.token_rank(GOOD, teleport=[0.5, 0.6, 0, 0]), ValueError, ["teleport", "sums to 1.1"]),
        (lambda: tr.token_rank(np.eye(3), alpha=1.0), ValueError, ["not unique", "3 closed classes"]),
        (lambda: tr.token_rank(np.eye(2)[::-1], alpha=1.0), ValueError, ["periodic"]),
        (lambda: tr.token_rank([[0, 1], [0, 1]], direction="backward", alpha=1), ValueError, ["column 0"]),
        (lambda: tr.bounces(GOOD, -5, 2), ValueError, ["token -5"]),
        (lambda: tr.bounces(GOOD, 0, 0), ValueError, ["steps"]),
        (lambda: tr.bounces(GOOD, [], 2), ValueError, []),
        (lambda: tr.bounces(GOOD, [[0, 1]], 2), TypeError, ["[1, 2]"]),
        (lambda: tr.spectrum(GOOD, 0), ValueError, ["k must be"]),
        (lambda: tr.lambda2(GOOD, tol=-1), ValueError, ["tol"]),
        (lambda: tr.visits(np.eye(3), 0), ValueError, ["never absorbed"]),
        (lambda: tr.visits(GOOD, []), ValueError, ["absorb"]),
        (lambda: tr.visits(GOOD, 1.5), TypeError, ["absorb"]),
        (lambda: tr.metastable_sets(GOOD, 5), ValueError, ["metastable sets"]),
        (lambda: tr.metastable_sets(GOOD, 0), ValueError, ["sets"]),
        (lambda: tr.token_rank(np.ma.masked_less(GOOD, 0.1)), TypeError, ["masked"]),
        (lambda: tr.head_weights([]), ValueError, ["no head"]),
        (lambda: tr.head_weights(0.5), ValueError, ["single number"]),
        (lambda: tr.head_weights([0.1, np.nan]), ValueError, ["head 1"]),
        (lambda: tr.head_weights([0.1], rule="top", top=2), ValueError, ["heads kept"]),
        (lambda: tr.head_weights([0.1], rule="top"), ValueError, ["top="]),
        (lambda: tr.head_weights([0.1], top=1), ValueError, ["top="]),
    ],
)
@pytest.mark.filterwarnings("ignore::tokenrank.CausalWarning")
def test_bad_input_gets_a_sentence(call, error, words):
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_one_bad_matrix_does_not_lose_the_others():
    a = broken((1, 2, 3, 0), np.nan)
    with pytest.warns(tr.ChainWarning, match=r"NaN for matrix \[1, 2\]"):
        found = tr.token_rank(a, errors="nan")
    assert np.isnan(found[1, 2]).all()
    found[1, 2] = expected = tr.token_rank(GOOD)[1, 2]
    np.testing.assert_array_equal(found, tr.token_rank(GOOD))
    assert expected.sum() == pytest.approx(1)
    with pytest.warns(tr.ChainWarning):
        assert np.isnan(tr.lambda2(a, errors="nan")).sum() == 1
    with pytest.warns(tr.ChainWarning):
        assert np.isnan(tr.bounces(a, 0, 2, errors="nan")).sum() == 8
    with pytest.warns(tr.ChainWarning):
        sets = tr.metastable_sets(a, 2, errors="nan")
    assert (sets.assignment[1, 2] == -1).all() and sets.count[1, 2] == 0


def test_causal_attention_is_pointed_out_once_it_matters():
    a = causal(2, 8, 8)
    with pytest.warns(tr.CausalWarning, match="first token"):
        tr.token_rank(a)
    with pytest.warns(tr.CausalWarning, match="last token"):
        tr.token_rank(a, direction="backward")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tr.token_rank(a, teleport=-1)
        tr.visits(a, 0)
        tr.bounces(a, 7, 2)
        tr.token_rank(maps(8, 8))


def test_the_number_of_threads_changes_no_digit():
    a = maps(6, 90, 90).astype(F32)
    for function in (tr.token_rank, tr.lambda2, tr.column_sum):
        one = function(a, threads=1)
        np.testing.assert_array_equal(function(a, threads=3), one)
        np.testing.assert_array_equal(function(a), one)


def test_other_threads_run_meanwhile():
    a = maps(12, 400, 400)
    counted = []

    def count():
        while not done.is_set():
            counted.append(1)

    done = threading.Event()
    other = threading.Thread(target=count)
    other.start()
    before = len(counted)
    tr.spectrum(a, 20, threads=1)
    grown = len(counted) - before
    done.set()
    other.join()
    assert grown > 100


def test_every_public_function_has_a_docstring_and_a_stub():
    import pathlib

    stub = (pathlib.Path(tr.__file__).parent / "_core.pyi").read_text()
    for name in tr.__all__:
        assert name == "__version__" or getattr(tr, name).__doc__, name
    for name in dir(tr._core):
        if not name.startswith("__"):
            written = f"def {name}(" if callable(getattr(tr._core, name)) else f"\n{name}: "
            assert written in stub, name
    assert (pathlib.Path(tr.__file__).parent / "py.typed").exists()
