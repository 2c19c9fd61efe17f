"""Files of scores, read back with a reader written for this test."""

import json

import numpy as np
import pytest

import tokenrank as tr

NUMBERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?", "U8": "u1", "I64": "<i8"}


def read(path):
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    metadata = header.pop("__metadata__")
    arrays = {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], NUMBERS[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }
    return metadata, arrays, {name: entry["dtype"] for name, entry in header.items()}


@pytest.mark.parametrize("dtype, code", [(np.float64, "F64"), (np.float32, "F32"), (np.float16, "F16"), (">f4", "F32")])
def test_scores_are_written_as_they_are(tmp_path, dtype, code):
    scores = {"a/Bär.jpg": np.arange(6.0).reshape(2, 3).astype(dtype), "b.jpg": np.ones(6)[::-1].astype(dtype)}
    path = tr.write_scores(tmp_path / "scores.safetensors", scores, task="masking", name="my score")
    metadata, arrays, codes = read(path)
    assert metadata["format"] == "tokenrank scores 1" and metadata["task"] == "masking" and metadata["name"] == "my score"
    assert set(codes.values()) == {code}
    for image, array in scores.items():
        np.testing.assert_array_equal(arrays[image], array)
    assert [file.name for file in tmp_path.iterdir()] == ["scores.safetensors"]


def test_masks_and_label_maps_keep_their_sort(tmp_path):
    mask = np.eye(4, dtype=bool)
    path = tr.write_scores(tmp_path / "m", {("img", "dog"): mask, ("img", "cat"): mask.astype(np.uint8)}, task="segment")
    _, arrays, codes = read(path)
    assert codes == {"img:dog": "BOOL", "img:cat": "U8"}
    np.testing.assert_array_equal(arrays["img:cat"], mask)
    path = tr.write_scores(tmp_path / "l", {"img": np.arange(16).reshape(4, 4)}, task="diffseg")
    assert read(path)[2] == {"img": "I64"}


def test_tensors_are_written_too(tmp_path):
    torch = pytest.importorskip("torch")
    scores = torch.arange(6, dtype=torch.bfloat16).reshape(3, 2).T
    _, arrays, codes = read(tr.write_scores(tmp_path / "s", {"img": scores}, task="masking"))
    assert codes == {"img": "BF16"}
    np.testing.assert_array_equal((arrays["img"].astype(np.uint32) << 16).view(np.float32), scores.float())


@pytest.mark.parametrize(
    "scores, task, error, words",
    [
        ({}, "masking", ValueError, "no scores"),
        ({"a": [1.0]}, "sorting", ValueError, "sorting"),
        ({"a": [1.0, np.nan]}, "masking", ValueError, r"a: the score at \(1,\) is nan"),
        ({"a": [[1.0, np.inf]]}, "segment", ValueError, r"\(0, 1\) is inf"),
        ({"a": [1e300]}, "masking", ValueError, "float32"),
        ({"a": np.ones((2, 2, 2))}, "masking", ValueError, r"\[2, 2, 2\]"),
        ({"a": np.ones((0, 2))}, "masking", ValueError, "empty"),
        ({"a": np.ones(4, int)}, "masking", TypeError, "real numbers"),
        ({"a": np.ones(4, complex)}, "masking", TypeError, "complex128"),
        ({"a": np.full((2, 2), 255, np.uint8)}, "segment", ValueError, "0 and 1"),
        ({"a": np.ones(4, bool)}, "segment", ValueError, r"\[height, width\]"),
        ({"a": np.ones((2, 3), int)}, "diffseg", ValueError, "square"),
        ({"a": np.full((2, 2), -1)}, "diffseg", ValueError, "-1"),
        ({"a": np.ones((2, 2), bool), "b": np.ones(4)}, "segment", ValueError, "a has a mask and b has real numbers"),
        ({("a", "b"): [1.0], "a:b": [1.0]}, "segment", ValueError, "a:b was given twice"),
        ({3: [1.0]}, "masking", TypeError, "named by the image"),
        ({"": [1.0]}, "masking", ValueError, "name of an image"),
        ({"x" * 513: [1.0]}, "masking", ValueError, "512"),
    ],
)
def test_wrong_scores_are_refused_and_nothing_is_written(tmp_path, scores, task, error, words):
    target = tmp_path / "scores.safetensors"
    target.write_text("older")
    with pytest.raises(error, match=words):
        tr.write_scores(target, scores, task=task)
    assert target.read_text() == "older" and len(list(tmp_path.iterdir())) == 1
