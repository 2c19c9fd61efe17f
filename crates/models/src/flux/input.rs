//! The input of a pass.

use tch::{Device, Kind, Tensor};

use super::config::FluxConfig;
use crate::error::{Error, Result};
use crate::site::TokenLayout;

/// The input of one pass. Tensors may have any float type and be on any device; the network converts them.
#[derive(Debug, Clone, Copy)]
pub struct FluxInput<'a> {
    /// Noised latents, packed: `[batch, rows·columns, in_channels]` (see [`super::pack_latents`]).
    pub latents: &'a Tensor,
    /// Rows and columns of the packed latents.
    pub grid: (i64, i64),
    /// A reference image, as FLUX.1 Kontext reads it.
    pub reference: Option<Reference<'a>>,
    /// The prompt's embedding by T5, `[batch, tokens, joint_attention_dim]`.
    pub text: &'a Tensor,
    /// The prompt's pooled embedding by CLIP, `[batch, pooled_projection_dim]`.
    pub pooled: &'a Tensor,
    /// T5 embeddings of concept tokens that pass through the dual blocks together with the prompt, `[batch, concepts,
    /// joint_attention_dim]`: they attend to each other and to the image, and nothing attends to them
    /// (ConceptAttention, arXiv 2502.04320). A probe sees their attention as
    /// [`Stream::Concept`](crate::Stream::Concept).
    pub concepts: Option<&'a Tensor>,
    /// Noise level of the latents, from 0 (image) to 1 (noise): the scheduler's timestep over 1000.
    pub timestep: f64,
    /// Guidance scale; required if the network was distilled with guidance, and refused otherwise.
    pub guidance: Option<f64>,
    /// Sampling step, for the probe.
    pub step: usize,
}

/// The reference image of a pass: latents without noise, which the image tokens and the text attend to. The network
/// predicts nothing for them.
#[derive(Debug, Clone, Copy)]
pub struct Reference<'a> {
    /// Latents, packed: `[batch, rows·columns, in_channels]` (see [`super::pack_latents`]).
    pub latents: &'a Tensor,
    /// Rows and columns of the packed latents.
    pub grid: (i64, i64),
}

/// The tensors of an input, in the network's type and on its device.
pub(super) struct Placed {
    /// Of the image, then of the reference image.
    pub(super) latents: Tensor,
    pub(super) text: Tensor,
    pub(super) pooled: Tensor,
    pub(super) concepts: Option<Tensor>,
}

impl FluxInput<'_> {
    /// Returns the layout of the tokens of this pass.
    pub(super) fn layout(&self) -> Result<TokenLayout> {
        let (_, tokens, _) = self.text.size3()?;
        let layout = TokenLayout::joint(tokens, self.grid);
        Ok(match self.reference {
            Some(Reference { grid, .. }) => layout.with_reference(grid),
            None => layout,
        })
    }

    /// Checks the input against the configuration and moves it to the network's device.
    pub(super) fn place(&self, config: &FluxConfig, kind: Kind, device: Device) -> Result<Placed> {
        self.check(config)?;
        let place = |x: &Tensor| x.f_to_device(device)?.f_to_kind(kind);
        let latents = match self.reference {
            Some(reference) => Tensor::f_cat(&[place(self.latents)?, place(reference.latents)?], 1)?,
            None => place(self.latents)?,
        };
        Ok(Placed {
            latents,
            text: place(self.text)?,
            pooled: place(self.pooled)?,
            concepts: self.concepts.map(place).transpose()?,
        })
    }

    fn check(&self, config: &FluxConfig) -> Result<()> {
        let (rows, columns) = self.grid;
        if rows <= 0 || columns <= 0 {
            return refuse("grid", format!("{rows} rows and {columns} columns; there must be an image"));
        }
        let batch = self.latents.size().first().copied().unwrap_or(0);
        let tokens = self.text.size().get(1).copied().unwrap_or(0);
        let wanted_latents = [batch, rows * columns, config.in_channels];
        let wanted_text = [batch, tokens, config.joint_attention_dim];
        let wanted_pooled = [batch, config.pooled_projection_dim];
        let shapes: [(&'static str, &Tensor, &[i64], &str); 3] = [
            ("latents", self.latents, &wanted_latents, "[batch, rows·columns, in_channels]"),
            ("text", self.text, &wanted_text, "[batch, tokens, joint_attention_dim]"),
            ("pooled", self.pooled, &wanted_pooled, "[batch, pooled_projection_dim]"),
        ];
        for (input, tensor, wanted, meaning) in shapes {
            let found = tensor.size();
            if found != wanted {
                return refuse(input, format!("shape {found:?} where {wanted:?} is needed: {meaning}"));
            }
        }
        if let Some(Reference { latents, grid: (rows, columns) }) = self.reference {
            if rows <= 0 || columns <= 0 {
                let reason =
                    format!("{rows} rows and {columns} columns; leave the reference out, or give an image");
                return refuse("reference", reason);
            }
            let (found, wanted) = (latents.size(), [batch, rows * columns, config.in_channels]);
            if found != wanted {
                let meaning = "[batch, rows·columns, in_channels]";
                return refuse("reference", format!("shape {found:?} where {wanted:?} is needed: {meaning}"));
            }
        }
        if let Some(concepts) = self.concepts {
            let found = concepts.size();
            let count = found.get(1).copied().unwrap_or(0);
            let wanted = [batch, count, config.joint_attention_dim];
            if count == 0 || found != wanted {
                let meaning = "[batch, concepts, joint_attention_dim], at least one";
                return refuse("concepts", format!("shape {found:?} where {wanted:?} is needed: {meaning}"));
            }
        }
        match (config.guidance_embeds, self.guidance) {
            (true, None) => refuse(
                "guidance",
                "this network was distilled with guidance (guidance_embeds) and needs its scale; FLUX.1-dev's \
                 pipeline takes 3.5"
                    .into(),
            ),
            (false, Some(_)) => {
                refuse("guidance", "this network takes none (guidance_embeds is false); leave it out".into())
            }
            _ => Ok(()),
        }
    }
}

fn refuse(input: &'static str, reason: String) -> Result<()> {
    Err(Error::Input { input, reason })
}
