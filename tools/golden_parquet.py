#!/usr/bin/env python3
"""Writes the golden files of `[dataset.parquet]`: `crates/tasks/tests/fixtures/parquet/`.

    pip install pyarrow==26.0.1 datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
    cargo run -p tasks --example mini_export -- --out SCENES --split val --count 9
    python tools/golden_parquet.py SCENES

    hub/validation-0000?-of-00002.parquet   images and labels as the library `datasets` writes them
    scenes.parquet                          nine miniature scenes with object masks and label maps, written by `datasets`
    *.parquet                               other ways to store such columns, written by pyarrow
    golden.json                             what pyarrow, `datasets` and Pillow read from all of them
"""

import hashlib
import io
import json
import sys
from pathlib import Path

import datasets
import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "crates" / "tasks" / "tests" / "fixtures" / "parquet"
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})
NAMES = ["heron", "kettle", "violin"]
rng = np.random.default_rng(5)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def image(kind: str = "PNG", size: tuple[int, int] = (6, 4), orientation: int = 1) -> bytes:
    """A small image of noise."""
    pixels = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8))
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    pixels.save(buffer, kind, exif=exif)
    return buffer.getvalue()


def label_map(size: tuple[int, int] = (6, 4), values: tuple[int, ...] = (0, 1)) -> bytes:
    """A PNG of labels that shows every one of the values."""
    labels = rng.choice(values, (size[1], size[0])).astype(np.uint8)
    labels.flat[: len(values)] = values
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def structs(images: list, paths: list | None = None) -> pa.Array:
    paths = paths or [None] * len(images)
    return pa.array([None if i is None and p is None else {"bytes": i, "path": p} for i, p in zip(images, paths)], STRUCT)


def described(table: pa.Table) -> pa.Table:
    """The table with the metadata of `datasets`."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    info = {"info": {"features": features.to_dict()}}
    return table.replace_schema_metadata({"huggingface": json.dumps(info)})


def hub() -> None:
    """Two shards of a split and one of another, in small row groups, as `datasets` writes them."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    for split, sizes in {"validation": [5, 4], "test": [2]}.items():
        for number, size in enumerate(sizes):
            kinds = ["PNG", "JPEG"] * size
            rows = [image(kinds[i], (6 + i, 5), 6 if i == 1 else 1) for i in range(size)]
            data = {
                "image": [{"bytes": row, "path": f"{split}_{number}{i}.{kinds[i].lower()}"} for i, row in enumerate(rows)],
                "label": [-1 if split == "test" else (i + number) % 3 for i in range(size)],
            }
            path = OUT / "hub" / f"{split}-{number:05}-of-{len(sizes):05}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            datasets.Dataset.from_dict(data, features=features).to_parquet(path, batch_size=2)


def scenes(folder: Path) -> None:
    """Miniature scenes. The masks are label maps, in which classes count from 1."""
    lines = [json.loads(line) for line in (folder / "scenes.jsonl").read_text().splitlines()]
    names = "circle square triangle star cross ring heart crescent arrow hourglass".split()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names), "mask": datasets.Image()}
    )
    data = {"image": [], "label": [], "mask": []}
    for line in lines:
        name = Path(line["file"]).name
        data["image"].append({"bytes": (folder / "images" / name).read_bytes(), "path": line["file"]})
        data["mask"].append({"bytes": (folder / "masks" / name).read_bytes(), "path": None})
        data["label"].append(line["objects"][0]["label"])
    assert [names[label] for label in data["label"]] == [line["objects"][0]["class"] for line in lines]
    datasets.Dataset.from_dict(data, features=features).to_parquet(OUT / "scenes.parquet", batch_size=4)


def write(name: str, columns: dict, **options) -> None:
    pq.write_table(described(pa.table(columns)), OUT / f"{name}.parquet", **options)


def others() -> None:
    images = [image(size=(4 + i % 3, 3)) for i in range(7)]
    labels = pa.array([2, 0, 1, 1, 1, 0, 2])
    pages = {"use_dictionary": False, "write_batch_size": 1, "data_page_size": 1}
    nulls = [images[0], None, images[2], None, None, images[5], images[6]]
    write("one-group", {"image": structs(images), "label": labels}, compression="snappy")
    write("no-dictionary", {"image": structs(images), "label": labels}, use_dictionary=False, compression="none")
    write("zstd-pages", {"image": structs(images), "label": labels}, compression="zstd", row_group_size=4, **pages)
    write("gzip-v2", {"image": structs(nulls), "label": labels}, compression="gzip", data_page_version="2.0", **pages)
    write("snappy-v2", {"image": structs(nulls), "label": labels}, data_page_version="2.0", row_group_size=3)
    write("nulls", {"image": structs(nulls), "label": labels}, row_group_size=3)
    write("index", {"image": structs(images), "label": labels}, write_page_index=True, compression="zstd", **pages)
    # One image again and again: the dictionary has one entry.
    write("repeated", {"image": structs([images[0]] * 40), "label": pa.array([1] * 40)}, row_group_size=30)
    required = pa.schema([pa.field("picture", pa.binary(), False), pa.field("class", pa.int32(), False)])
    plain = pa.table({"picture": images, "class": labels.cast(pa.int32())}, schema=required)
    pq.write_table(plain, OUT / "plain-binary.parquet", compression="snappy", row_group_size=2)
    # Label maps with the values 0 to 3 and 255, object masks with 0, 1 and 9.
    write(
        "masks",
        {
            "image": structs([image(orientation=6), *(image() for _ in range(3))]),
            "label": pa.array([1, 0, 2, 1]),
            "mask": structs([label_map((4, 6), (0, 1, 9)), *(label_map(values=(0, 1, 9)) for _ in range(3))]),
            "map": structs([label_map((4, 6), (0, 3)), *(label_map(values=v) for v in [(0, 255), (1, 2, 3), (2, 255)])]),
        },
    )
    # Columns that are refused, and codecs and encodings.
    odd = {
        "image": structs(images[:2]),
        "label": pa.array([0, 1]),
        "text": ["a", "b"],
        "real": [0.5, 1.5],
        "list": pa.array([[images[0]], []], pa.list_(pa.binary())),
        "day": pa.array([1, 2], pa.date32()),
        "missing": pa.array([0, None]),
        "box": pa.array([{"x": 1}, {"x": 2}]),
    }
    write("odd", odd)
    write("brotli", {"image": structs(images[:1]), "label": labels[:1]}, compression="brotli")
    encodings = {"image.bytes": "DELTA_LENGTH_BYTE_ARRAY"}
    delta = {"use_dictionary": False, "column_encoding": encodings}
    write("delta", {"image": structs(images[:1]), "label": labels[:1]}, **delta)
    # The smallest file, of which the tests alter every byte.
    tiny = io.BytesIO()
    Image.new("L", (1, 1), 7).save(tiny, "PNG")
    table = pa.table({"image": structs([tiny.getvalue(), None]), "label": [0, 1], "mask": [tiny.getvalue()] * 2})
    bare = {"store_schema": False, "write_statistics": False}
    for codec in ["snappy", "zstd", "gzip"]:
        pq.write_table(table, OUT / f"tiny-{codec}.parquet", compression=codec, **bare)


def pixels(data: bytes | None) -> dict | None:
    """What `datasets` reads from the bytes of an image."""
    if data is None:
        return None
    decoded = datasets.Image().decode_example({"bytes": data, "path": None}).convert("RGB")
    return {"bytes": sha256(data), "size": list(decoded.size), "pixels": sha256(decoded.tobytes())}


def binary(value) -> bytes | None:
    return value["bytes"] if isinstance(value, dict) else value


def golden() -> dict:
    found = {}
    for path in sorted(OUT.glob("**/*.parquet")):
        table = pq.read_table(path)
        image_column = "picture" if "picture" in table.column_names else "image"
        label_column = "class" if "class" in table.column_names else "label"
        rows = []
        for row in table.to_pylist():
            value = row[image_column]
            entry = {
                "path": value["path"] if isinstance(value, dict) else None,
                "label": row[label_column],
                "image": pixels(binary(value)),
            }
            for column in ("mask", "map"):
                if column in row:
                    samples = np.asarray(Image.open(io.BytesIO(binary(row[column]))))
                    entry[column] = sha256(samples.tobytes())
            rows.append(entry)
        groups = pq.ParquetFile(path).metadata.num_row_groups
        found[path.relative_to(OUT).as_posix()] = {"row_groups": groups, "rows": rows}
    return found


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    hub()
    scenes(Path(sys.argv[1]))
    others()
    versions = {"pyarrow": pa.__version__, "datasets": datasets.__version__, "pillow": PIL.__version__}
    text = json.dumps({"versions": versions, "files": golden()}, indent=1)
    (OUT / "golden.json").write_text(text + "\n")
