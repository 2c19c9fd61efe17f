//! Captures one pass: adds noise of one step of a schedule to an image and passes it through the transformer together
//! with a prompt. Without an image, the pipeline first generates one from the prompt. FLUX.1 Kontext also reads a
//! reference image, which gets no noise.

use std::collections::{BTreeMap, BTreeSet};

use tch::Tensor;

use super::pass::packed;
use super::reference::{PlannedReference, PreparedReference, ReferenceSize};
use super::{Denoising, Draw, EncodedText, FluxPipeline};
use crate::attend::{AttentionProbe, NoProbe};
use crate::error::{Error, Result};
use crate::flow_match::{Schedule, add_noise};
use crate::flux::{FluxInput, FluxTransformer, Reference, unpack_latents};
use crate::image::{Resample, Rgb8, resize};
use crate::noise;
use crate::pipeline::{pixels, rgb};
use crate::site::{Stream, TokenLayout};
use crate::t5;

/// Default side of an image in pixels, unless the pipeline was made for smaller ones.
const USUAL_SIDE: i64 = 512;
/// Default number of tokens of a prompt, if the tokenizer supports it.
const USUAL_TEXT: usize = 256;

/// Options of a capture: the prompt, the image size and the noise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOptions {
    /// The prompt.
    pub prompt: String,
    /// Number of T5 tokens of the prompt, padding included. By default the tokenizer's maximum, but at most 256.
    pub text_tokens: Option<usize>,
    /// Side in pixels to which the image is resized, whatever its proportions, or with which it is generated. By
    /// default 512, or the autoencoder's `sample_size` if that is smaller.
    pub image_size: Option<usize>,
    /// Number of steps of the schedule. It is also used for generating an image.
    pub steps: usize,
    /// Step of the schedule, counted from 0: the image gets the noise level before this step.
    pub step: usize,
    /// Seed of the noise. The generation of an image starts from the same noise.
    pub seed: u64,
}

/// A [`CaptureOptions`] that was checked against its pipeline.
pub struct CapturePlan<'a> {
    pipeline: &'a FluxPipeline,
    options: &'a CaptureOptions,
    side: i64,
    text_tokens: usize,
    schedule: Schedule,
    reference: Option<PlannedReference>,
}

/// The inputs of the pass, and the loaded transformer.
pub struct PreparedCapture<'a> {
    plan: CapturePlan<'a>,
    /// The image as resized or generated.
    pub image: Rgb8,
    /// The image as samples from -1 to 1, `[3, side, side]` float32 on the CPU.
    pub pixels: Tensor,
    /// The prompt.
    pub text: EncodedText,
    /// Latents of the image with noise, `[channels, h, w]` on the transformer's device in its type.
    pub noised: Tensor,
    /// The reference image, if the plan has one.
    pub reference: Option<PreparedReference>,
    transformer: FluxTransformer,
}

impl CaptureOptions {
    /// Checks everything that can be checked without loading a network.
    ///
    /// # Errors
    /// The pipeline does not support the size, the number of tokens or the step.
    pub fn plan<'a>(&'a self, pipeline: &'a FluxPipeline) -> Result<CapturePlan<'a>> {
        let side = match self.image_size {
            Some(side) => side as i64,
            None => pipeline.usual_side(),
        };
        let most = pipeline.most_text_tokens();
        let text_tokens = self.text_tokens.unwrap_or(most.min(USUAL_TEXT));
        if !(2..=most).contains(&text_tokens) {
            let reason = format!("{text_tokens}; this pipeline's prompts have 2 to {most} tokens");
            return Err(Error::Input { input: "text tokens", reason });
        }
        let schedule = pipeline.schedule(self.steps, (side, side))?;
        schedule.sigma(self.step)?;
        Ok(CapturePlan { pipeline, options: self, side, text_tokens, schedule, reference: None })
    }
}

impl<'a> CapturePlan<'a> {
    /// Adds a reference image, which is resized as `size` says.
    ///
    /// # Errors
    /// The pipeline is not FLUX.1 Kontext, or it does not support the size.
    pub fn with_reference(self, image: &Rgb8, size: ReferenceSize) -> Result<Self> {
        let reference = PlannedReference::new(self.pipeline, image, size)?;
        Ok(Self { reference: Some(reference), ..self })
    }

    /// Returns the way in which the size of the reference image was chosen, and `(height, width)` in pixels; `None` if
    /// there is no reference image.
    pub fn reference_size(&self) -> Option<(ReferenceSize, (usize, usize))> {
        let PlannedReference { image, size, .. } = self.reference.as_ref()?;
        Some((*size, (image.height, image.width)))
    }

    /// Returns T5's tokenizer for the planned number of tokens.
    ///
    /// # Errors
    /// Its files have been removed.
    pub fn tokenizer(&self) -> Result<t5::Tokenizer> {
        self.pipeline.t5_tokenizer(self.text_tokens)
    }

    /// Returns the layout of the tokens of the pass.
    ///
    /// # Errors
    /// Only errors that [`CaptureOptions::plan`] would have returned.
    pub fn layout(&self) -> Result<TokenLayout> {
        let layout = TokenLayout::joint(self.text_tokens as i64, self.pipeline.grid((self.side, self.side))?);
        Ok(match &self.reference {
            Some(reference) => layout.with_reference(reference.grid),
            None => layout,
        })
    }

    /// The options.
    pub fn options(&self) -> &'a CaptureOptions {
        self.options
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &'a FluxPipeline {
        self.pipeline
    }

    /// Returns the fraction of noise in the latents, from 0 to 1.
    ///
    /// # Errors
    /// Only errors that [`CaptureOptions::plan`] would have returned.
    pub fn sigma(&self) -> Result<f32> {
        self.schedule.sigma(self.options.step)
    }

    /// Prepares the pass for `image`, or for an image that the pipeline generates from the prompt. Text encoders are
    /// unloaded before the transformer is loaded. For a generated image, the autoencoder is loaded and unloaded while
    /// the transformer is in memory.
    ///
    /// # Errors
    /// A network cannot be loaded; libtorch fails.
    pub fn prepare(self, image: Option<&Rgb8>) -> Result<PreparedCapture<'a>> {
        let Self { pipeline, options, side, .. } = self;
        let noise = noise::normal(&pipeline.latent_shape((side, side))?, options.seed)?;
        let text = pipeline.encode_texts(std::slice::from_ref(&options.prompt), self.text_tokens)?;
        let text = text.into_iter().next().ok_or_else(|| Error::Text {
            text: options.prompt.clone(),
            reason: "it was not encoded".into(),
        })?;
        let encode = |image: &Rgb8| -> Result<(Tensor, Tensor)> {
            let pixels = pixels(image)?;
            let latents = pipeline.encode_images([Ok::<_, Error>(pixels.f_unsqueeze(0)?)], Draw::Mode)?;
            let latents = latents.into_iter().collect::<Result<Vec<_>, _>>()?;
            Ok((pixels, Tensor::f_stack(&latents, 0)?.f_squeeze_dim(0)?))
        };
        let reference = self.reference.as_ref().map(|reference| encode(&reference.image)).transpose()?;
        let (image, (pixels, latents), transformer) = match image {
            Some(image) => {
                let image = resize(image, (side as usize, side as usize), Resample::Bicubic)?;
                let encoded = encode(&image)?;
                (image, encoded, pipeline.transformer()?)
            }
            None => {
                let transformer = pipeline.transformer()?;
                let (schedule, text) = (&self.schedule, &text);
                let reference = reference.as_ref().map(|(_, latents)| latents);
                let run = Denoising { transformer: &transformer, schedule, text, reference, guidance: None };
                let latents = run.denoise(0, &noise, &mut NoProbe)?;
                let image = rgb(&pipeline.decode(&latents.f_unsqueeze(0)?)?.f_squeeze_dim(0)?)?;
                let encoded = encode(&image)?;
                (image, encoded, transformer)
            }
        };
        let place = |latents: Tensor| -> Result<Tensor> {
            Ok(latents.f_to_device(transformer.device())?.f_to_kind(transformer.kind())?)
        };
        let noised = add_noise(&place(latents)?, &noise, self.schedule.sigma(options.step)?)?;
        let reference = match self.reference.as_ref().zip(reference) {
            Some((planned, (pixels, latents))) => {
                Some(PreparedReference { image: planned.image.clone(), pixels, latents: place(latents)? })
            }
            None => None,
        };
        Ok(PreparedCapture { plan: self, image, pixels, text, noised, reference, transformer })
    }
}

impl<'a> PreparedCapture<'a> {
    /// The plan.
    pub fn plan(&self) -> &CapturePlan<'a> {
        &self.plan
    }

    /// The transformer.
    pub fn transformer(&self) -> &FluxTransformer {
        &self.transformer
    }

    /// Runs the whole pass and returns the predicted velocity `[channels, h, w]`, on the transformer's device.
    ///
    /// # Errors
    /// libtorch or the probe fails.
    pub fn velocity(&self, probe: &mut dyn AttentionProbe) -> Result<Tensor> {
        self.pass(|input| {
            Ok(unpack_latents(&self.transformer.forward(input, probe)?, input.grid)?.f_squeeze_dim(0)?)
        })
    }

    /// Runs the pass up to the last of the given blocks, for a probe that reads only these.
    ///
    /// # Errors
    /// libtorch or the probe fails.
    pub fn watch(
        &self,
        blocks: &BTreeMap<Stream, BTreeSet<usize>>,
        probe: &mut dyn AttentionProbe,
    ) -> Result<()> {
        let last =
            blocks.iter().flat_map(|(stream, blocks)| blocks.iter().map(move |block| (*stream, *block)));
        let last = last.max();
        self.pass(|input| self.transformer.forward_to(input, last, probe).map(drop))
    }

    fn pass<R>(&self, run: impl FnOnce(&FluxInput<'_>) -> Result<R>) -> Result<R> {
        let Self { plan, text, transformer, .. } = self;
        let (latents, grid) = packed(&self.noised)?;
        let reference = self.reference.as_ref().map(|reference| packed(&reference.latents)).transpose()?;
        run(&FluxInput {
            latents: &latents,
            grid,
            reference: reference.as_ref().map(|(latents, grid)| Reference { latents, grid: *grid }),
            text: &text.text.f_unsqueeze(0)?,
            pooled: &text.pooled.f_unsqueeze(0)?,
            concepts: None,
            timestep: plan.schedule.noise_level(plan.options.step, transformer.kind())?,
            guidance: transformer.config().usual_guidance(),
            step: plan.options.step,
        })
    }
}

impl FluxPipeline {
    /// Returns the largest supported side in pixels that exceeds neither 512 nor the autoencoder's `sample_size`.
    fn usual_side(&self) -> i64 {
        let token = self.pixels_per_token();
        let side = self.vae_config().sample_size.map_or(USUAL_SIDE, |side| side.min(USUAL_SIDE));
        (side / token).max(1) * token
    }
}
