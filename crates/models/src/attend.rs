//! Attention with probes: the only place of the workspace that computes `softmax(QKᵀ/√d)`.
//!
//! [`attend`] computes attention for every network. For each layer, a probe first says what it [`Want`]s. If it wants
//! nothing, the fused kernel runs and no map exists. Otherwise maps are computed in float32 for a few heads at a time,
//! shown to the probe, used for the output and dropped. A probe that needs only the chains of the heads ([`Want::CHAIN`])
//! gets queries and keys where that is faster. A probe cannot change the result; to change attention, use [`KeyBias`].

use std::ops::Range;

use bitflags::bitflags;
use markov_core::torch::{dot_products, is_half};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::not_finite::{NotFinite, head_not_finite, rows_not_finite};
use crate::site::{Site, TokenKind, TokenLayout};

/// Upper bound for the size of the maps in memory at once, in bytes; at least one head is always computed.
const MAP_BUDGET: i64 = 256 << 20;

bitflags! {
    /// The quantities of an attention layer that a probe asks for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Want: u8 {
        /// Everything that enters the softmax: scaled products plus bias.
        const LOGITS = 1;
        /// The softmaxed map, rows summing to 1.
        const PROBS = 2;
        /// The attention output before the projection.
        const OUTPUT = 4;
        /// The chain of each head: its map, or queries and keys ([`View::chain`]).
        const CHAIN = 8;
        /// Queries and keys for [`Want::CHAIN`] wherever no probe wants maps, also where maps are faster.
        const FUSED = 16;
    }
}

impl Want {
    /// Nothing, so that the fused kernel runs.
    pub const NONE: Self = Self::empty();
}

/// An observer of attention layers, borrowed for one pass.
pub trait AttentionProbe {
    /// Returns the quantities that this probe needs of a layer. Called once per layer, before anything is computed.
    fn want(&mut self, site: &Site) -> Want;

    /// Maximum number of heads whose maps may be in memory at once. With `None`, a memory budget decides.
    fn heads_at_once(&self) -> Option<i64> {
        None
    }

    /// Receives the heads `heads` of a layer. Called for consecutive ranges until all heads have been shown.
    ///
    /// # Errors
    /// An error of the probe ends the pass.
    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()>;
}

/// A probe that asks for nothing.
pub struct NoProbe;

impl AttentionProbe for NoProbe {
    fn want(&mut self, _: &Site) -> Want {
        Want::NONE
    }

    fn see(&mut self, _: &Site, _: Range<i64>, _: &View<'_>) -> Result<()> {
        Ok(())
    }
}

/// The requested quantities for a few heads of one layer. All are float32 except the output, which has the network's
/// type.
pub struct View<'a> {
    logits: Option<&'a Tensor>,
    probs: Option<&'a Tensor>,
    output: Option<&'a Tensor>,
    chain: Option<ChainView<'a>>,
}

/// What defines the chains of the heads shown.
#[derive(Clone, Copy)]
pub enum ChainView<'a> {
    /// Logits and maps, `[batch, heads, queries, keys]` float32.
    Maps {
        /// Everything that enters the softmax.
        logits: &'a Tensor,
        /// The softmax, rows summing to 1.
        probs: &'a Tensor,
    },
    /// The rows of the maps are `softmax(q·k · scale + bias)`. All heads are shown at once.
    QueriesKeys {
        /// `[batch, heads, tokens, head dim]`, in the network's type.
        q: &'a Tensor,
        /// `[batch, heads, tokens, head dim]`, in the network's type.
        k: &'a Tensor,
        /// Factor of `q·k`.
        scale: f64,
        /// `[batch or 1, heads or 1, tokens or 1, tokens]`, float32.
        bias: Option<&'a Tensor>,
    },
}

impl View<'_> {
    /// Returns the logits, `[batch, heads, queries, keys]`.
    ///
    /// # Errors
    /// The probe did not ask for [`Want::LOGITS`].
    pub fn logits(&self) -> Result<&Tensor> {
        self.logits.ok_or_else(|| not_wanted("logits"))
    }

    /// Returns the attention map, `[batch, heads, queries, keys]`, rows summing to 1.
    ///
    /// # Errors
    /// The probe did not ask for [`Want::PROBS`].
    pub fn probs(&self) -> Result<&Tensor> {
        self.probs.ok_or_else(|| not_wanted("probs"))
    }

    /// Returns the attention output before the projection, `[batch, heads, queries, head dim]`.
    ///
    /// # Errors
    /// The probe did not ask for [`Want::OUTPUT`].
    pub fn output(&self) -> Result<&Tensor> {
        self.output.ok_or_else(|| not_wanted("output"))
    }

    /// Returns what defines the chains of the heads shown.
    ///
    /// # Errors
    /// The probe did not ask for [`Want::CHAIN`].
    pub fn chain(&self) -> Result<ChainView<'_>> {
        self.chain.ok_or_else(|| not_wanted("chains"))
    }
}

/// Returns `map` `[..., queries, keys]` if it is square. Only the map of self-attention is a Markov chain.
///
/// # Errors
/// The numbers of queries and keys differ, as in cross-attention.
pub(crate) fn square(map: &Tensor) -> Result<&Tensor> {
    match map.size()[..] {
        [.., queries, keys] if queries != keys => Err(Error::Probe(format!(
            "a map of {queries} queries and {keys} keys is not a Markov chain, since the queries are not keys of \
             cross-attention; select layers of self-attention"
        ))),
        _ => Ok(map),
    }
}

fn not_wanted(what: &str) -> Error {
    Error::Probe(format!("{what} were read but not requested in `want`"))
}

/// The tokens that are states of the Markov chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChainTokens {
    /// Every token of the sequence.
    All,
    /// All but CLS and registers, which are removed before the softmax, as in the authors' code.
    WithoutSpecial,
}

impl ChainTokens {
    /// Returns the quantities that a probe must ask for to build this chain.
    pub fn want(self) -> Want {
        match self {
            Self::All => Want::PROBS,
            Self::WithoutSpecial => Want::LOGITS,
        }
    }

    /// Returns the indices of the chain's states in the sequence, in order.
    pub fn states(self, layout: &TokenLayout) -> Vec<i64> {
        layout.indices(|kind| self == Self::All || kind != TokenKind::Special)
    }

    /// Returns the layout of the chain's states.
    pub fn layout(self, layout: &TokenLayout) -> TokenLayout {
        match self {
            Self::All => layout.clone(),
            Self::WithoutSpecial => TokenLayout {
                special: 0,
                order: layout.order.iter().copied().filter(|kind| *kind != TokenKind::Special).collect(),
                ..layout.clone()
            },
        }
    }

    /// Returns the transition matrices of the heads shown, `[batch, heads, n, n]` float32, rows summing to 1.
    ///
    /// # Errors
    /// The probe did not ask for [`ChainTokens::want`], or the layer is cross-attention.
    pub fn transitions(self, layout: &TokenLayout, view: &View<'_>) -> Result<Tensor> {
        match self {
            Self::All => Ok(square(view.probs()?)?.shallow_clone()),
            Self::WithoutSpecial => {
                Ok(self.among(layout, square(view.logits()?)?)?.f_softmax(-1, Kind::Float)?)
            }
        }
    }

    /// Returns the logits `[..., n, n]` among the chain's states, from those of all tokens.
    pub(crate) fn among(self, layout: &TokenLayout, logits: &Tensor) -> Result<Tensor> {
        let states = self.index(layout, logits.device())?;
        Ok(logits.f_index_select(-2, &states)?.f_index_select(-1, &states)?)
    }

    /// Returns [`ChainTokens::states`] as indices on a device.
    pub(crate) fn index(self, layout: &TokenLayout, device: Device) -> Result<Tensor> {
        Ok(Tensor::f_from_slice(&self.states(layout))?.f_to_device(device)?)
    }
}

/// An additive term on the logits. It masks keys or adds relative positions.
#[derive(Debug, Default)]
pub struct KeyBias(Option<Tensor>);

impl KeyBias {
    /// No bias.
    pub fn none() -> Self {
        Self(None)
    }

    /// Adds `bias[batch, keys]` to every query's logits; `-∞` removes a key. Each row must keep at least one finite
    /// key.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn new(bias: &Tensor) -> Result<Self> {
        Ok(Self(Some(bias.f_unsqueeze(1)?.f_unsqueeze(1)?)))
    }

    /// The causal mask of text towers: each of `tokens` queries sees only itself and the keys before it.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn causal(tokens: i64, device: Device) -> Result<Self> {
        let hidden = Tensor::f_full([1, 1, tokens, tokens], f64::NEG_INFINITY, (Kind::Float, device))?;
        Ok(Self(Some(hidden.f_triu(1)?)))
    }

    /// Adds `bias[batch or 1, heads, queries, keys]`, a separate term for every head (relative positions as in T5,
    /// arXiv 1910.10683, section 2.1).
    pub fn per_head(bias: Tensor) -> Self {
        Self(Some(bias))
    }

    /// Returns the term for `count` heads from `first` on, `[batch or 1, count or 1, queries or 1, keys]` in the given
    /// type.
    fn of_heads(&self, first: i64, count: i64, kind: Kind) -> Result<Option<Tensor>> {
        let Some(bias) = &self.0 else { return Ok(None) };
        let shared = bias.size4()?.1 == 1;
        let bias = if shared { bias.shallow_clone() } else { bias.f_narrow(1, first, count)? };
        Ok(Some(bias.f_to_kind(kind)?))
    }
}

/// Returns how many of `heads` heads have their maps in memory at once: at most `limit`, or as many as fit into 256 MiB
/// if the probe sets no limit. The map of one head for the whole batch has `numbers` numbers.
pub fn heads_at_once(limit: Option<i64>, heads: i64, numbers: i64) -> i64 {
    limit.unwrap_or(MAP_BUDGET / (4 * numbers).max(1)).clamp(1, heads.max(1))
}

/// Multi-head attention `softmax(QKᵀ/√d + bias) V`.
///
/// `q`, `k`, `v`: `[batch, heads, tokens, head dim]`, any float type; the result has the shape and type of `q`. With a
/// probe that wants maps, logits and softmax are computed in float32 whatever the network's type.
///
/// # Errors
/// libtorch fails (shapes, memory), or the probe does.
pub fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: &KeyBias,
    site: &Site,
    probe: &mut dyn AttentionProbe,
) -> Result<Tensor> {
    let (.., dim) = q.size4()?;
    attend_scaled(q, k, v, 1.0 / (dim as f64).sqrt(), bias, site, probe)
}

/// [`attend`] with `scale` in place of `1/√d`, for networks trained with another scale (T5: 1).
///
/// # Errors
/// As [`attend`].
pub fn attend_scaled(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    bias: &KeyBias,
    site: &Site,
    probe: &mut dyn AttentionProbe,
) -> Result<Tensor> {
    let (batch, heads, queries, _) = q.size4()?;
    let (_, _, keys, _) = k.size4()?;
    let want = probe.want(site);
    let maps = want.intersects(Want::LOGITS | Want::PROBS);
    let chain = want.contains(Want::CHAIN) && !maps;
    let at_once = heads_at_once(probe.heads_at_once(), heads, batch * queries * keys);
    // Logits of a few heads from `first` on.
    let logits_of = |first: i64, count: i64| -> Result<Tensor> {
        let part = |x: &Tensor| x.f_narrow(1, first, count);
        let mut logits = dot_products(&part(q)?, &part(k)?)?.f_mul_scalar_(scale)?;
        if let Some(bias) = bias.of_heads(first, count, Kind::Float)? {
            logits = logits.f_add_(&bias)?;
        }
        Ok(logits)
    };
    let groups = (0..heads).step_by(at_once as usize).map(|first| first..heads.min(first + at_once));
    if !maps && (!chain || queries == keys && (want.contains(Want::FUSED) || fused_is_faster(q))) {
        let mask = bias.of_heads(0, heads, q.kind())?;
        let output = Tensor::f_scaled_dot_product_attention(q, k, v, mask, 0.0, false, scale, false)?
            .f_add_(&zero_if_finite(q, k)?)?;
        if chain || want.contains(Want::OUTPUT) {
            let bias = bias.of_heads(0, heads, Kind::Float)?;
            let view = View {
                logits: None,
                probs: None,
                output: want.contains(Want::OUTPUT).then_some(&output),
                chain: chain.then_some(ChainView::QueriesKeys { q, k, scale, bias: bias.as_ref() }),
            };
            probe.see(site, 0..heads, &view).map_err(|error| {
                let mut groups = groups.filter(|_| chain);
                let found = groups.find_map(|group| {
                    let logits = logits_of(group.start, group.end - group.start).ok()?;
                    not_finite(site, group.start, &logits.f_softmax(-1, Kind::Float).ok()?, v.kind())
                });
                found.unwrap_or(error)
            })?;
        }
        return Ok(output);
    }

    let mut outputs = Vec::new();
    for group in groups {
        let (first, count) = (group.start, group.end - group.start);
        let logits = logits_of(first, count)?;
        let probs = logits.f_softmax(-1, Kind::Float)?;
        let output = probs.f_to_kind(v.kind())?.f_matmul(&v.f_narrow(1, first, count)?)?;
        let shown = |wanted: Want, tensor| want.contains(wanted).then_some(tensor);
        let view = View {
            logits: shown(Want::LOGITS, &logits),
            probs: shown(Want::PROBS, &probs),
            output: shown(Want::OUTPUT, &output),
            chain: want.contains(Want::CHAIN).then_some(ChainView::Maps { logits: &logits, probs: &probs }),
        };
        probe
            .see(site, group, &view)
            .map_err(|error| not_finite(site, first, &probs, v.kind()).unwrap_or(error))?;
        outputs.push(output);
    }
    Ok(Tensor::f_cat(&outputs, 1)?)
}

/// Whether chains of a layer with these queries are computed from queries and keys where nothing needs the maps: on an
/// accelerator for numbers of 16 bits, which its matrix units multiply many times as fast as float32.
fn fused_is_faster(q: &Tensor) -> bool {
    q.device() != Device::Cpu && is_half(q)
}

/// Returns `[batch, heads, 1, 1]` in the type of `q`: 0 where queries and keys are finite, NaN elsewhere. Added to the
/// output of a fused kernel, it restores NaN: the kernel of the CPU takes a row of NaN for a row whose keys are all
/// hidden, and returns zeros.
fn zero_if_finite(q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let sum = |x: &Tensor| x.f_sum_dim_intlist([-2i64, -1].as_slice(), true, Kind::Float);
    Ok(sum(q)?.f_add_(&sum(k)?)?.f_mul_scalar_(0.0)?.f_to_kind(q.kind())?)
}

/// Returns the error of a layer whose maps `probs` `[batch, heads, queries, keys]` are not finite, which names layer and head: a
/// probe cannot know what the network computes in. Returns `None` if they are finite.
fn not_finite(site: &Site, first_head: i64, probs: &Tensor, kind: Kind) -> Option<Error> {
    let found = || -> Result<NotFinite> {
        let (rows, layer) = (rows_not_finite(probs)?, head_not_finite(site, first_head, probs)?);
        Ok(NotFinite { output: "attention maps of the network", layer, kind, rows, text: None })
    };
    found().ok().filter(|found| !found.rows.is_empty()).map(Into::into)
}
