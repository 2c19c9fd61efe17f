//! Attention as a discrete-time Markov chain.
//!
//! A softmaxed self-attention matrix is row-stochastic: token *i* jumps to token *j* with probability `A[i, j]`. This
//! crate checks such a matrix ([`Stochastic`]), walks it in either direction with or without teleportation ([`Chain`]),
//! and answers three questions: where a walk is after some steps ([`bounce`]), where it is in the long run
//! ([`token_rank`]), and how slowly it converges ([`lambda2`], [`spectrum`]). [`metastable_sets`] finds groups of
//! tokens in which a walk stays for long, and [`absorption`] counts the visits of a walk before it ends on chosen
//! tokens.
//!
//! ```
//! use markov_core::{Effort, Stochastic, Stop, bounce_token, lambda2, token_rank};
//! use ndarray::array;
//!
//! let attention = Stochastic::new(array![[0.9, 0.1], [0.5, 0.5]])?;
//!
//! // Two bounces from token 1, following the attention.
//! let states = bounce_token(&attention.forward(), 1, 2)?;
//! assert!((states[(1, 0)] - 0.7).abs() < 1e-12);
//!
//! // TokenRank, incoming attention: teleport first, then choose the direction.
//! let rank = token_rank(&attention.teleport(0.99)?.forward(), Stop::strict())?;
//! assert!(rank.pi[0] > 0.8);
//!
//! // λ₂ is a property of the matrix itself.
//! let mixing = lambda2(&attention.forward(), Effort::default())?;
//! assert!((mixing.modulus - 0.4).abs() < 1e-12);
//! # Ok::<(), markov_core::Error>(())
//! ```
//!
//! Attention need not be stored: [`QueryKey`] computes the chain of one head from its queries and keys, and [`Layer`] all
//! heads of a batch, with the masks, biases and caps that networks use.
//!
//! Everything is computed in double precision whatever the storage. Feature `torch` adds the same algorithms for a
//! batch of matrices on a torch device.

mod bounce;
mod chain;
mod error;
mod kernel;
mod layer;
mod many;
mod matrix_free;
mod metastable;
mod propagate;
mod random;
mod rank;
mod restrict;
pub mod spectrum;
mod stochastic;
mod structure;
mod substitution;
mod tolerance;
#[cfg(feature = "torch")]
pub mod torch;
#[cfg(feature = "torch")]
pub mod torch_error;
mod triangle;
mod visits;
mod weights;

pub use bounce::{bounce, bounce_batch, bounce_token, bounces, uniform};
pub use chain::{Chain, Direction, RowStochastic, Teleported};
pub use error::{Error, Result};
pub use kernel::{Element, Number};
pub use layer::{DENSE_STATES, HeadAt, HeadMap, Layer};
pub use many::{HeadSummary, heads, lambda2_many, lambda2_mixed, token_rank_many, token_rank_mixed};
pub use matrix_free::{Bias, Logits, MASKED, Mask, QueryKey};
pub use metastable::{Metastable, Sets, metastable_sets};
pub use propagate::{Block, HostStep, Propagate};
pub use rank::{Rule, Stop, TokenRank, power_method, token_rank, token_rank_each};
pub use spectrum::{Effort, Lambda2, Method, Spectrum, lambda2, lambda2_each, spectrum};
pub use stochastic::{Stochastic, StochasticView};
pub use structure::{Classes, Components, Links};
pub use tolerance::{ROW_TOLERANCE, Storage};
pub use triangle::Triangle;
pub use visits::{Absorption, absorption};
pub use weights::{HeadWeights, weigh_heads, weighted_mean};
