"""Attention as discrete-time Markov chains, for numpy arrays, torch tensors and any PyTorch network.

A softmaxed attention matrix A is row-stochastic: token i jumps to token j with probability A[i, j]. TokenRank is the steady
state of that chain, bounces are its first steps, and λ₂ says how slowly it mixes. See Erel, Dünkel et al., "Attention (as
Discrete-Time Markov) Chains", NeurIPS 2025, arXiv 2507.17657.
"""

from ._core import __version__
from ._errors import NotCaught
from ._functions import (
    CausalWarning,
    ChainWarning,
    MetastableSets,
    Spectrum,
    Visits,
    bounces,
    column_sum,
    head_weights,
    lambda2,
    metastable_sets,
    row_stochastic,
    spectrum,
    token_rank,
    visits,
)
from ._scores import write_scores
from ._seen import Call, Layer, Seen
from ._show import Page, show
from ._watch import watch

__all__ = [
    "Call",
    "CausalWarning",
    "ChainWarning",
    "Layer",
    "MetastableSets",
    "NotCaught",
    "Page",
    "Seen",
    "Spectrum",
    "Visits",
    "__version__",
    "bounces",
    "column_sum",
    "head_weights",
    "lambda2",
    "metastable_sets",
    "row_stochastic",
    "show",
    "spectrum",
    "token_rank",
    "visits",
    "watch",
    "write_scores",
]
