"""Files of scores that experiments of the `tokenrank` program read as methods.

The safetensors format is written here, because the package needs numpy only and the format is a JSON header before the numbers.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from . import _core
from ._convert import is_tensor, tensor_to_array, torch_if_loaded

FORMAT = "tokenrank scores 1"
"""Value of `format` in the metadata; see docs/scores.md of the repository."""

LONGEST_NAME = 512
"""Longest name of a tensor, in bytes."""

MOST_SEGMENTS = 65_536
"""Largest number of segments in one label map."""

DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
}


def write_scores(
    path: str | os.PathLike[str],
    scores: Mapping[str | tuple[str, str], Any],
    *,
    task: Literal["masking", "segment", "diffseg"],
    name: str | None = None,
) -> Path:
    """Writes scores that were computed in Python, so that an experiment of the `tokenrank` program takes them as a method.

    The experiment names the file: `methods = ["column-sum", { file = "./scores.safetensors", name = "my score" }]`.

    Parameters
    ----------
    path:
        The file, which is replaced as a whole or not at all.
    scores:
        One array for each image, by the name under which the dataset lists it (`id` in the `records.jsonl` of a run, such as
        `n01440764/ILSVRC2012_val_00000293.JPEG`). In segmentation the name of the class belongs to it: `("2007_000033",
        "plane")`. numpy arrays or torch tensors:

        - masking: `[rows, columns]` of the grid of patches, or `[patches]`; higher is more important. CLS has no score.
        - segment: real numbers are a signal `[rows, columns]` over the image tokens, or `[tokens]`; bool, or 0 and 1 of uint8, is
          a mask `[height, width]` in pixels of the image.
        - diffseg: real numbers are a score of the finest self-attention tokens, from which anchors are picked; whole numbers are
          a label map `[side, side]`, which replaces the clustering.
    task:
        The experiment that the scores are for.
    name:
        Name of the method, for people who open the file.

    Raises
    ------
    ValueError, TypeError
        For NaN and infinities, wrong shapes, and arrays of different sorts; the message names the image.
    """
    if task not in ("masking", "segment", "diffseg"):
        raise ValueError(f'task is "masking", "segment" or "diffseg", found {task!r}')
    if not scores:
        raise ValueError("there are no scores to write: give an array for each image")
    tensors: dict[str, tuple[str, np.ndarray]] = {}
    sorts: dict[str, str] = {}
    for key, value in scores.items():
        image = _image(key)
        if image in tensors:
            raise ValueError(f"{image} was given twice")
        dtype, array = _array(value, image)
        sorts.setdefault(_check(dtype, array, image, task), image)
        tensors[image] = dtype, array
    if len(sorts) > 1:
        (one, first), (other, second) = list(sorts.items())[:2]
        raise ValueError(f"{first} has {one} and {second} has {other}; a file has arrays of one sort")
    metadata = {"format": FORMAT, "task": task, "writer": f"tokenrank {_core.__version__}"}
    if name is not None:
        metadata["name"] = name
    return _write(Path(path), tensors, metadata)


def _image(key: Any) -> str:
    parts = (key,) if isinstance(key, str) else key
    if not (isinstance(parts, tuple) and len(parts) in (1, 2) and all(isinstance(part, str) for part in parts)):
        raise TypeError(f"scores are named by the image, or by (image, class), found {key!r}")
    image = ":".join(parts)
    if not image or image == "__metadata__":
        raise ValueError(f"{image!r} cannot be the name of an image")
    if len(image.encode()) > LONGEST_NAME:
        raise ValueError(f"the name {image[:40]}… has more than {LONGEST_NAME} bytes")
    return image


def _array(value: Any, image: str) -> tuple[str, np.ndarray]:
    if is_tensor(value):
        bits = value.dtype == torch_if_loaded().bfloat16
        array = tensor_to_array(value)
        if bits:
            return "BF16", np.ascontiguousarray(array)
    else:
        array = np.asarray(value)
    dtype = DTYPES.get(array.dtype.name)
    if dtype is None or isinstance(value, np.ma.MaskedArray):
        kind = "a masked array" if isinstance(value, np.ma.MaskedArray) else f"an array of {array.dtype}"
        raise TypeError(f"{image}: expected an array of real or whole numbers, found {kind}")
    return dtype, np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def _check(dtype: str, array: np.ndarray, image: str, task: str) -> str:
    """Checks the array of an image and returns its sort."""
    shape = list(array.shape)
    if array.size == 0:
        raise ValueError(f"{image}: the array is empty, with shape {shape}")
    real = dtype in ("F64", "F32", "F16", "BF16")
    if real:
        if array.ndim not in (1, 2):
            raise ValueError(f"{image}: expected [rows, columns] or one number for each token, found shape {shape}")
        values = (array.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else array
        wrong = ~(np.abs(values) <= np.finfo(np.float32).max)
        if wrong.any():
            place = tuple(np.argwhere(wrong)[0].tolist())
            raise ValueError(f"{image}: the score at {place} is {values[place]}; scores are finite numbers of float32's range")
        return "scores" if task == "masking" else "real numbers"
    if task == "masking":
        raise TypeError(f"{image}: scores of patches are real numbers, found {array.dtype}; convert them with .astype(float)")
    if array.ndim != 2:
        raise ValueError(f"{image}: expected [height, width], found shape {shape}")
    if task == "segment":
        if dtype not in ("BOOL", "U8") or (dtype == "U8" and array.max() > 1):
            raise ValueError(f"{image}: a mask is an array of bool, or of uint8 with 0 and 1 only")
        return "a mask"
    if dtype != "BOOL" and array.min() < 0:
        raise ValueError(f"{image}: the labels of segments are 0 or larger, found {array.min()}")
    if shape[0] != shape[1]:
        raise ValueError(f"{image}: a label map is square, [side, side] of the image's central square, found shape {shape}")
    if len(np.unique(array)) > MOST_SEGMENTS:
        raise ValueError(f"{image}: the label map has more than {MOST_SEGMENTS} segments")
    return "a label map"


def _write(path: Path, tensors: dict[str, tuple[str, np.ndarray]], metadata: dict[str, str]) -> Path:
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for image, (dtype, array) in tensors.items():
        header[image] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned
    number, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(number, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, array in tensors.values():
                file.write(array.tobytes())
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path
