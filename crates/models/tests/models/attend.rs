//! Attention and its probes on random tensors.

use std::ops::Range;

use models::attend::{AttentionProbe, ChainTokens, KeyBias, NoProbe, View, Want, attend, attend_scaled};
use models::probe::{
    KeepAll, LambdaWeight, LambdaWeighted, LayerChains, MeanMap, RankOnly, RankParts, Select, Tee,
};
use models::{Device, Kind, Site, Stream, TokenLayout};
use proptest::prelude::*;
use tch::Tensor;

fn site(block: usize, tokens: i64) -> Site {
    Site { stream: Stream::Vision, block, step: 0, layout: TokenLayout::vision(1, (1, tokens - 1)) }
}

fn random(shape: &[i64], seed: i64) -> Tensor {
    tch::manual_seed(seed);
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

/// Requests exactly the quantities `0`, and checks that it gets exactly these.
struct Asks(Want, usize);

impl AttentionProbe for Asks {
    fn want(&mut self, _: &Site) -> Want {
        self.0
    }

    fn see(&mut self, _: &Site, heads: Range<i64>, view: &View<'_>) -> models::Result<()> {
        assert_eq!(view.logits().is_ok(), self.0.contains(Want::LOGITS));
        assert_eq!(view.probs().is_ok(), self.0.contains(Want::PROBS));
        assert_eq!(view.output().is_ok(), self.0.contains(Want::OUTPUT));
        self.1 += (heads.end - heads.start) as usize;
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_probe_changes_the_output(
        batch in 1i64..4, heads in 1i64..5, tokens in 2i64..40, dim in 1i64..33, want in 0u8..8, seed in 0i64..1000,
    ) {
        let [q, k, v] = [0, 1, 2].map(|i| random(&[batch, heads, tokens, dim], seed * 3 + i));
        let bias = random(&[batch, tokens], seed + 7);
        for bias in [KeyBias::none(), KeyBias::new(&bias).unwrap()] {
            let plain = attend(&q, &k, &v, &bias, &site(0, tokens), &mut NoProbe).expect("attends");
            let mut probe = Asks(Want::from_bits_truncate(want), 0);
            let probed = attend(&q, &k, &v, &bias, &site(0, tokens), &mut probe).expect("attends");
            prop_assert!(difference(&plain, &probed) < 1e-5);
            prop_assert_eq!(probe.1, if want == 0 { 0 } else { heads as usize });
        }
    }

    #[test]
    fn reducers_agree_with_whole_maps(
        batch in 1i64..3, heads in 1i64..4, tokens in 3i64..20, seed in 0i64..1000, without_special in any::<bool>(),
    ) {
        let states = if without_special { ChainTokens::WithoutSpecial } else { ChainTokens::All };
        let mut probe = Select::new(
            [0, 2].into(),
            Tee(
                KeepAll::default(),
                Tee(
                    MeanMap::new(states),
                    Tee(LambdaWeighted::new(states, LambdaWeight::Proportional), RankOnly::new(states, 0.99, RankParts::RanksAndLambdas)),
                ),
            ),
        );
        for block in 0..3 {
            let [q, k, v] = [0, 1, 2].map(|i| random(&[batch, heads, tokens, 8], seed * 9 + 3 * block + i) * 2);
            let _ = attend(&q, &k, &v, &KeyBias::none(), &site(block as usize, tokens), &mut probe).expect("attends");
        }
        let Tee(kept, Tee(mean, Tee(weighted, ranks))) = probe.inner;
        let kept = kept.finish().expect("seen");
        prop_assert_eq!(kept.iter().map(|layer| layer.site.block).collect::<Vec<_>>(), [0, 2]);

        // [b, all heads, n, n], without the special token before the softmax if it is not a state.
        let maps: Vec<Tensor> = kept.iter().map(|layer| match states {
            ChainTokens::All => layer.probs.shallow_clone(),
            ChainTokens::WithoutSpecial =>
                layer.logits.narrow(2, 1, tokens - 1).narrow(3, 1, tokens - 1).softmax(-1, Kind::Float),
        }).collect();
        let maps = Tensor::cat(&maps, 1);
        let mean_of_maps = maps.mean_dim(1i64, false, Kind::Float);
        prop_assert!(difference(&mean.finish().expect("seen"), &mean_of_maps) < 1e-6);

        let ranks = ranks.finish().expect("seen");
        let lambda = ranks.lambdas.as_ref().expect("asked for");
        let weight = lambda / lambda.sum_dim_intlist(1i64, true, Kind::Double);
        let by_hand = (maps.to_kind(Kind::Double) * weight.unsqueeze(-1).unsqueeze(-1))
            .sum_dim_intlist(1i64, false, Kind::Double);
        prop_assert!(difference(&weighted.finish().expect("seen"), &by_hand) < 1e-5);

        // π T = π for every head.
        let n = maps.size()[3];
        let teleported = maps.to_kind(Kind::Double) * 0.99 + 0.01 / n as f64;
        let stepped = ranks.ranks.unsqueeze(2).matmul(&teleported).squeeze_dim(2);
        prop_assert!(difference(&stepped, &ranks.ranks) < 1e-6);
        let mean_rank = ranks.ranks.mean_dim(1i64, false, Kind::Double);
        prop_assert!(difference(&ranks.mean().expect("seen"), &mean_rank) < 1e-12);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn layers_as_chains_agree_with_whole_maps(
        heads in 1i64..5, tokens in 3i64..20, seed in 0i64..1000, without_special in any::<bool>(), kept_layers in 0usize..4,
    ) {
        let states = if without_special { ChainTokens::WithoutSpecial } else { ChainTokens::All };
        let n = (tokens - i64::from(without_special)) as usize;
        // One number less than another layer needs.
        let budget = (kept_layers + 1) * heads as usize * n * n - 1;
        let mut probe = Tee(KeepAll::default(), LayerChains::new(states, 1e-8, budget));
        for block in 0..3 {
            let [q, k, v] = [0, 1, 2].map(|i| random(&[1, heads, tokens, 8], seed * 9 + 3 * block + i) * 2);
            let _ = attend(&q, &k, &v, &KeyBias::none(), &site(block as usize, tokens), &mut probe).expect("attends");
        }
        let Tee(kept, chains) = probe;
        let (layers, layout) = chains.finish().expect("seen");
        prop_assert_eq!(layout.tokens(), n as i64);
        prop_assert_eq!(layout.special, i64::from(!without_special));
        for (number, (layer, kept)) in layers.iter().zip(kept.finish().expect("seen")).enumerate() {
            prop_assert_eq!(layer.block, number);
            let maps = match states {
                ChainTokens::All => kept.probs,
                ChainTokens::WithoutSpecial =>
                    kept.logits.narrow(2, 1, n as i64).narrow(3, 1, n as i64).softmax(-1, Kind::Float),
            };
            let close = |map: &ndarray::Array2<f32>, tensor: &Tensor| {
                let flat = Tensor::from_slice(map.as_slice().expect("contiguous")).reshape([n as i64, n as i64]);
                difference(&flat, tensor) < 1e-6
            };
            prop_assert!(close(&layer.mean, &maps.mean_dim(1i64, false, Kind::Float).squeeze_dim(0)));
            // The last layers keep all their heads.
            prop_assert_eq!(layer.heads.len(), if number + kept_layers >= 3 { heads as usize } else { 0 });
            for (head, map) in (0..).zip(&layer.heads) {
                prop_assert!(close(map, &maps.select(1, head).squeeze_dim(0)));
            }
            let lambda = models::probe::lambda2(&maps, 1e-8).expect("chains").squeeze_dim(0);
            prop_assert!(difference(&Tensor::from_slice(&layer.lambda2), &lambda) < 1e-12);
        }
    }
}

#[test]
fn a_probe_that_saw_nothing_says_so() {
    assert!(MeanMap::new(ChainTokens::All).finish().is_err());
    assert!(LambdaWeighted::new(ChainTokens::All, LambdaWeight::Squared).finish().is_err());
    assert!(RankOnly::new(ChainTokens::All, 0.99, RankParts::RanksAndLambdas).finish().is_err());
    assert!(LayerChains::new(ChainTokens::All, 1e-4, 0).finish().is_err());
}

#[test]
fn reading_what_was_not_asked_for_is_an_error() {
    struct Greedy;
    impl AttentionProbe for Greedy {
        fn want(&mut self, _: &Site) -> Want {
            Want::PROBS
        }
        fn see(&mut self, _: &Site, _: Range<i64>, view: &View<'_>) -> models::Result<()> {
            view.logits().map(|_| ())
        }
    }
    let q = random(&[1, 1, 3, 4], 0);
    let error = attend(&q, &q, &q, &KeyBias::none(), &site(0, 3), &mut Greedy).expect_err("not asked for");
    assert!(error.to_string().contains("not requested"), "{error}");
}

/// So many maps that the heads are shown one by one: each must get its own term of the bias, whichever probe is used.
#[test]
fn each_head_has_its_own_bias() -> models::Result<()> {
    let (texts, heads, tokens) = (33, 2, 1024);
    let q = random(&[texts, heads, tokens, 2], 0);
    let bias = KeyBias::per_head(random(&[1, heads, tokens, tokens], 1));
    let unprobed = attend_scaled(&q, &q, &q, 1.0, &bias, &site(0, tokens), &mut NoProbe)?;
    let mut probe = Asks(Want::PROBS, 0);
    let probed = attend_scaled(&q, &q, &q, 1.0, &bias, &site(0, tokens), &mut probe)?;
    assert_eq!(probe.1, heads as usize);
    let found = difference(&probed, &unprobed);
    // Rounding of large logits; the bias of the other head makes a difference of about 1.
    assert!(found < 1e-4, "{found:e}");
    Ok(())
}

/// The fused kernels do not hide NaN: an item with it has it in the output, with and without a bias, and no other item has.
#[test]
fn numbers_that_are_not_finite_reach_the_output_of_their_item() -> models::Result<()> {
    for (tokens, kind) in [(5, Kind::Float), (5, Kind::BFloat16), (600, Kind::Float), (600, Kind::BFloat16)] {
        for place in 0..3 {
            for (number, bias) in [(f64::NAN, None), (f64::INFINITY, None), (f64::NAN, Some(0.5))] {
                let inputs: Vec<Tensor> =
                    (0..3).map(|input| random(&[3, 2, tokens, 8], 7 + input).to_kind(kind)).collect();
                // One number of one token in one head of the second item.
                let _ = inputs[place].get(1).get(1).get(tokens / 2).get(3).fill_(number);
                let bias = bias.map_or(Ok(KeyBias::none()), |bias| {
                    KeyBias::new(&Tensor::full([3, tokens], bias, (Kind::Float, Device::Cpu)))
                })?;
                let output =
                    attend(&inputs[0], &inputs[1], &inputs[2], &bias, &site(0, tokens), &mut NoProbe)?;
                let finite = output.isfinite().reshape([3, -1]).all_dim(1, false);
                let finite: Vec<bool> = Vec::try_from(&finite).expect("three items");
                assert_eq!(
                    finite,
                    [true, false, true],
                    "{number} in input {place}, {tokens} tokens, {kind:?}"
                );
            }
        }
    }
    Ok(())
}
