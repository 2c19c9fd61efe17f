//! Keeps whole maps, for export and tests only.

use std::ops::Range;

use tch::Tensor;

use crate::attend::{AttentionProbe, View, Want};
use crate::error::{Error, Result};
use crate::site::Site;

/// Keeps logits and probabilities of every layer it sees, on the host.
#[derive(Default)]
pub struct KeepAll {
    layers: Vec<(Site, Vec<[Tensor; 2]>)>,
}

/// The maps of one layer.
pub struct KeptLayer {
    /// The site of the layer.
    pub site: Site,
    /// `[batch, heads, tokens, tokens]`, float32.
    pub logits: Tensor,
    /// `[batch, heads, tokens, tokens]`, float32.
    pub probs: Tensor,
}

impl KeepAll {
    /// Returns the layers in the order of the pass.
    ///
    /// # Errors
    /// libtorch fails (memory).
    pub fn finish(self) -> Result<Vec<KeptLayer>> {
        let join = |parts: &[[Tensor; 2]], which: usize| {
            let parts: Vec<&Tensor> = parts.iter().map(|part| &part[which]).collect();
            Tensor::f_cat(&parts, 1)
        };
        self.layers
            .into_iter()
            .map(|(site, parts)| Ok(KeptLayer { site, logits: join(&parts, 0)?, probs: join(&parts, 1)? }))
            .collect()
    }
}

impl AttentionProbe for KeepAll {
    fn want(&mut self, _: &Site) -> Want {
        Want::LOGITS | Want::PROBS
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()> {
        if heads.start == 0 {
            self.layers.push((site.clone(), Vec::new()));
        }
        let (_, parts) =
            self.layers.last_mut().ok_or_else(|| Error::Probe("heads shown out of order".into()))?;
        let host = |map: &Tensor| map.f_to_device(tch::Device::Cpu);
        parts.push([host(view.logits()?)?, host(view.probs()?)?]);
        Ok(())
    }
}
