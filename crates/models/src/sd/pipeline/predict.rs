//! Stable Diffusion as experiments see it.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::{Component, SdPipeline};
use crate::attend::AttentionProbe;
use crate::diffusion::{SamplerConfig, SamplerKind};
use crate::error::Result;
use crate::pipeline::{ImageDecoder, ImageEncoder, NoiseInput, NoisePipeline, NoisePredictor};
use crate::sd::Unet;
use crate::site::{Stream, UnetLayer};

impl NoisePredictor for Unet {
    fn kind(&self) -> Kind {
        self.kind()
    }

    fn device(&self) -> Device {
        self.device()
    }

    fn predict(&self, input: &NoiseInput<'_>, probe: &mut dyn AttentionProbe) -> Result<Tensor> {
        let &NoiseInput { latents, timestep, text, step, perturbation } = input;
        match perturbation {
            Some(change) => self.perturbed(latents, timestep, text, step, change, probe),
            None => self.forward(latents, timestep, text, step, probe),
        }
    }

    fn watch(&self, input: &NoiseInput<'_>, probe: &mut dyn AttentionProbe) -> Result<()> {
        let &NoiseInput { latents, timestep, text, step, .. } = input;
        self.watch(latents, timestep, text, step, probe)
    }
}

impl NoisePipeline for SdPipeline {
    fn default_size(&self) -> (i64, i64) {
        self.default_size()
    }

    fn latent_shape(&self, size: (i64, i64)) -> Result<[i64; 3]> {
        self.latent_shape(size)
    }

    fn streams(&self) -> BTreeMap<Stream, usize> {
        let layers = self.unet_config().attention_layers();
        layers.into_iter().map(|(_, layer)| (Stream::Unet(layer), 1)).collect()
    }

    fn grid(&self, layer: UnetLayer, latents: (i64, i64)) -> (i64, i64) {
        self.unet_config().grid(layer, latents)
    }

    fn sampler(&self, kind: Option<SamplerKind>) -> Result<SamplerConfig> {
        SamplerConfig::from_dir(&self.scheduler_dir(), kind)
    }

    fn encode_texts(&self, texts: &[String]) -> Result<Vec<Tensor>> {
        self.encode_texts(texts)
    }

    fn network(&self) -> Result<Box<dyn NoisePredictor>> {
        Ok(Box::new(self.unet()?))
    }

    fn image_encoder(&self) -> Result<ImageEncoder> {
        self.image_encoder()
    }

    fn image_decoder(&self) -> Result<ImageDecoder> {
        self.parts.load(Component::Vae, ImageDecoder::load)
    }
}
