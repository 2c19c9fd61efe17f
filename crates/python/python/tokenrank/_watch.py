"""`watch`: the chains of every attention call that a PyTorch model makes inside a with-block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ._errors import NotCaught
from ._layers import Layers, Selection, listed
from ._questions import Questions, Teleport, Tokens, read_teleport, read_tokens
from ._seen import Seen

if TYPE_CHECKING:
    import torch

    from ._catch import Catch
    from ._recorder import Recorder


def watch(
    model: torch.nn.Module,
    layers: Layers = None,
    *,
    lambda2: bool = True,
    token_rank: bool = True,
    start: Tokens = None,
    steps: int = 10,
    absorb: Tokens = None,
    drop: Tokens = None,
    teleport: Teleport = None,
    alpha: float = 0.99,
    direction: Literal["forward", "backward"] = "forward",
    mean_map: bool = False,
    maps: bool = False,
    tol: float = 1e-6,
    threads: int | None = None,
) -> Watch:
    """Returns a context manager that analyses the attention of a model while it runs.

        with tokenrank.watch(model, layers="last:4") as seen:
            model(**inputs)
        seen.lambda2  # {layer: [batch, heads]}

    Works for models of transformers, diffusers and timm and for your own, on any device. Queries and keys are caught
    where attention is computed; fused kernels keep running, no map is stored unless requested, and the model's output is
    bit for bit what it is without `watch`. Padding, seen from the mask, is left out. Cross-attention and decode steps
    have no chain and are skipped with a note in `seen.notes`.

    A token is a position in the sequence as the model sees it, from 0, or from the end if negative; or `"first"` or
    `"last"`, which skip padding.

    Args:
        model: any module; for a pipeline of diffusers its `unet` or `transformer`.
        layers: which layers: None for all, `"last:4"`, `"first:2"`, positions in the order of the calls, paths of
            modules, patterns such as `"encoder.layer.*"`, or a list of these.
        lambda2: whether to compute the second largest eigenvalue modulus of each head.
        token_rank: whether to compute TokenRank.
        start: tokens from which to compute bounces; also where the walks of `absorb` start.
        steps: number of bounces.
        absorb: tokens in which walks end; computes the expected visits to all others before.
        drop: tokens to leave out; the rows of the others are renormalised.
        teleport: where the chain jumps to with probability `1 - alpha`: tokens, or a distribution `[tokens]` or
            `[batch, tokens]`; uniform if None. Without `start`, walks of `absorb` start there.
        alpha: probability that the chain of TokenRank and bounces follows the attention in a step.
        direction: `"forward"` follows the attention, `"backward"` goes to the tokens that attend.
        mean_map: whether to keep the mean of the maps of all heads.
        maps: whether to keep all maps.
        tol: relative accuracy of λ₂.
        threads: number of threads for the computation; None for one per core.

    Raises:
        ValueError, TypeError: for an argument that has no meaning.
        NotCaught: from the with statement for a compiled model, and at the end of the block if attention of a selected
            layer was not caught.
    """
    return Watch(
        model,
        Selection.parse(layers),
        Questions(
            lambda2=bool(lambda2),
            token_rank=bool(token_rank),
            start=read_tokens("start", start),
            steps=steps,
            absorb=read_tokens("absorb", absorb),
            drop=read_tokens("drop", drop),
            teleport=read_teleport(teleport),
            alpha=float(alpha),
            direction=direction,
            mean_map=bool(mean_map),
            maps=bool(maps),
            tol=float(tol),
            threads=threads,
        ),
    )


class Watch:
    """A context manager made by `watch`. It can be entered several times, one after the other."""

    def __init__(self, model: torch.nn.Module, selection: Selection, questions: Questions) -> None:
        self._model = model
        self._selection = selection
        self._questions = questions
        self._catch: Catch | None = None
        self._recorder: Recorder | None = None

    def __enter__(self) -> Seen:
        # These import torch, which a program that never watches a model need not have.
        from ._catch import Catch
        from ._recorder import Recorder

        if self._catch is not None:
            raise RuntimeError("this watch is active already; call tokenrank.watch again to watch twice at a time")
        self._check()
        recorder = Recorder(self._model, self._selection, self._questions)
        catch = Catch(self._model, recorder)
        catch.__enter__()
        self._catch, self._recorder = catch, recorder
        return recorder.seen

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        catch, recorder = self._catch, self._recorder
        self._catch = self._recorder = None
        if catch is None or recorder is None:
            return
        catch.__exit__(None, None, None)
        recorder.close(complete=error is None)

    def _check(self) -> None:
        import torch

        from ._modules import compiled, fused_layers, looks_like_attention

        model = self._model
        if not isinstance(model, torch.nn.Module):
            parts = [
                name for name in ("transformer", "unet") if isinstance(getattr(model, name, None), torch.nn.Module)
            ]
            hint = f"; pass its .{parts[0]}" if parts else ""
            raise TypeError(f"watch expects a torch.nn.Module, found {type(model).__name__}{hint}")
        names = [name for name, _ in model.named_modules()]
        if unmatched := self._selection.unmatched(names):
            examples = [name for name, module in model.named_modules() if looks_like_attention(module)]
            some = f"; modules with attention are {listed(examples)}" if examples else ""
            raise ValueError(f"layers: no module of the model matches {listed(map(repr, unmatched))}{some}")
        if hidden := compiled(model):
            found = {name: "is compiled" for name in hidden}
            what = "the model" if "" in found else f"{listed(hidden)} in the model"
            raise NotCaught(
                f"{what} is compiled by torch.compile or torch.jit, so its attention cannot be caught. Watch the model "
                "before it is compiled (torch.compile leaves the original model as it is).",
                found,
            )
        fused = [name for name in fused_layers(model) if self._selection.named(name)]
        if fused:
            raise NotCaught(
                f"torch.nn.TransformerEncoderLayer ({listed(fused)}) computes its attention in a fused function of torch "
                "that does not show queries and keys. Compute it in a module of your own with "
                "torch.nn.functional.scaled_dot_product_attention, or select other layers.",
                dict.fromkeys(fused, "is torch.nn.TransformerEncoderLayer"),
            )
