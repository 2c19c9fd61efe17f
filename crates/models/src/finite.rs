//! Checks that the outputs of networks are finite, where they leave the network.
//!
//! NaN that passed would be counted as a prediction or clipped to a black image. A check costs one reduction for each
//! pass; only if it fails is the pass repeated to find the layer.

use std::ops::Range;

use tch::{Kind, Tensor};

use crate::attend::{AttentionProbe, View, Want};
use crate::error::{Error, Result};
use crate::not_finite::{NotFinite, head_not_finite, rows_not_finite};
use crate::site::Site;

/// An output of a network that is checked.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    /// The output in the plural, with its network: `class logits of the vision network`.
    pub(crate) name: &'static str,
    /// The type that the network computes in.
    pub(crate) kind: Kind,
}

impl Output {
    /// Returns `numbers` `[rows, ...]` if all are finite.
    ///
    /// # Errors
    /// [`Error::NotFinite`] with the rows that are not; libtorch fails.
    pub(crate) fn check(self, numbers: Tensor) -> Result<Tensor> {
        self.prove(&numbers)?;
        Ok(numbers)
    }

    /// Checks `numbers` `[rows, ...]`.
    ///
    /// # Errors
    /// As [`Output::check`].
    pub(crate) fn prove(self, numbers: &Tensor) -> Result<()> {
        let rows = rows_not_finite(numbers)?;
        if rows.is_empty() {
            return Ok(());
        }
        Err(NotFinite { output: self.name, layer: None, kind: self.kind, rows, text: None }.into())
    }

    /// Runs `pass` with `probe` and returns its result if `output` of it is finite. If not, or if the probe was shown maps
    /// that are not, the pass is run once more to find the first attention layer whose output is not finite.
    ///
    /// # Errors
    /// As [`Output::check`] and the pass.
    pub(crate) fn of_pass<T>(
        self,
        probe: &mut dyn AttentionProbe,
        mut pass: impl FnMut(&mut dyn AttentionProbe) -> Result<T>,
        output: impl Fn(&T) -> &Tensor,
    ) -> Result<T> {
        let checked = pass(probe).and_then(|result| self.prove(output(&result)).map(|()| result));
        let error = match checked {
            Ok(result) => return Ok(result),
            Err(error) => error.into_not_finite()?,
        };
        let mut search = FirstLayer::default();
        // The search ends the pass with an error.
        let _ended = pass(&mut search);
        Err(NotFinite { layer: search.found.or(error.layer), ..error }.into())
    }
}

/// Finds the first attention layer whose output is not finite.
#[derive(Default)]
struct FirstLayer {
    found: Option<String>,
}

impl AttentionProbe for FirstLayer {
    fn want(&mut self, _: &Site) -> Want {
        Want::OUTPUT
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()> {
        self.found = head_not_finite(site, heads.start, view.output()?)?;
        match self.found {
            None => Ok(()),
            Some(_) => Err(Error::Probe("the first layer with numbers that are not finite was found".into())),
        }
    }
}
