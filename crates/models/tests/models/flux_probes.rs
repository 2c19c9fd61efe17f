//! Reductions of FLUX's attention against reductions of whole maps; also checks that no more maps than allowed are in
//! memory.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

use models::attend::{AttentionProbe, NoProbe, View, Want};
use models::flux::{FluxInput, FluxTransformer};
use models::probe::{
    ConceptScale, ConceptScores, HeadWeight, KeepAll, KeptLayer, LambdaWeight, MapKind, MapRequest, PassMaps,
    Rollout, Select, Tee, WeightScope,
};
use models::{Device, Kind, Site, Stream, TokenKind};
use tch::Tensor;

const GRID: (i64, i64) = (3, 3);
const TEXT: i64 = 5;
const IMAGE: i64 = 9;

fn network() -> models::Result<FluxTransformer> {
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/flux-schnell");
    FluxTransformer::load(&dir, Kind::Float, Device::Cpu)
}

/// Inputs of two images, sharpened so that heads differ.
struct Inputs {
    latents: Tensor,
    text: Tensor,
    pooled: Tensor,
}

impl Inputs {
    fn draw(seed: i64) -> Self {
        tch::manual_seed(seed);
        let draw = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 3.0;
        Self { latents: draw(&[2, IMAGE, 8]), text: draw(&[2, TEXT, 10]), pooled: draw(&[2, 8]) }
    }

    fn borrow<'a>(&'a self, concepts: Option<&'a Tensor>) -> FluxInput<'a> {
        let Self { latents, text, pooled } = self;
        FluxInput {
            latents,
            grid: GRID,
            reference: None,
            text,
            pooled,
            concepts,
            timestep: 0.5,
            guidance: None,
            step: 2,
        }
    }
}

fn assert_near(ours: &Tensor, wanted: &Tensor, what: &str) {
    assert_eq!(ours.size(), wanted.size(), "{what}");
    let difference = (ours - wanted).abs().max().double_value(&[]);
    assert!(
        difference < 1e-5 * wanted.abs().max().double_value(&[]).max(1.0),
        "{what} differs by {difference:e}"
    );
}

/// Whole maps of a pass.
fn layers(inputs: &Inputs) -> models::Result<Vec<KeptLayer>> {
    let mut probe = KeepAll::default();
    let _ = network()?.forward(&inputs.borrow(None), &mut probe)?;
    probe.finish()
}

#[test]
fn concepts_attend_like_text_and_do_not_change_the_output() -> models::Result<()> {
    let (network, inputs) = (network()?, Inputs::draw(1));
    let without = network.forward(&inputs.borrow(None), &mut NoProbe)?;
    let mut probe = KeepAll::default();
    // The whole prompt as concepts: they attend to each other and to the image, as the prompt itself does.
    let with = network.forward(&inputs.borrow(Some(&inputs.text)), &mut probe)?;
    assert_near(&with, &without, "the velocity");

    let layers = probe.finish()?;
    let of = |stream| layers.iter().filter(move |layer| layer.site.stream == stream);
    assert_eq!(
        (of(Stream::Dual).count(), of(Stream::Concept).count(), of(Stream::Single).count()),
        (2, 2, 2)
    );
    for (dual, concept) in of(Stream::Dual).zip(of(Stream::Concept)) {
        assert_eq!(dual.site.block, concept.site.block);
        assert_near(&concept.probs, &dual.probs.narrow(2, 0, TEXT), &concept.site.to_string());
    }
    Ok(())
}

/// Keeps attention outputs, `[batch, heads, n, head dim]`.
#[derive(Default)]
struct Outputs(Vec<(Site, Tensor)>);

impl AttentionProbe for Outputs {
    fn want(&mut self, _: &Site) -> Want {
        Want::OUTPUT
    }

    fn see(&mut self, site: &Site, _: Range<i64>, view: &View<'_>) -> models::Result<()> {
        self.0.push((site.clone(), view.output()?.shallow_clone()));
        Ok(())
    }
}

#[test]
fn concept_scores_are_products_of_outputs() -> models::Result<()> {
    let (network, inputs) = (network()?, Inputs::draw(2));
    let concepts = Inputs::draw(3).text.narrow(1, 0, 3);
    let mut outputs = Outputs::default();
    let _ = network.forward(&inputs.borrow(Some(&concepts)), &mut outputs)?;
    let flat = |x: &Tensor| x.transpose(1, 2).flatten(2, 3);
    for scale in [ConceptScale::Softmax, ConceptScale::Products] {
        let mut wanted = Tensor::zeros([2, 3, IMAGE], (Kind::Float, Device::Cpu));
        for pair in
            outputs.0.iter().filter(|(site, _)| site.stream != Stream::Single).collect::<Vec<_>>().chunks(2)
        {
            let [(dual, joint), (beside, concept)] = pair else { panic!("blocks without concepts") };
            assert_eq!(
                (dual.stream, beside.stream, dual.block),
                (Stream::Dual, Stream::Concept, beside.block)
            );
            let product = flat(concept).matmul(&flat(joint).narrow(1, TEXT, IMAGE).transpose(1, 2));
            wanted += match scale {
                ConceptScale::Softmax => product.softmax(1, Kind::Float),
                ConceptScale::Products => product,
            } / 2.0;
        }
        // Together with a probe that limits the heads per call.
        let parts = PassMaps::new([MapRequest::default()], Some(1));
        let mut probe = Tee(ConceptScores::new(scale), Select::of_streams(joint(), parts));
        let _ = network.forward(&inputs.borrow(Some(&concepts)), &mut probe)?;
        assert_near(&probe.0.finish()?, &wanted, "concept scores");
    }
    Ok(())
}

/// Every block of both streams, without the concepts.
fn joint() -> BTreeMap<Stream, std::collections::BTreeSet<usize>> {
    BTreeMap::from([(Stream::Dual, [0, 1].into()), (Stream::Single, [0, 1].into())])
}

#[test]
fn averages_are_those_of_whole_maps() -> models::Result<()> {
    let inputs = [Inputs::draw(4), Inputs::draw(5)];
    let network = network()?;
    let layers: Vec<KeptLayer> =
        inputs.iter().map(layers).collect::<models::Result<Vec<_>>>()?.into_iter().flatten().collect();
    let two = NonZeroUsize::new(2).expect("not zero");
    let weights = [
        HeadWeight::Equal,
        HeadWeight::Lambda(LambdaWeight::Proportional, WeightScope::PerBlock),
        HeadWeight::Lambda(LambdaWeight::Squared, WeightScope::Global),
        HeadWeight::Top(two, WeightScope::Global),
        HeadWeight::Top(two, WeightScope::PerBlock),
    ];
    let requests: Vec<MapRequest> = [MapKind::Plain, MapKind::Pretty]
        .into_iter()
        .flat_map(|map| weights.map(|weight| MapRequest { map, weight }))
        .collect();
    for heads_at_once in [None, Some(1)] {
        let mut probe = PassMaps::new(requests.clone(), heads_at_once);
        for inputs in &inputs {
            let _ = network.forward(&inputs.borrow(None), &mut probe)?;
        }
        let averages = probe.finish()?;
        assert_eq!(averages.lambdas.len(), 8);
        for &request in &requests {
            let wanted = average(&layers, request)?;
            assert_near(averages.get(request)?, &wanted, &format!("{request:?}"));
            let rows = averages.get(request)?.sum_dim_intlist(-1i64, false, Kind::Double);
            assert!((rows - 1.0).abs().max().double_value(&[]) < 1e-5, "{request:?}");
        }
        assert!(
            averages
                .get(MapRequest {
                    weight: HeadWeight::Top(NonZeroUsize::MIN, WeightScope::Global),
                    ..requests[0]
                })
                .is_err()
        );
    }
    Ok(())
}

/// The average of whole maps, straight from its definition: dense eigenvalues, one image after the other.
fn average(layers: &[KeptLayer], request: MapRequest) -> models::Result<Tensor> {
    let image = |image: i64| {
        let mut blocks = Vec::new();
        for layer in layers {
            let mut heads = Vec::new();
            for head in 0..layer.probs.size()[1] {
                let probs = layer.probs.get(image).get(head);
                let moduli = probs.to_kind(Kind::Double).linalg_eigvals().abs();
                let lambda = moduli.sort(0, true).0.double_value(&[1]);
                let map = match request.map {
                    MapKind::Plain => probs,
                    MapKind::Pretty => layer.logits.get(image).get(head).softmax(0, Kind::Float),
                };
                heads.push((lambda, map));
            }
            blocks.push(heads);
        }
        let mean = |mut heads: Vec<(f64, Tensor)>| {
            if let HeadWeight::Top(count, _) = request.weight {
                heads.sort_by(|a, b| b.0.total_cmp(&a.0));
                heads.truncate(count.get());
            }
            let weight = |lambda: f64| match request.weight {
                HeadWeight::Equal | HeadWeight::Top(..) => 1.0,
                HeadWeight::Lambda(LambdaWeight::Proportional, _) => lambda,
                HeadWeight::Lambda(LambdaWeight::Squared, _) => lambda * lambda,
            };
            let total: f64 = heads.iter().map(|(lambda, _)| weight(*lambda)).sum();
            heads
                .iter()
                .fold(Tensor::from(0.0f32), |sum, (lambda, map)| sum + map * (weight(*lambda) / total))
        };
        let scope = match request.weight {
            HeadWeight::Lambda(_, scope) | HeadWeight::Top(_, scope) => scope,
            HeadWeight::Equal => WeightScope::Global,
        };
        let mean = match scope {
            WeightScope::Global => mean(blocks.into_iter().flatten().collect()),
            WeightScope::PerBlock => {
                let count = blocks.len() as f64;
                blocks.into_iter().map(mean).fold(Tensor::from(0.0f32), |sum, map| sum + map / count)
            }
        };
        &mean / mean.sum_dim_intlist(-1i64, true, Kind::Float)
    };
    Ok(Tensor::stack(&[image(0), image(1)], 0))
}

#[test]
fn rollout_is_the_product_of_layers() -> models::Result<()> {
    let inputs = Inputs::draw(6);
    let n = TEXT + IMAGE;
    let mut wanted = Tensor::eye(n, (Kind::Float, Device::Cpu)).unsqueeze(0);
    for layer in layers(&inputs)? {
        let mean = layer.probs.mean_dim(1i64, false, Kind::Float);
        wanted = ((mean + Tensor::eye(n, (Kind::Float, Device::Cpu))) / 2.0).matmul(&wanted);
    }
    let mut probe = Tee(Rollout::default(), PassMaps::new([MapRequest::default()], Some(1)));
    let _ = network()?.forward(&inputs.borrow(None), &mut probe)?;
    assert_near(&probe.0.finish()?, &wanted, "rollout");
    Ok(())
}

/// Counts the heads that are shown at once.
#[derive(Default)]
struct Counting {
    limit: Option<i64>,
    most: i64,
    seen: i64,
}

impl AttentionProbe for Counting {
    fn want(&mut self, _: &Site) -> Want {
        Want::PROBS | Want::LOGITS
    }

    fn heads_at_once(&self) -> Option<i64> {
        self.limit
    }

    fn see(&mut self, _: &Site, heads: Range<i64>, view: &View<'_>) -> models::Result<()> {
        assert_eq!(view.probs()?.size()[1], heads.end - heads.start);
        self.most = self.most.max(heads.end - heads.start);
        self.seen += heads.end - heads.start;
        Ok(())
    }
}

#[test]
fn no_more_heads_are_in_memory_than_allowed() -> models::Result<()> {
    let (network, inputs) = (network()?, Inputs::draw(7));
    for (limit, most) in [(None, 2), (Some(1), 1), (Some(2), 2), (Some(99), 2)] {
        let mut probe = Counting { limit, ..Counting::default() };
        let _ = network.forward(&inputs.borrow(None), &mut probe)?;
        assert_eq!((probe.most, probe.seen), (most, 8), "{limit:?}");
    }
    // The strictest limit of several probes counts, in every combination of probes.
    let strict = || Counting { limit: Some(1), ..Counting::default() };
    let mut probe = Select::of_streams(joint(), vec![Tee(Counting::default(), Some(strict()))]);
    let _ = network.forward(&inputs.borrow(None), &mut probe)?;
    assert_eq!((probe.inner[0].0.most, probe.inner[0].0.seen), (1, 8));
    assert!(layers(&inputs)?.iter().all(|layer| layer.site.layout.count(TokenKind::Image) == IMAGE));
    Ok(())
}
