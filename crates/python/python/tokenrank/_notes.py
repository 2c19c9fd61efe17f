"""Sentences on what `watch` recorded, and on what it could not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ._layers import listed

if TYPE_CHECKING:
    from torch import nn

    from ._questions import Questions
    from ._seen import Seen


@dataclass
class Observed:
    """What happened besides results.

    Attributes:
        cross, decode: calls of attention between different tokens, and of a single query, by the names of the layers.
        failed: places where a quantity does not exist, by the quantity and the reason.
        impossible: reasons why a call was not analysed.
        padding, dropout, sinks: whether any call had them.
    """

    cross: dict[str, int] = field(default_factory=dict)
    decode: dict[str, int] = field(default_factory=dict)
    failed: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    impossible: list[str] = field(default_factory=list)
    padding: bool = False
    dropout: bool = False
    sinks: bool = False


def notes(seen: Seen, observed: Observed, questions: Questions) -> list[str]:
    """Returns everything that a reader of the results should know."""
    return [*_causal(seen, questions), *skips(observed), *_remarks(seen, observed)]


def _causal(seen: Seen, questions: Questions) -> list[str]:
    causal = sum(layer.causal for layer in seen.values())
    if not causal:
        return []
    count = f"all {causal}" if causal == len(seen) else f"{causal} of {len(seen)}"
    forward = questions.direction == "forward"
    start, end, to = ("last", "first", "earlier") if forward else ("first", "last", "later")
    note = (
        f"{count} layers are causal: a walk only moves to {to} tokens. λ₂ is the largest probability, other than the "
        f"first token's, that a token attends to itself, and TokenRank collects on the {end} token whatever the network "
        "learned."
    )
    options = [
        (questions.absorb, f'absorb="{end}" counts the visits to every token before a walk ends there'),
        (questions.drop, f'drop="{end}" leaves that token out'),
        (questions.teleport, f'teleport="{start}" with an alpha of 0.5 to 0.9 starts walks at the {start} token'),
    ]
    unused = [text for used, text in options if used is None]
    return [note + (f" These options depend on what the network learned: {'; '.join(unused)}." if unused else "")]


def skips(observed: Observed) -> list[str]:
    """Returns which calls were skipped because they have no chain."""
    found = []
    if observed.cross:
        found.append(
            "cross-attention has no chain, because its queries and keys are different tokens; skipped "
            f"{_calls(observed.cross)}."
        )
    if observed.decode:
        found.append(
            "attention of a single query, such as a step of generation with a cache, has no chain; skipped "
            f"{_calls(observed.decode)}. To analyse generated text, call the model once with all of it."
        )
    return found


def _calls(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return f"{total} call{'' if total == 1 else 's'} of {listed(counts)}"


def _remarks(seen: Seen, observed: Observed) -> list[str]:
    found = []
    if observed.padding:
        found.append("tokens to which no token may attend, such as padding, were left out; `kept` shows which ones.")
    if observed.dropout:
        found.append(
            "the model drops entries of its maps at random (dropout in training mode); the chains are without."
        )
    if observed.sinks:
        found.append("the model has attention sinks next to its tokens; rows are renormalised over the tokens.")
    for (quantity, reason), places in observed.failed.items():
        what = "every quantity" if quantity == "all" else quantity
        heads = "1 head" if len(places) == 1 else f"{len(places)} heads"
        found.append(f"{what} is NaN in {heads} ({listed(places, 2)}): {reason}.")
    if len(seen):
        found += [f"not analysed: {reason}" for reason in dict.fromkeys(observed.impossible)]
    return found


def missed(model: nn.Module, modules: Mapping[str, str], results: bool) -> str:
    """Returns the message for attention that was not caught.

    Args:
        modules: the modules by their paths, and why each was not caught.
        results: whether other layers were caught.
    """
    found = [f"{name or 'the model'} ({_class(model, name)}) {reason}" for name, reason in modules.items()]
    count = "1 module" if len(found) == 1 else f"{len(found)} modules"
    rest = f" and {len(found) - 3} more" if len(found) > 3 else ""
    kept = " The results of the other layers are in the attribute `seen` of this error." if results else ""
    return (
        f"attention of {count} of {type(model).__name__} was not caught: {'; '.join(found[:3])}{rest}. Attention is caught "
        "where it calls torch.nn.functional.scaled_dot_product_attention or, in transformers, an attention function of its "
        f"AttentionInterface. {_advice(model, modules)} If they do not matter, select other layers with `layers`.{kept}"
    )


def nothing(model: nn.Module, observed: Observed, forwards: int, selected: bool) -> str:
    """Returns the message for a block without any result.

    Args:
        forwards: how many times the model was called.
        selected: whether `layers` selects some of the layers only.
    """
    if skipped := skips(observed):
        return f"no chain was recorded: {' '.join(skipped)}"
    if not forwards:
        return (
            "no attention was caught: the model was not called inside the with-block, or it was called from another "
            "thread or in a way that runs none of its modules."
        )
    chosen = " in the layers that `layers` selects" if selected else ""
    return (
        f"no attention was caught{chosen}: {type(model).__name__} ran and called neither "
        "torch.nn.functional.scaled_dot_product_attention nor an attention function of transformers there. "
        f"{_advice(model, {})}"
    )


def _class(model: nn.Module, name: str) -> str:
    return type(model.get_submodule(name)).__name__


def _advice(model: nn.Module, modules: Mapping[str, str]) -> str:
    packages = {type(model.get_submodule(name)).__module__.partition(".")[0] for name in ("", *modules)}
    if "transformers" in packages:
        now = getattr(getattr(model, "config", None), "_attn_implementation", None)
        other = now != "sdpa" and getattr(model, "_supports_sdpa", False)
        do = 'Call model.set_attn_implementation("sdpa") first.' if other else "This model has its own attention code."
    elif "timm" in packages:
        do = "If the model supports it, call timm.layers.set_fused_attn(True, experimental=True) before creating it."
    elif "diffusers" in packages:
        do = 'If the model supports it, call model.set_attention_backend("native") first.'
    else:
        do = "Use scaled_dot_product_attention there instead of a softmax or torch.nn.MultiheadAttention."
    return f"{do} Maps that the model returns itself can be given to tokenrank.token_rank and tokenrank.lambda2."
