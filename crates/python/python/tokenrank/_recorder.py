"""Turns the attention calls of a model into results."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from ._attention import Attention, could_not
from ._errors import NotCaught
from ._layers import Selection, parents
from ._notes import Observed, missed, notes, nothing
from ._questions import Questions
from ._seen import Call, Seen


@dataclass
class Forward:
    """One run of the model.

    Attributes:
        caught: the layers in the order of their first calls, and their positions.
        held: calls that are analysed once the number of layers is known.
        ran: modules that look like attention, and how many layers were caught before each.
        answered: modules whose calls were caught or skipped.
        refused: modules whose attention is out of reach, why, and how many layers were caught before each.
    """

    caught: dict[str, int] = field(default_factory=dict)
    held: OrderedDict[str, list[Attention]] = field(default_factory=OrderedDict)
    ran: dict[str, int] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    refused: dict[str, tuple[str, int]] = field(default_factory=dict)

    def missed(self) -> dict[str, tuple[str, int]]:
        """Returns the modules whose attention was not caught, in the form of `refused`."""
        above = {path for name in (*self.answered, *self.refused) for path in parents(name)}
        silent = {name: before for name, before in self.ran.items() if name not in above}
        # Of modules inside each other, the innermost is the one that should have been caught.
        outer = {path for name in silent if name for path in parents(name.rpartition(".")[0])}
        reason = "calls no function that can be caught"
        found = {name: (reason, before) for name, before in silent.items() if name not in outer}
        return {**found, **self.refused}

    def behind(self, name: str, before: int) -> int:
        """Returns how many layers were caught after the layer `name`, if so many were caught before it."""
        return len(self.caught) - before - (name in self.caught)


class Recorder:
    """Analyses the calls that `Catch` hands to it."""

    def __init__(self, model: nn.Module, selection: Selection, questions: Questions) -> None:
        self.seen = Seen()
        self._model = model
        self._selection = selection
        self._questions = questions
        self._forward = Forward()
        self._forwards = 0
        self._missed: dict[str, str] = {}
        self._error: Exception | None = None
        self._observed = Observed()

    def attention(self, name: str, attention: Attention, check: Callable[[], None]) -> None:
        """Takes a call; `check` raises `Refused` if the layer computes something else."""
        forward = self._forward
        forward.answered.add(name)
        position = forward.caught.setdefault(name, len(forward.caught))
        if self._selection.now(name, position):
            check()
            self._analyse(name, attention)
        elif self._selection.tail:
            check()
            forward.held.setdefault(name, []).append(attention.copied())
            while len(forward.held) > self._selection.tail:
                forward.held.popitem(last=False)

    def no_chain(self, name: str, kind: str) -> None:
        """Takes a call that has no chain; `kind` is `cross` or `decode`."""
        self._forward.answered.add(name)
        if self._selection.may_be(name, 0, 0):
            counts = self._observed.cross if kind == "cross" else self._observed.decode
            counts[name] = counts.get(name, 0) + 1

    def refused(self, name: str, reason: str, error: Exception | None = None) -> None:
        """Takes a call whose map is out of reach."""
        caught = self._forward.caught
        self._forward.refused.setdefault(name, (reason, caught.get(name, len(caught))))
        self._error = self._error or error

    def ran(self, name: str) -> None:
        """Takes note of a module that looks like attention."""
        self._forward.ran.setdefault(name, len(self._forward.caught))

    def forward_ended(self, complete: bool) -> None:
        """Ends a run of the model; `complete` is False after an error."""
        if complete:
            self._finish()
        else:
            self._forward = Forward()
        self._forwards += 1
        self._write_notes()

    def close(self, complete: bool) -> None:
        """Ends the recording; `complete` is False after an error.

        Raises:
            NotCaught: if `complete` and a selected layer was not caught, or nothing was.
            ValueError: if `complete` and no call has what is requested.
        """
        if complete:
            self._finish()
        self._write_notes()
        if not complete:
            return
        results = len(self.seen) > 0
        if self._missed:
            raise NotCaught(missed(self._model, self._missed, results), self._missed, self.seen) from self._error
        if not results and self._observed.impossible:
            raise ValueError(self._observed.impossible[0])
        if not results:
            message = nothing(self._model, self._observed, self._forwards, not self._selection.everything)
            raise NotCaught(message, {}, self.seen)

    def _finish(self) -> None:
        """Analyses the calls that were held until the order of the layers was known, and finds what was missed."""
        forward = self._forward
        for name, calls in forward.held.items():
            if self._selection.later(forward.behind(name, forward.caught[name])):
                self._analyse_held(name, calls)
        self._forward = Forward()
        for name, (reason, before) in forward.missed().items():
            if self._selection.may_be(name, before, forward.behind(name, before)):
                self._missed.setdefault(name, reason)

    def _analyse_held(self, name: str, calls: list[Attention]) -> None:
        try:
            for attention in calls:
                self._analyse(name, attention)
        except Exception as error:  # noqa: BLE001
            # The model goes on; what fails is reported when the block ends.
            self.refused(name, could_not(error), error)

    def _analyse(self, name: str, attention: Attention) -> None:
        observed = self._observed
        try:
            answer = self._questions.answer(attention)
        except ValueError as error:
            observed.impossible.append(f"{name or 'the model'}: {error}")
            return
        observed.padding |= answer.padding > 0
        observed.dropout |= attention.dropout > 0.0
        observed.sinks |= attention.sinks
        for batch, head, quantity, reason in answer.failed:
            observed.failed.setdefault((quantity, reason), []).append(f"{name}, sequence {batch}, head {head}")
        self.seen._add(
            Call(
                layer=name,
                forward=self._forwards,
                heads=attention.heads,
                kept=answer.kept,
                causal=answer.causal,
                values=answer.values,
            )
        )

    def _write_notes(self) -> None:
        self.seen.notes[:] = notes(self.seen, self._observed, self._questions)
