//! The transformer of FLUX.1 (schnell, dev, Kontext) as diffusers' `FluxTransformer2DModel` stores it.
//!
//! Dual blocks come first: text and image tokens have separate weights and attend jointly. Single blocks follow, with
//! one stream for both. Text tokens come first in both kinds, so a probe sees the same [`TokenLayout`] in every block.
//! Kontext reads a reference image too. Its tokens follow those of the image and pass through the same weights.

mod blocks;
mod conditioning;
mod config;
mod input;
mod latents;
mod layers;
mod modulation;
pub mod pipeline;
mod rope;

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::attend::AttentionProbe;
use crate::error::Result;
use crate::finite::Output;
use crate::nn::Linear;
use crate::site::{Site, Stream, TokenKind, TokenLayout};
use crate::weights::Weights;
use blocks::{BlockInputs, ConceptInputs, DualBlock, SingleBlock};
use conditioning::Conditioning;
pub use config::FluxConfig;
pub use input::{FluxInput, Reference};
pub use latents::{pack_latents, unpack_latents};
pub use layers::FluxLayers;
use modulation::LastNorm;
use rope::Rotary;

/// A FLUX transformer on a device.
///
/// ```no_run
/// use models::attend::NoProbe;
/// use models::flux::{FluxInput, FluxTransformer};
/// # fn main() -> models::Result<()> {
/// let dir = std::path::Path::new("FLUX.1-schnell/transformer");
/// let network = FluxTransformer::load(dir, tch::Kind::BFloat16, tch::Device::Cuda(0))?;
/// # let random = |shape: &[i64]| tch::Tensor::randn(shape, (tch::Kind::Float, tch::Device::Cpu));
/// # let (latents, text, pooled) = (random(&[1, 1024, 64]), random(&[1, 256, 4096]), random(&[1, 768]));
/// let input = FluxInput {
///     latents: &latents,
///     grid: (32, 32),
///     reference: None,
///     text: &text,
///     pooled: &pooled,
///     concepts: None,
///     timestep: 0.5,
///     guidance: None,
///     step: 0,
/// };
/// let velocity = network.forward(&input, &mut NoProbe)?;
/// # Ok(()) }
/// ```
pub struct FluxTransformer {
    config: FluxConfig,
    x_embedder: Linear,
    context_embedder: Linear,
    time_text_embed: Conditioning,
    transformer_blocks: Vec<DualBlock>,
    single_transformer_blocks: Vec<SingleBlock>,
    norm_out: LastNorm,
    proj_out: Linear,
    kind: Kind,
    device: Device,
}

/// A pass between two blocks.
pub struct FluxState {
    /// `[batch, tokens, width]`: those of the text, the image and the reference image, if there is one.
    pub tokens: Tensor,
    /// Conditioning from timestep, guidance and pooled text, `[batch, width]`.
    pub conditioning: Tensor,
    rotary: Rotary,
    layout: TokenLayout,
    step: usize,
    concepts: Option<Concepts>,
}

/// Concept tokens, which exist until the last dual block.
struct Concepts {
    /// `[batch, concepts, width]`.
    tokens: Tensor,
    rotary: Rotary,
    layout: TokenLayout,
}

impl FluxState {
    /// Returns the layout of the tokens.
    pub fn layout(&self) -> &TokenLayout {
        &self.layout
    }
}

impl FluxTransformer {
    /// Reads a directory in diffusers' layout (`config.json` + `diffusion_pytorch_model*.safetensors`), the folder
    /// `transformer` of a pipeline, and checks that every tensor is used.
    ///
    /// # Errors
    /// A tensor is missing, superfluous or has a wrong shape, or the configuration belongs to another network.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        let config = FluxConfig::from_dir(dir)?;
        let weights = Weights::open(dir, kind, device)?;
        let network = Self::read(config, &weights)?;
        weights.finish()?;
        Ok(network)
    }

    /// Creates a network of this shape with random weights ([`Weights::drawn`]), for benchmarks.
    ///
    /// # Errors
    /// The configuration contradicts itself; libtorch fails.
    pub fn random(config: FluxConfig, kind: Kind, device: Device) -> Result<Self> {
        config.check()?;
        Self::read(config, &Weights::drawn(kind, device))
    }

    fn read(config: FluxConfig, weights: &Weights) -> Result<Self> {
        let width = config.width();
        let linear = |name: &str, from, to| Linear::load(&weights.pp(name), from, to, true);
        let (dual, single) = (weights.pp("transformer_blocks"), weights.pp("single_transformer_blocks"));
        Ok(Self {
            x_embedder: linear("x_embedder", config.in_channels, width)?,
            context_embedder: linear("context_embedder", config.joint_attention_dim, width)?,
            time_text_embed: Conditioning::load(&weights.pp("time_text_embed"), &config)?,
            transformer_blocks: (0..config.num_layers)
                .map(|i| DualBlock::load(&dual.pp(i), &config))
                .collect::<Result<_>>()?,
            single_transformer_blocks: (0..config.num_single_layers)
                .map(|i| SingleBlock::load(&single.pp(i), &config))
                .collect::<Result<_>>()?,
            norm_out: LastNorm::load(&weights.pp("norm_out"), width)?,
            proj_out: linear("proj_out", width, config.answer_channels())?,
            config,
            kind: weights.kind(),
            device: weights.device(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &FluxConfig {
        &self.config
    }

    /// The type that the network computes in.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The device of the network.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Returns the predicted velocity `[batch, rows·columns, channels]` (noise minus image), packed like the latents.
    ///
    /// # Errors
    /// An input of another shape, guidance that the network does not take or misses; libtorch or the probe fails; the
    /// velocity is not finite.
    pub fn forward(&self, input: &FluxInput<'_>, probe: &mut dyn AttentionProbe) -> Result<Tensor> {
        let pass = |probe: &mut dyn AttentionProbe| self.velocity(&self.run_blocks(input, None, probe)?);
        self.output("velocities of the FLUX transformer").of_pass(probe, pass, |velocity| velocity)
    }

    /// Runs the pass up to and including the block `last` of a stream, or through all blocks. For probes that read
    /// nothing after it.
    ///
    /// # Errors
    /// As [`FluxTransformer::forward`].
    pub(crate) fn forward_to(
        &self,
        input: &FluxInput<'_>,
        last: Option<(Stream, usize)>,
        probe: &mut dyn AttentionProbe,
    ) -> Result<FluxState> {
        let pass = |probe: &mut dyn AttentionProbe| self.run_blocks(input, last, probe);
        let state =
            self.output("tokens of the FLUX transformer").of_pass(probe, pass, |state| &state.tokens)?;
        if let Some(concepts) = &state.concepts {
            self.output("concept tokens of the FLUX transformer").prove(&concepts.tokens)?;
        }
        Ok(state)
    }

    fn output(&self, name: &'static str) -> Output {
        Output { name, kind: self.kind }
    }

    fn run_blocks(
        &self,
        input: &FluxInput<'_>,
        last: Option<(Stream, usize)>,
        probe: &mut dyn AttentionProbe,
    ) -> Result<FluxState> {
        let mut state = self.embed(input)?;
        for block in self.blocks() {
            let site = block.site(&state);
            block.forward(&mut state, probe)?;
            if Some((site.stream, site.block)) == last {
                break;
            }
        }
        Ok(state)
    }

    /// Embeds an input: returns the state before the first block.
    ///
    /// # Errors
    /// An input of another shape, guidance that the network does not take or misses; libtorch fails.
    pub fn embed(&self, input: &FluxInput<'_>) -> Result<FluxState> {
        let placed = input.place(&self.config, self.kind, self.device)?;
        let layout = input.layout()?;
        let rotary = |layout: &TokenLayout| {
            Rotary::new(&rope::positions(layout)?, &self.config.axes_dims_rope, self.device)
        };
        let concepts = match &placed.concepts {
            None => None,
            Some(concepts) => {
                let layout = TokenLayout { text: concepts.size()[1], ..layout.clone() };
                let tokens = self.context_embedder.forward(concepts)?;
                Some(Concepts { tokens, rotary: rotary(&layout)?, layout })
            }
        };
        let text = self.context_embedder.forward(&placed.text)?;
        let image = self.x_embedder.forward(&placed.latents)?;
        Ok(FluxState {
            tokens: Tensor::f_cat(&[text, image], 1)?,
            conditioning: self.time_text_embed.forward(input.timestep, input.guidance, &placed.pooled)?,
            rotary: rotary(&layout)?,
            layout,
            step: input.step,
            concepts,
        })
    }

    /// Returns all blocks in execution order, for passes that inspect the state between them or end early.
    pub fn blocks(&self) -> impl Iterator<Item = FluxBlock<'_>> {
        let dual = self.transformer_blocks.iter().map(Layer::Dual).enumerate();
        let single = self.single_transformer_blocks.iter().map(Layer::Single).enumerate();
        dual.chain(single).map(|(number, layer)| FluxBlock { number, layer })
    }

    /// Returns the predicted velocity `[batch, rows·columns, channels]` of the image from the state after the last block.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn velocity(&self, state: &FluxState) -> Result<Tensor> {
        let (text, image) = (state.layout.count(TokenKind::Text), state.layout.count(TokenKind::Image));
        let tokens = state.tokens.f_narrow(1, text, image)?;
        self.proj_out.forward(&self.norm_out.forward(&tokens, &state.conditioning)?)
    }
}

enum Layer<'a> {
    Dual(&'a DualBlock),
    Single(&'a SingleBlock),
}

/// One block of a network.
pub struct FluxBlock<'a> {
    number: usize,
    layer: Layer<'a>,
}

impl FluxBlock<'_> {
    /// Returns the site of the block in a pass.
    pub fn site(&self, state: &FluxState) -> Site {
        let stream = match self.layer {
            Layer::Dual(_) => Stream::Dual,
            Layer::Single(_) => Stream::Single,
        };
        Site { stream, block: self.number, step: state.step, layout: state.layout.clone() }
    }

    /// Runs the block over the state's tokens.
    ///
    /// # Errors
    /// libtorch or the probe fails.
    pub fn forward(&self, state: &mut FluxState, probe: &mut dyn AttentionProbe) -> Result<()> {
        let site = self.site(state);
        let inputs = BlockInputs { conditioning: &state.conditioning, rotary: &state.rotary, site: &site };
        match self.layer {
            Layer::Dual(block) => {
                let concept_site = state.concepts.as_ref().map(|concepts| Site {
                    stream: Stream::Concept,
                    layout: concepts.layout.clone(),
                    ..site.clone()
                });
                let concepts = state.concepts.as_ref().zip(concept_site.as_ref()).map(|(concepts, site)| {
                    (&concepts.tokens, ConceptInputs { rotary: &concepts.rotary, site })
                });
                let concepts = concepts.as_ref().map(|(tokens, inputs)| (*tokens, inputs));
                let (tokens, concepts) = block.forward(&state.tokens, &inputs, concepts, probe)?;
                state.tokens = tokens;
                if let Some((state, tokens)) = state.concepts.as_mut().zip(concepts) {
                    state.tokens = tokens;
                }
            }
            Layer::Single(block) => state.tokens = block.forward(&state.tokens, &inputs, probe)?,
        }
        Ok(())
    }
}
