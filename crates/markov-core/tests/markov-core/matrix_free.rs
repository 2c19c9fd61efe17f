//! Matrix-free chains equal the stored ones.

use markov_core::{
    Effort, QueryKey, RowStochastic, Stochastic, Stop, bounce_token, lambda2, spectrum, token_rank,
};
use ndarray::{Array2, array};
use proptest::prelude::*;

use crate::common::{Draw, distribution, l1, seconds_agree};

fn softmax(logits: Array2<f64>) -> Array2<f64> {
    let mut a = logits;
    for mut row in a.rows_mut() {
        let top = row.fold(f64::NEG_INFINITY, |a, b| a.max(*b));
        row.mapv_inplace(|v| (v - top).exp());
        let sum = row.sum();
        row /= sum;
    }
    a
}

fn head(n: usize, d: usize, seed: u64) -> (Array2<f32>, Array2<f32>) {
    let mut draw = Draw::new(seed);
    let size = 0.3 + 2.0 * draw.unit();
    let mut random = || Array2::from_shape_simple_fn((n, d), || (size * draw.normal()) as f32);
    (random(), random())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn matrix_free_equals_dense(
        n in 1usize..40, d in 1usize..9, chunk in 1usize..17, alpha in 0.1..0.999f64, seed in any::<u64>(),
    ) {
        let (q, k) = head(n, d, seed);
        let scale = 1.0 / (d as f64).sqrt();
        let free = QueryKey::new(q.view(), k.view(), scale).unwrap().chunk(chunk);
        let dense = Stochastic::new(softmax(q.mapv(f64::from).dot(&k.mapv(f64::from).t()) * scale)).unwrap();
        let t = distribution(n, seed);
        let near = |a: &Array2<f64>, b: &Array2<f64>| (a - b).iter().all(|d| d.abs() < 1e-12);

        prop_assert!(near(&free.clone().forward().dense(), &dense.forward().dense()));
        prop_assert!(near(&free.clone().backward().unwrap().dense(), &dense.backward().unwrap().dense()));
        let (a, b) = (free.clone().teleport_to(alpha, t.view()).unwrap(), dense.teleport_to(alpha, t.view()).unwrap());
        prop_assert!(near(&a.clone().backward().unwrap().dense(), &b.clone().backward().unwrap().dense()));
        for (a, b) in [
            (token_rank(&a.clone().forward(), Stop::strict()), token_rank(&b.clone().forward(), Stop::strict())),
            (
                token_rank(&a.clone().backward().unwrap(), Stop::strict()),
                token_rank(&b.clone().backward().unwrap(), Stop::strict()),
            ),
        ] {
            prop_assert!(l1(&a.unwrap().pi, &b.unwrap().pi) < 1e-6);
        }
        let (a, b) = (free.forward(), dense.forward());
        prop_assert!(near(&bounce_token(&a, n / 2, 3).unwrap(), &bounce_token(&b, n / 2, 3).unwrap()));
        let (a, b) = (lambda2(&a, Effort::default()).unwrap(), lambda2(&b, Effort::default()).unwrap());
        prop_assert!(seconds_agree(&a, &b), "{a:?} {b:?}");
    }
}

#[test]
fn long_sequences_run_in_chunks() {
    let (q, k) = head(700, 16, 3);
    let free = QueryKey::new(q.view(), k.view(), 0.25).unwrap().chunk(50);
    let dense = Stochastic::new(free.clone().forward().dense()).unwrap();
    let (a, b) =
        (spectrum(&free.forward(), 4, Effort::default()), spectrum(&dense.forward(), 4, Effort::default()));
    for (a, b) in a.unwrap().moduli().iter().zip(b.unwrap().moduli()) {
        assert!((a - b).abs() < 1e-9);
    }
}

#[test]
fn bad_heads_are_refused() {
    let q = array![[1.0f32, 0.0], [0.0, 1.0]];
    assert!(QueryKey::new(q.view(), array![[1.0f32, 0.0]].view(), 1.0).is_err());
    assert!(QueryKey::new(q.view(), array![[1.0f32, f32::NAN], [0.0, 1.0]].view(), 1.0).is_err());
    assert!(QueryKey::new(q.view(), q.view(), f64::INFINITY).is_err());
    assert!(QueryKey::new(Array2::<f32>::zeros((0, 3)).view(), Array2::zeros((0, 3)).view(), 1.0).is_err());
}
