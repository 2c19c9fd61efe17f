//! One look at an image: it is noised as far as a step of a schedule says and passed through the transformer once,
//! beside a prompt. Without an image the pipeline first makes one of the prompt.

use std::collections::{BTreeMap, BTreeSet};

use tch::Tensor;

use super::pass::packed;
use super::{Denoising, Draw, EncodedText, FluxPipeline};
use crate::attend::{AttentionProbe, NoProbe};
use crate::error::{Error, Result};
use crate::flow_match::{Schedule, add_noise};
use crate::flux::{FluxInput, FluxTransformer, unpack_latents};
use crate::image::{Resample, Rgb8, resize};
use crate::noise;
use crate::pipeline::{pixels, rgb};
use crate::site::{Stream, TokenLayout};
use crate::t5;

/// Side of an image in pixels where none is given and the pipeline was made for no smaller one.
const USUAL_SIDE: i64 = 512;
/// Tokens of a prompt where none are given and the tokenizer makes as many.
const USUAL_TEXT: usize = 256;

/// What is looked at, and through how much noise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOptions {
    /// The text beside the image.
    pub prompt: String,
    /// T5 tokens of it, padding included; by default as many as the tokenizer makes at most, up to 256.
    pub text_tokens: Option<usize>,
    /// Side in pixels to which the image is brought, whatever its proportions, or in which it is made; by default 512,
    /// or the autoencoder's `sample_size` where that is smaller.
    pub image_size: Option<usize>,
    /// Steps of the schedule, in which an image is also made where there is none.
    pub steps: usize,
    /// The step before which the image has the noise that is put on it, counted from 0.
    pub step: usize,
    /// Seed of the noise. An image that is made begins with the same noise, so a look at it goes back some of its way.
    pub seed: u64,
}

/// A [`CaptureOptions`] that fits its pipeline.
pub struct CapturePlan<'a> {
    pipeline: &'a FluxPipeline,
    options: &'a CaptureOptions,
    side: i64,
    text_tokens: usize,
    schedule: Schedule,
}

/// Everything the pass reads, and the transformer.
pub struct PreparedCapture<'a> {
    plan: CapturePlan<'a>,
    /// What is looked at, as the pipeline saw or made it.
    pub image: Rgb8,
    /// The same from -1 to 1, `[3, side, side]` float32 on the CPU.
    pub pixels: Tensor,
    /// The prompt.
    pub text: EncodedText,
    /// Latents of the image with noise on them, `[channels, h, w]` on the transformer's device in its type.
    pub noised: Tensor,
    transformer: FluxTransformer,
}

impl CaptureOptions {
    /// Checks everything that can be checked without a network.
    ///
    /// # Errors
    /// A size, a number of tokens or a step that the pipeline does not have.
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
        Ok(CapturePlan { pipeline, options: self, side, text_tokens, schedule })
    }
}

impl<'a> CapturePlan<'a> {
    /// T5's tokenizer for this many tokens.
    ///
    /// # Errors
    /// Its files are no longer there.
    pub fn tokenizer(&self) -> Result<t5::Tokenizer> {
        self.pipeline.t5_tokenizer(self.text_tokens)
    }

    /// What the tokens of the pass are.
    ///
    /// # Errors
    /// None that [`CaptureOptions::plan`] has not found.
    pub fn layout(&self) -> Result<TokenLayout> {
        Ok(TokenLayout::joint(self.text_tokens as i64, self.pipeline.grid((self.side, self.side))?))
    }

    /// What is looked at.
    pub fn options(&self) -> &'a CaptureOptions {
        self.options
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &'a FluxPipeline {
        self.pipeline
    }

    /// Share of noise in the latents, from 0 to 1.
    ///
    /// # Errors
    /// None that [`CaptureOptions::plan`] has not found.
    pub fn sigma(&self) -> Result<f32> {
        self.schedule.sigma(self.options.step)
    }

    /// Makes everything ready to look at `image`, or at one that the pipeline makes of the prompt. Text encoders have
    /// left when the transformer is loaded; the autoencoder comes and goes beside it where an image is made.
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
            Ok((pixels, Tensor::f_stack(&latents, 0)?.f_squeeze_dim(0)?))
        };
        let (image, (pixels, latents), transformer) = match image {
            Some(image) => {
                let image = resize(image, (side as usize, side as usize), Resample::Bicubic)?;
                let encoded = encode(&image)?;
                (image, encoded, pipeline.transformer()?)
            }
            None => {
                let transformer = pipeline.transformer()?;
                let (schedule, text) = (&self.schedule, &text);
                let run = Denoising { transformer: &transformer, schedule, text, guidance: None };
                let latents = run.denoise(0, &noise, &mut NoProbe)?;
                let image = rgb(&pipeline.decode(&latents.f_unsqueeze(0)?)?.f_squeeze_dim(0)?)?;
                let encoded = encode(&image)?;
                (image, encoded, transformer)
            }
        };
        let latents = latents.f_to_device(transformer.device())?.f_to_kind(transformer.kind())?;
        let noised = add_noise(&latents, &noise, self.schedule.sigma(options.step)?)?;
        Ok(PreparedCapture { plan: self, image, pixels, text, noised, transformer })
    }
}

impl<'a> PreparedCapture<'a> {
    /// What was planned.
    pub fn plan(&self) -> &CapturePlan<'a> {
        &self.plan
    }

    /// The transformer.
    pub fn transformer(&self) -> &FluxTransformer {
        &self.transformer
    }

    /// The whole pass: the predicted velocity `[channels, h, w]`, on the transformer's device.
    ///
    /// # Errors
    /// libtorch or the probe fails.
    pub fn velocity(&self, probe: &mut dyn AttentionProbe) -> Result<Tensor> {
        self.pass(|input| {
            Ok(unpack_latents(&self.transformer.forward(input, probe)?, input.grid)?.f_squeeze_dim(0)?)
        })
    }

    /// The pass as far as the last of the given blocks: what a probe needs that watches them alone.
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
        run(&FluxInput {
            latents: &latents,
            grid,
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
    /// The largest side, in pixels, that is no larger than 512 and than what the autoencoder was made for.
    fn usual_side(&self) -> i64 {
        let token = self.pixels_per_token();
        let side = self.vae_config().sample_size.map_or(USUAL_SIDE, |side| side.min(USUAL_SIDE));
        (side / token).max(1) * token
    }
}
