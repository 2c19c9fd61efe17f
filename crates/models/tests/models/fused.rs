//! Probes of chains give the same from queries and keys as from maps.

use std::num::NonZeroUsize;
use std::ops::Range;

use models::attend::{AttentionProbe, ChainTokens, KeyBias, NoProbe, View, Want, attend};
use models::probe::{
    HeadWeight, LambdaWeight, LambdaWeighted, MapKind, MapRequest, PassMaps, RankOnly, RankParts, Tee,
    WeightScope,
};
use models::{Device, Kind, Site, Stream, TokenLayout};
use tch::Tensor;

/// Asks for queries and keys on every device.
struct OfQueriesAndKeys<P>(P);

impl<P: AttentionProbe> AttentionProbe for OfQueriesAndKeys<P> {
    fn want(&mut self, site: &Site) -> Want {
        let want = self.0.want(site);
        assert_eq!(want, Want::CHAIN);
        want | Want::FUSED
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> models::Result<()> {
        self.0.see(site, heads, view)
    }
}

fn random(shape: &[i64], seed: i64) -> Tensor {
    tch::manual_seed(seed);
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

/// Shows two layers to a probe. Returns their outputs.
fn shown(
    tokens: (i64, i64),
    kind: Kind,
    bias: &KeyBias,
    probe: &mut dyn AttentionProbe,
) -> models::Result<Vec<Tensor>> {
    let n = tokens.0 * tokens.1 + 1;
    let layer = |block: usize| {
        let site = Site { stream: Stream::Vision, block, step: 0, layout: TokenLayout::vision(1, tokens) };
        let [q, k, v] = [0, 1, 2].map(|i| (random(&[2, 3, n, 16], 3 * block as i64 + i) * 1.5).to_kind(kind));
        attend(&q, &k, &v, bias, &site, probe)
    };
    (0..2).map(layer).collect()
}

/// Averages of every kind of weight and map.
const REQUESTS: [(MapKind, HeadWeight); 5] = [
    (MapKind::Plain, HeadWeight::Equal),
    (MapKind::Plain, HeadWeight::Lambda(LambdaWeight::Proportional, WeightScope::PerBlock)),
    (MapKind::Pretty, HeadWeight::Lambda(LambdaWeight::Squared, WeightScope::Global)),
    (MapKind::Pretty, HeadWeight::Equal),
    (MapKind::Plain, HeadWeight::Top(NonZeroUsize::MIN, WeightScope::Global)),
];

#[test]
fn probes_of_chains_need_no_maps() -> models::Result<()> {
    let tokens = (12, 14);
    let n = tokens.0 * tokens.1 + 1;
    let hidden = random(&[2, n], 52).lt(-1.0);
    for (bias, hides) in [
        (None, false),
        (Some(random(&[2, n], 50)), false),
        (Some(random(&[2, n], 51).masked_fill(&hidden, f64::NEG_INFINITY)), true),
    ] {
        let bias = || bias.as_ref().map_or(Ok(KeyBias::none()), KeyBias::new);
        let plain = shown(tokens, Kind::Float, &bias()?, &mut NoProbe)?;
        for states in [ChainTokens::All, ChainTokens::WithoutSpecial] {
            let probe = || {
                let requests = REQUESTS.map(|(map, weight)| MapRequest { map, weight });
                Tee(
                    RankOnly::new(states, 0.99, RankParts::RanksAndLambdas),
                    Tee(
                        RankOnly::new(states, 0.9, RankParts::Ranks).backward(),
                        Tee(
                            LambdaWeighted::new(states, LambdaWeight::Proportional),
                            PassMaps::new(requests, Some(2)),
                        ),
                    ),
                )
            };
            let (mut of_maps, mut fused) = (probe(), OfQueriesAndKeys(probe()));
            let one = shown(tokens, Kind::Float, &bias()?, &mut of_maps)?;
            let two = shown(tokens, Kind::Float, &bias()?, &mut fused)?;
            for ((plain, one), two) in plain.iter().zip(&one).zip(&two) {
                assert!(difference(plain, one) < 1e-5);
                assert_eq!(plain, two);
            }
            let (
                Tee(ranks, Tee(backward, Tee(mean, averages))),
                Tee(other_ranks, Tee(other_backward, Tee(other_mean, other_averages))),
            ) = (of_maps, fused.0);
            let (ranks, other_ranks) = (ranks.finish()?, other_ranks.finish()?);
            assert!(difference(&ranks.ranks, &other_ranks.ranks) < 1e-5);
            let (lambdas, others) =
                (ranks.lambdas.expect("asked for"), other_ranks.lambdas.expect("asked for"));
            assert!(difference(&lambdas, &others) < 3e-4, "{}", difference(&lambdas, &others));
            assert!(difference(&backward.finish()?.ranks, &other_backward.finish()?.ranks) < 1e-5);
            assert!(difference(&mean.finish()?, &other_mean.finish()?) < 1e-4);
            let (averages, others) = (averages.finish()?, other_averages.finish()?);
            // There is no softmax over the queries of a hidden key.
            for (map, weight) in REQUESTS.into_iter().filter(|(map, _)| !hides || *map == MapKind::Plain) {
                let request = MapRequest { map, weight };
                let found = difference(averages.get(request)?, others.get(request)?);
                assert!(found < 1e-4, "{request:?}: {found}");
            }
            assert_eq!(averages.lambdas.len(), 2);
            for ((_, one), (_, two)) in averages.lambdas.iter().zip(&others.lambdas) {
                assert!(difference(one, two) < 3e-4);
            }
        }
    }
    Ok(())
}

/// Networks of 16 bits: λ₂ from queries and keys as they are.
#[test]
fn chains_of_16_bits_are_close() -> models::Result<()> {
    let probe = || RankOnly::new(ChainTokens::All, 0.99, RankParts::RanksAndLambdas);
    let (mut of_maps, mut fused) = (probe(), OfQueriesAndKeys(probe()));
    shown((10, 20), Kind::BFloat16, &KeyBias::none(), &mut of_maps)?;
    shown((10, 20), Kind::BFloat16, &KeyBias::none(), &mut fused)?;
    let (one, two) = (of_maps.finish()?, fused.0.finish()?);
    assert!(difference(&one.ranks, &two.ranks) < 1e-5);
    let found = difference(&one.lambdas.expect("asked for"), &two.lambdas.expect("asked for"));
    assert!(found < 3e-3, "{found}");
    Ok(())
}

/// Maps are there if another probe of the pass asks for them.
#[test]
fn maps_are_kept_for_those_who_want_them() -> models::Result<()> {
    struct Both(usize);
    impl AttentionProbe for Both {
        fn want(&mut self, _: &Site) -> Want {
            Want::CHAIN | Want::FUSED | Want::PROBS
        }
        fn see(&mut self, _: &Site, heads: Range<i64>, view: &View<'_>) -> models::Result<()> {
            assert!(matches!(view.chain()?, models::attend::ChainView::Maps { .. }));
            assert!(view.logits().is_err());
            self.0 += (heads.end - heads.start) as usize;
            view.probs().map(drop)
        }
    }
    let mut probe = Both(0);
    shown((2, 3), Kind::Float, &KeyBias::none(), &mut probe)?;
    assert_eq!(probe.0, 6);
    Ok(())
}

/// An overflow in the network is reported as that, with its layer and head.
#[test]
fn heads_that_are_not_finite_are_named() {
    let site = Site { stream: Stream::Vision, block: 4, step: 0, layout: TokenLayout::vision(1, (3, 3)) };
    let [q, k, v] = [0, 1, 2].map(|i| random(&[1, 3, 10, 8], i));
    let _ = q.get(0).get(2).get(5).fill_(f64::INFINITY);
    let message = |fused: bool| {
        let mut probe = RankOnly::new(ChainTokens::All, 0.99, RankParts::RanksAndLambdas);
        let bias = KeyBias::none();
        let result = if fused {
            attend(&q, &k, &v, &bias, &site, &mut OfQueriesAndKeys(probe))
        } else {
            attend(&q, &k, &v, &bias, &site, &mut probe)
        };
        result.expect_err("not finite").to_string()
    };
    assert_eq!(message(true), message(false));
    assert!(message(true).contains("finite"), "{}", message(true));
}
