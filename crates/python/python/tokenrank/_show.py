"""`show`: the interactive page of the chains that `watch` has seen."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._convert import is_tensor, token_number

if TYPE_CHECKING:
    from ._seen import Call, Seen

PNG = b"\x89PNG\r\n\x1a\n"

MOST_SPECIAL = 16
"""Most tokens that may precede the patches when their grid is guessed: CLS and registers."""

NOTEBOOK_HEIGHT = 720
"""Height of the page in a notebook, in CSS pixels."""


class Page:
    """The interactive page of the chains of one input, the same that `tokenrank show` writes.

    It displays itself in a notebook, and `save` writes it as one HTML file that loads nothing.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def html(self) -> str:
        """Returns the page as an HTML document."""
        return _core.page(**self._content, notebook=None)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the page and returns its path."""
        path = Path(path)
        text = self.html()
        path.write_text(text, encoding="utf-8")
        return path

    def _repr_html_(self) -> str:
        return _core.page(**self._content, notebook=NOTEBOOK_HEIGHT)

    def __repr__(self) -> str:
        return f"<Page {self._content['title']!r}: {len(self._content['layers'])} layers; .save(path) writes it>"


def show(
    seen: Seen,
    *,
    image: Any = None,
    tokens: Sequence[str] | None = None,
    grid: tuple[int, int] | None = None,
    text_after: bool = False,
    item: int = 0,
    start: int | None = None,
    bounces: int = 10,
    alpha: float = 0.99,
    title: str | None = None,
) -> Page:
    """Returns the interactive page of what `watch(model, mean_map=True)` has seen: bounces from any token, TokenRank, λ₂ of each head.

        with tokenrank.watch(model, mean_map=True) as seen:
            model(**inputs)
        tokenrank.show(seen, image=image).save("page.html")      # in a notebook: tokenrank.show(seen, image=image)

    With `maps=True` the page has the single heads too, as many as its size allows. All layers must have the same tokens.

    Parameters
    ----------
    seen:
        The result of `watch`.
    image:
        The part of the image that the patches cover: the path of a file, a PIL image, or an array `[height, width, 3]` or `[3,
        height, width]` of bytes or of floats from 0 to 1.
    tokens:
        The text of each token, for instance of `tokenizer.convert_ids_to_tokens(ids)`.
    grid:
        Rows and columns of the patches; a square by default, after up to 16 tokens such as CLS.
    text_after:
        With text and patches: whether the text follows the patches, as in SD 3, rather than coming first, as in FLUX.
    item:
        Which item of the batch.
    start:
        The token from which walks start when the page opens; a negative number counts from the end.
    bounces:
        Number of bounces, 1 to 30.
    alpha:
        Weight of attention in the teleporting chain of TokenRank and bounces, above 0 and at most 1.
    title:
        Heading of the page.

    Raises
    ------
    ValueError
        If maps were not kept, or the tokens do not fit.
    """
    calls = {name: layer.last for name, layer in seen.items()}
    if not calls:
        raise ValueError("nothing was seen: run the model inside the with-block of watch")
    kept = _kept(calls, item)
    states = int(kept.sum())
    parts = _parts(states, tokens, kept, image is not None, grid, text_after)
    heads = {call.heads for call in calls.values()}
    facts = [
        ("tokens", str(states) if states == len(kept) else f"{states} of {len(kept)}, without padding and dropped ones"),
        ("layers", str(len(calls))),
        ("heads", " or ".join(str(count) for count in sorted(heads))),
        ("α", f"{alpha:g}"),
        *(("note", note) for note in seen.notes),
    ]
    content = {
        "title": title or f"{len(calls)} layers · {states} tokens",
        "facts": facts,
        "image": None if image is None else _png(image),
        "parts": parts,
        "alpha": float(alpha),
        "start": _start(start, kept, parts),
        "bounces": bounces,
        "layers": [_layer(name, call, item, kept) for name, call in calls.items()],
    }
    _core.page(**content, notebook=None)  # so that an error comes from here
    return Page(content)


def _kept(calls: dict[str, Call], item: int) -> np.ndarray:
    """Returns which tokens all layers have kept, `[tokens]`."""
    kept: np.ndarray | None = None
    first = ""
    for name, call in calls.items():
        if not 0 <= item < call.batch:
            raise ValueError(f"item {item} does not exist: {name} has a batch of {call.batch}, counted from 0")
        if kept is None:
            kept, first = call.kept[item], name
        elif not np.array_equal(kept, call.kept[item]):
            raise ValueError(
                f"{first} has {int(kept.sum())} tokens and {name} has {int(call.kept[item].sum())}, or others: the page needs "
                "layers with the same tokens; choose them with layers= of watch"
            )
    assert kept is not None
    return kept


def _layer(name: str, call: Call, item: int, kept: np.ndarray) -> tuple[str, np.ndarray, np.ndarray | None, list[float]]:
    maps = call.values.get("maps")
    mean = call.values.get("mean_map")
    if maps is None and mean is None:
        raise ValueError(f"the maps of {name} were not kept: call watch with mean_map=True, or with maps=True for the single heads")
    heads = None if maps is None else np.ascontiguousarray(maps[item][:, kept][:, :, kept])
    one = heads.mean(0) if mean is None else mean[item][kept][:, kept]
    lambda2 = call.values.get("lambda2")
    return name, np.ascontiguousarray(one, np.float32), heads, [] if lambda2 is None else lambda2[item].tolist()


def _parts(
    states: int,
    tokens: Sequence[str] | None,
    kept: np.ndarray,
    has_image: bool,
    grid: tuple[int, int] | None,
    text_after: bool,
) -> list[tuple[Any, ...]]:
    """Returns what the states are, in order."""
    text: list[tuple[Any, ...]] = []
    if tokens is not None:
        pieces = _core.spelling([str(token) for token in tokens])
        if not has_image and grid is None:
            if len(pieces) == len(kept):
                pieces = [piece for piece, keep in zip(pieces, kept) if keep]
            if len(pieces) != states:
                raise ValueError(f"there are {len(tokens)} tokens, but the chains have {states}: give the text of every token")
            return [("text", pieces, 0)]
        text = [("text", pieces, 0)]
    if not has_image and grid is None:
        return [("named", [str(number) for number in np.flatnonzero(kept)])]
    rest = states - (len(text[0][1]) if text else 0)
    if grid is None:
        side = math.isqrt(max(rest, 0))
        if side == 0 or rest - side * side > MOST_SPECIAL:
            raise ValueError(f"the patches among {rest} tokens are no square: give grid=(rows, columns)")
        grid = side, side
    rows, columns = (int(length) for length in grid)
    special = rest - rows * columns
    if rows < 1 or columns < 1 or special < 0:
        raise ValueError(f"a grid of {rows} × {columns} patches does not fit into {rest} tokens")
    names = ["CLS", *(f"register {number}" for number in range(1, special))][:special]
    patches: list[tuple[Any, ...]] = [("named", names)] if names else []
    patches.append(("grid", rows, columns))
    return patches + text if text_after else text + patches


def _start(start: int | None, kept: np.ndarray, parts: list[tuple[Any, ...]]) -> int:
    """Returns the state from which walks start: the given token, the middle patch or the last token."""
    position = np.cumsum(kept) - 1
    if start is not None:
        token = token_number(start, len(kept))
        if not kept[token]:
            raise ValueError(f"token {token} is left out of the chain; name a token that is kept")
        return int(position[token])
    before = 0
    for part in parts:
        if part[0] == "grid":
            return before + part[1] // 2 * part[2] + part[2] // 2
        before += len(part[1])
    return int(kept.sum()) - 1


def _png(image: Any) -> bytes:
    """Returns an image as the content of a PNG file."""
    if isinstance(image, (str, os.PathLike)):
        content = Path(image).read_bytes()
        if content.startswith(PNG):
            return content
        return _encode(_pillow().open(io.BytesIO(content)))
    if hasattr(image, "save") and hasattr(image, "convert"):
        return _encode(image)
    if is_tensor(image):
        image = image.detach().cpu()
        image = image.float() if image.dtype.is_floating_point else image
    values = np.asarray(image)
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] not in (1, 3, 4):
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise ValueError(f"an image has the shape [height, width, 3] or [3, height, width], found {list(values.shape)}")
    if values.size == 0:
        raise ValueError(f"the image is empty, with shape {list(values.shape)}")
    top = 255.0 if values.dtype.kind in "ui" else 1.0
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= top):
        raise ValueError(
            f"an image has values from 0 to {top:g}, of whole numbers to 255 and of floats to 1, found {low:g} to {high:g}; undo "
            "the normalisation of the network's input"
        )
    values = np.round(values * (255.0 / top)).astype(np.uint8)
    return _encode(_pillow().fromarray(np.ascontiguousarray(values)))


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("images other than PNG files need Pillow: pip install pillow") from error
    return Image


def _encode(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()
