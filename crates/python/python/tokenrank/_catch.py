"""Catches the attention calls of a model while it runs. Imported only once torch is in use.

There are two places: the lookup of attention functions in transformers (`_interface`), and for all else
`torch.nn.functional.scaled_dot_product_attention` (`_modes`). Either way the original function runs with the original
arguments. Hooks tell which module is running.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from ._arguments import by_name
from ._attention import Attention, NoChain, Refused, could_not, of_interface, of_sdpa
from ._interface import watched
from ._modes import Mode, remove, resume, resume_all, suspend
from ._modules import fused_layers, looks_like_attention, of_torch
from ._verify import verify

_SDPA = torch.nn.functional.scaled_dot_product_attention
_MHA = torch.nn.functional.multi_head_attention_forward
_SOFTMAX = frozenset({torch.nn.functional.softmax, torch.softmax, torch.Tensor.softmax})
# torch's own modules that leave Python for a fused kernel, unless a TorchFunctionMode is active or their modules have
# hooks.
_FUSED = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
# Names of the arguments through which a module receives the tokens of another sequence.
_OTHERS = ("encoder_hidden_states", "key_value_states", "cross_attention_states", "context", "memory", "kv")


class Sink(Protocol):
    """Receives what is caught. Names are paths of modules; the model itself is the empty path.

    `check` raises `Refused` if the layer's output is not that of the attention that was caught.
    """

    def attention(self, name: str, attention: Attention, check: Callable[[], None]) -> None: ...
    def no_chain(self, name: str, kind: str) -> None: ...
    def refused(self, name: str, reason: str, error: Exception | None = None) -> None: ...
    def ran(self, name: str) -> None: ...
    def forward_ended(self, complete: bool) -> None: ...


@dataclass(frozen=True)
class Frame:
    """A module that is running."""

    module: nn.Module
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def crosses(self, queries: int) -> bool:
        """Whether the module was given another sequence, and the queries are not those of both sequences together."""
        arguments = by_name(self.module.forward, self.args, self.kwargs)
        tensors = [value for value in arguments.values() if isinstance(value, Tensor)]
        others = [arguments[name] for name in _OTHERS if isinstance(arguments.get(name), Tensor)]
        if not others or any(other is tensors[0] for other in others):
            return False
        return all(queries != _length(tensors[0]) + _length(other) for other in others)


def _length(tensor: Tensor) -> int:
    """The number of tokens of `[batch, tokens, channels]` or of an image `[batch, channels, height, width]`."""
    return tensor.shape[1] if tensor.dim() == 3 else tensor.shape[2] * tensor.shape[3] if tensor.dim() == 4 else -1


class Catch:
    """Catches the attention calls of a model, in the thread that enters the context."""

    def __init__(self, model: nn.Module, sink: Sink) -> None:
        self._model = model
        self._sink = sink
        self._names: dict[int, str] = {id(module): name for name, module in model.named_modules()}
        self._frames: list[Frame] = []
        self._thread = 0
        self._mode = Mode(self._see)
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Catch:
        self._thread = threading.get_ident()
        with contextlib.ExitStack() as exits:
            self._hook(exits)
            exits.enter_context(watched(self))
            exits.callback(remove, self._mode)
            self._mode.__enter__()
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._frames.clear()
        # An interrupt leaves modules without calling their hooks.
        resume_all()
        self._exits.close()

    def knows(self, module: object) -> bool:
        return id(module) in self._names

    # Hooks

    def _hook(self, exits: contextlib.ExitStack) -> None:
        below_fused: set[int] = set()
        for layer in fused_layers(self._model).values():
            below_fused.update(id(module) for module in layer.modules())
        for module in self._model.modules():
            # Modules of torch call no attention themselves; a hook on a fused layer would switch its fused function off.
            ours = module is self._model or not of_torch(module)
            if ours and id(module) not in below_fused and not isinstance(module, torch.jit.ScriptModule):
                for handle in (
                    module.register_forward_pre_hook(self._enter, with_kwargs=True),
                    module.register_forward_hook(self._leave, always_call=True),
                ):
                    exits.callback(handle.remove)
        if any(isinstance(module, _FUSED) for module in self._model.modules()):
            for handle in (
                register_module_forward_pre_hook(self._enter_fused),
                register_module_forward_hook(self._leave_fused, with_kwargs=True, always_call=True),
            ):
                exits.callback(handle.remove)

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling() or threading.get_ident() != self._thread or _in_backward():
            return
        name = self._names[id(module)]
        self._frames.append(Frame(module, name, args, kwargs))
        if looks_like_attention(module):
            self._sink.ran(name)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        if threading.get_ident() != self._thread or not any(frame.module is module for frame in self._frames):
            return
        while self._frames.pop().module is not module:
            pass
        if module is self._model and not any(frame.module is module for frame in self._frames):
            # After an error the hook is called with None while the error is handled.
            self._sink.forward_ended(complete=output is not None or sys.exc_info()[1] is None)

    def _enter_fused(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if threading.get_ident() == self._thread and isinstance(module, _FUSED) and self.knows(module):
            suspend(module)

    def _leave_fused(self, module: nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        if threading.get_ident() != self._thread or not isinstance(module, _FUSED) or not self.knows(module):
            return
        resume(module)
        if isinstance(module, nn.MultiheadAttention) and len(rest) == 2:
            arguments = by_name(nn.MultiheadAttention.forward, (module, *args), rest[0])
            self._multi_head(self._names[id(module)], arguments.get("query"), arguments.get("key"))

    # Calls

    def _see(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not self._frames or _in_backward():
            return
        if function is _SDPA:
            self._sdpa(args, kwargs)
        elif function is _MHA:
            arguments = by_name(_MHA, args, kwargs)
            self._multi_head(self._frames[-1].name, arguments.get("query"), arguments.get("key"))
        elif function in _SOFTMAX:
            self._softmax(args, kwargs, output)

    def _sdpa(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        frame = self._frames[-1]
        self._take(frame.name, frame, lambda: of_sdpa(*args, **kwargs), lambda attention: None)

    def interface(self, implementation: str, module: nn.Module, arguments: dict[str, Any], output: Any) -> None:
        """Takes a call of an attention function of transformers, after it returned."""
        if _in_backward():
            return

        query, key, value, mask = (arguments.pop(name, None) for name in ("query", "key", "value", "attention_mask"))
        result = output[0] if isinstance(output, tuple) else output
        frame = next((frame for frame in reversed(self._frames) if frame.module is module), None)
        self._take(
            self._names[id(module)],
            frame,
            lambda: of_interface(implementation, module, query, key, mask, arguments),
            lambda attention: verify(attention, value, result),
        )

    def _softmax(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        """Takes a softmax outside of attention functions: over rows of `[b, h, n, n]` it is attention out of reach."""
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        square = output.dim() >= 4 and output.shape[-1] == output.shape[-2] > 1
        if square and dim in (-1, output.dim() - 1):
            self._sink.refused(self._frames[-1].name, f"computes its own softmax of {list(output.shape)}")

    def _multi_head(self, name: str, query: Any, key: Any) -> None:
        if isinstance(query, Tensor) and isinstance(key, Tensor) and query is not key and query.shape != key.shape:
            self._sink.no_chain(name, "cross")
        else:
            self._sink.refused(name, "is torch.nn.MultiheadAttention, which keeps its queries and keys to itself")

    def _take(
        self,
        name: str,
        frame: Frame | None,
        read: Callable[[], Attention],
        check: Callable[[Attention], None],
    ) -> None:
        """Hands a call on. The model goes on whatever happens here; what fails is reported when the block ends."""
        try:
            with torch.no_grad():
                attention = read()
                if frame is not None and frame.crosses(attention.tokens):
                    raise NoChain("cross")
                self._sink.attention(name, attention, lambda: check(attention))
        except NoChain as skipped:
            self._sink.no_chain(name, skipped.kind)
        except Refused as refused:
            self._sink.refused(name, str(refused))
        except Exception as error:  # noqa: BLE001
            self._sink.refused(name, could_not(error), error)


def _in_backward() -> bool:
    """Whether autograd runs, which calls checkpointed modules a second time."""
    task = getattr(torch._C, "_current_graph_task_id", None)
    return task is not None and task() != -1
