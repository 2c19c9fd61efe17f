"""Writes the seeds of the fuzz corpus: a small whole file of every kind, and the hostile ones of results/reliability/README.md.

    python tools/fuzz_seeds.py

Needs NumPy. Files are named by what they are; those that a fuzzer found stay beside them under the names it gave.
"""

import base64
import hashlib
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz" / "corpus"
MODELS = ROOT / "crates" / "models" / "tests" / "fixtures"
CUT = b"\xff"
SHAPES = "background circle square triangle star cross ring heart crescent arrow hourglass".split()


def put(target: str, name: str, data: bytes | str) -> None:
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def tensors(header: dict | str, data: bytes = b"") -> bytes:
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text)) + text.encode() + data


def tensor(shape: list, offsets: list, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def safetensors() -> None:
    ones = np.ones(4, np.float32).tobytes()
    one = json.dumps(tensor([2, 2], [0, 16]))
    for name, data in {
        "whole": tensors({"a": tensor([2, 2], [0, 16])}, ones),
        "two": tensors({"a": tensor([1, 2], [0, 8]), "b": tensor([2], [8, 16])}, ones),
        "features": tensors(
            {
                "__metadata__": {"format": "tokenrank features 1", "features": "x", "weights_sha256": "y"},
                "ids": tensor([1], [0, 8], "I64"),
                "features": tensor([1, 2], [8, 16]),
            },
            ones,
        ),
        "header-bomb": struct.pack("<Q", 1 << 62) + b"{}",
        "header-beyond-file": struct.pack("<Q", 99_999_999) + b"{}",
        "overlap": tensors({"a": tensor([2], [0, 8]), "b": tensor([2], [4, 12])}, ones[:12]),
        "gap": tensors({"a": tensor([2], [4, 12])}, ones[:12]),
        "beyond": tensors({"a": tensor([4], [0, 16])}, ones[:8]),
        "overflow": tensors({"a": tensor([1 << 40, 1 << 40], [0, 16])}, ones),
        "empty-and-huge": tensors({"a": tensor([0, 1 << 62], [0, 0])}),
        "reversed": tensors({"a": tensor([2], [8, 0])}, ones[:8]),
        "twice": tensors(f'{{"a":{one},"a":{one}}}', ones),
        "long-name": tensors({"a" * 600: tensor([2, 2], [0, 16])}, ones),
        "deep": tensors("[" * 1000),
    }.items():
        put("safetensors", name, data)


def scores() -> None:
    def of(task: str, *arrays: np.ndarray, names: tuple = ("val-000000", "val-000001"), kind: str = "tokenrank scores 1") -> bytes:
        header, data = {"__metadata__": {"format": kind, "task": task}}, b""
        types = {"f8": "F64", "f4": "F32", "f2": "F16", "u1": "U8", "i4": "I32", "i8": "I64", "u8": "U64", "b1": "BOOL"}
        for name, array in zip(names, arrays, strict=True):
            bytes_of = array.tobytes()
            header[name] = tensor(list(array.shape), [len(data), len(data) + len(bytes_of)], types[array.dtype.str[1:]])
            data += bytes_of
        return tensors(header, data)

    small, flat = np.arange(4, dtype=np.float32).reshape(2, 2), np.arange(4, dtype=np.float16)
    map_of = np.arange(16, dtype=np.int32).reshape(4, 4)
    mask = np.eye(3, dtype=np.uint8)
    for name, data in {
        "masking": of("masking", small, flat),
        "masking-nan": of("masking", small, np.array([0, 1, np.nan, 2], np.float64)),
        "masking-huge": of("masking", small, np.array([[0, 1], [1e300, 2]], np.float64)),
        "masking-other-grid": of("masking", small, np.ones((3, 2), np.float32)),
        "masking-one": of("masking", small, names=("val-000000",)),
        "masking-version": of("masking", small, flat, kind="tokenrank scores 9"),
        "segment": of("segment", small, flat),
        "segment-masks": of("segment", mask, mask.astype(bool)),
        "segment-empty": of("segment", mask[:0], mask),
        "segment-classes": of("segment", small, small, small, names=("val-000000", "val-000001", "val-000001:square")),
        "diffseg": of("diffseg", small, flat),
        "diffseg-maps": of("diffseg", map_of, map_of.astype(np.int64) << 40),
        "diffseg-largest": of("diffseg", map_of, np.full((4, 4), 2**64 - 1, np.uint64)),
        "diffseg-negative": of("diffseg", map_of, -map_of),
        "diffseg-mixed": of("diffseg", small, map_of),
        "no-task": tensors({"__metadata__": {"format": "tokenrank scores 1"}}),
        "no-tensors": of("masking", names=()),
    }.items():
        put("scores", name, data)


def pytorch() -> None:
    fixtures = MODELS / "pytorch"
    for name in ("plain", "legacy_tied", "python2", "strides", "expanded", "tied", "empty", "linear_head", "nested", "types"):
        put("pytorch", name, (fixtures / f"{name}.pt").read_bytes())
    magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}."
    for name, pickle in {
        "system": b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.",
        "itself": b"\x80\x02}q\0X\x02\0\0\0meh\0s.",
        "deep": b"\x80\x02" + b"}X\x01\0\0\0k" * 200 + b"}" + b"s" * 200 + b".",
    }.items():
        put("pytorch", name, magic + pickle)


def array_file(array: np.ndarray, version: tuple | None = None) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version)
    return out.getvalue()


def npy_header(text: str, length: int | None = None) -> bytes:
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text) if length is None else length) + text.encode()


def npy() -> None:
    two = np.array([[0.75, 0.25], [0.5, 0.5]])
    for name, data in {
        "f8": array_file(two),
        "f4-v2": array_file(two.astype("<f4"), (2, 0)),
        "f2-big-endian": array_file(two.astype(">f2")),
        "fortran": array_file(np.asfortranarray(np.stack([two, two]))),
        "header-bomb": npy_header("{", 0xFFFFFFFF),
        "shape-bomb": npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 1099511627776)}"),
        "shape-beyond-file": npy_header("{'descr': '<f8', 'fortran_order': True, 'shape': (100000, 100000)}"),
        "dimensions": npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1," * 100 + ")}"),
        "cut": array_file(two)[:-3],
    }.items():
        put("npy", name, data)


def npz() -> None:
    mu, sigma = np.arange(2.0), np.eye(2)
    for name, save in {"stored": np.savez, "deflated": np.savez_compressed}.items():
        out = io.BytesIO()
        save(out, mu=mu, sigma=sigma)
        put("npz", name, out.getvalue())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("../mu.npy"), array_file(mu))
        archive.writestr(zipfile.ZipInfo("/sigma.npy"), array_file(sigma))
    put("npz", "names", out.getvalue())
    lie = bytearray((CORPUS / "npz" / "stored").read_bytes())
    at = lie.index(b"PK\x01\x02")
    lie[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)  # bytes before compression
    put("npz", "size-lie", bytes(lie))


def saved(save, **arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    save(out, **arrays)
    return out.getvalue()


def statistics() -> None:
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    for name, (mu, sigma) in {
        "whole": (np.arange(2.0), np.eye(2)),
        "float32": (np.arange(2, dtype=np.float32), turn @ np.diag([2, 1e-9]) @ turn.T),
        "one": (np.zeros(1), np.zeros((1, 1))),
        "none": (np.zeros(0), np.zeros((0, 0))),
        "not-a-number": (np.array([np.nan, 0]), np.eye(2)),
        "infinite": (np.zeros(2), np.diag([np.inf, 1])),
        "huge": (np.full(2, 1e300), np.full((2, 2), 1e308)),
        "negative": (np.zeros(2), -np.eye(2)),
        "not-symmetric": (np.zeros(2), np.array([[0, 1e10], [-1e10, 0]])),
        "shapes": (np.eye(2), np.zeros(3)),
        "sizes": (np.zeros(3), np.eye(2)),
    }.items():
        put("statistics", name, saved(np.savez, mu=mu, sigma=sigma))
    put("statistics", "deflated", saved(np.savez_compressed, mu=np.zeros(2), sigma=np.eye(2)))


def matrix_keys() -> None:
    two = np.array([[0.75, 0.25], [0.5, 0.5]], np.float32)
    names = ["block.0.probs", "block.1.probs", "text.ids", "a,b", "*"]
    each = {name: tensor([2, 2], [16 * i, 16 * i + 16]) for i, name in enumerate(names)}
    whole = tensors(each, two.tobytes() * len(names))
    for name, (keys, data) in {
        "default": ("", whole),
        "pattern": ("block.*.probs", whole),
        "list": ("block.0.probs, text.ids\na,b\n*", whole),
        "stars": ("*" * 300 + "b", tensors({"b" * 200: tensor([2, 2], [0, 16])}, two.tobytes())),
        "unknown": ("block.9.probs", whole),
        "npz": ("a", saved(np.savez, a=two, b=two)),
        "npz-deflated": ("*", saved(np.savez_compressed, a=two, b=two[0])),
    }.items():
        put("matrix_keys", name, CUT.join([keys.encode(), data]))


def vit(layers: int = 1, width: int = 2, side: int = 2) -> dict[str, np.ndarray]:
    """The weights of a vision transformer with two tokens and two classes."""

    def linear(name: str, *shape: int) -> dict:
        return {f"{name}.weight": np.ones(shape), f"{name}.bias": np.zeros(shape[0])}

    found = linear("vit.embeddings.patch_embeddings.projection", width, 3, side, side)
    found |= {"vit.embeddings.cls_token": np.zeros((1, 1, width)), "vit.embeddings.position_embeddings": np.ones((1, 2, width))}
    for i in range(layers):
        layer = f"vit.encoder.layer.{i}"
        for name in ["attention.attention.query", "attention.attention.key", "attention.attention.value",
                     "attention.output.dense", "intermediate.dense", "output.dense"]:  # fmt: skip
            found |= linear(f"{layer}.{name}", width, width)
        found |= linear(f"{layer}.layernorm_before", width) | linear(f"{layer}.layernorm_after", width)
    return found | linear("vit.layernorm", width) | linear("classifier", 2, width)


def checkpoints() -> None:
    config = {
        "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 2, "num_hidden_layers": 1,
        "num_attention_heads": 1, "intermediate_size": 2, "patch_size": 2, "image_size": 2, "layer_norm_eps": 1e-6,
        "hidden_act": "gelu", "qkv_bias": True, "id2label": {"0": "cat", "1": "dog"},
    }  # fmt: skip
    weights = vit()

    def packed(weights: dict[str, np.ndarray]) -> bytes:
        header, data = {}, b""
        for name, array in weights.items():
            more = array.astype(np.float32).tobytes()
            header[name] = tensor(list(array.shape), [len(data), len(data) + len(more)])
            data += more
        return tensors(header, data)

    dropped = {name: array for name, array in weights.items() if name != "vit.layernorm.bias"}
    for name, (changes, data) in {
        "whole": ({}, weights),
        "nothing": ({}, {}),
        "lacks-one": ({}, dropped),
        "one-too-many": ({}, weights | {"extra": np.zeros(1)}),
        "other-shape": ({}, weights | {"vit.layernorm.bias": np.zeros((2, 1))}),
        "huge-image": ({"image_size": [1 << 30, 1 << 30]}, weights),
        "huge-width": ({"hidden_size": 1 << 40}, weights),
        "huge-patch": ({"patch_size": 1 << 31}, weights),
        "many-layers": ({"num_hidden_layers": 1024}, weights),
        "labels": ({"id2label": {"-1": "a", "18446744073709551616": "b", "": "c"}}, weights),
        "no-classifier": ({"architectures": ["ViTModel"], "id2label": None}, weights),
        "not-a-number": ({}, weights | {"classifier.bias": np.full(2, np.nan)}),
        "other-file": ({"transformers_weights": "../model.safetensors"}, weights),
    }.items():
        put("checkpoint", name, CUT.join([json.dumps(config | changes).encode(), packed(data)]))


def preprocessors() -> None:
    """The configurations of the golden file that differ in their keys, and hostile ones."""
    golden = json.loads((MODELS / "image" / "preprocess.json").read_text())
    seen: dict[tuple, dict] = {}
    for config in [case["config"] for case in golden["cases"]] + golden["refused"]:
        seen.setdefault(tuple(sorted(config)), config)
    for number, config in enumerate(seen.values()):
        small = json.dumps(config).replace("48", "8").replace("47", "7").replace("40", "9")
        put("processor", f"golden-{number:02}", small)
    clip = {"image_processor_type": "CLIPImageProcessor"}
    for name, change in {
        "huge-size": {"size": 1 << 62}, "huge-crop": {"size": 8, "crop_size": {"height": 1 << 40, "width": 1}},
        "zero": {"size": 0}, "negative": {"size": -8}, "fraction": {"size": 7.5}, "list": {"size": [8, 8, 8]},
        "std-zero": {"size": 8, "crop_size": 8, "image_std": [0, 0, 0]}, "mean-huge": {"size": 8, "image_mean": [1e308] * 3},
        "mean-short": {"size": 8, "image_mean": [0.5]}, "resample": {"size": 8, "resample": 99},
        "factor": {"size": 8, "crop_size": 8, "rescale_factor": 1e-320}, "unknown": {"image_processor_type": "../../x"},
    }.items():  # fmt: skip
        put("processor", name, json.dumps(clip | change))
    put("processor", "deep", '{"size":' + "[" * 2000)


def exif() -> None:
    """The images of the golden file with one stored orientation, and directories that lead nowhere or in circles."""
    golden = json.loads((MODELS / "image" / "orientation.json").read_text())
    for image in golden["pictures"]:
        data = bytes.fromhex(image["file"])
        if len(data) < 1200:
            put("exif", image["name"].replace(" ", "-").replace("/", "-"), data)

    def jpeg(tiff: bytes) -> bytes:
        body = b"Exif\0\0" + tiff
        return b"\xff\xd8\xff\xe1" + struct.pack(">H", 2 + len(body)) + body + b"\xff\xd9"

    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    head = b"II*\0" + struct.pack("<I", 8)
    for name, tiff in {
        "whole": head + struct.pack("<H", 1) + entry + bytes(4),
        "offset-huge": b"II*\0" + struct.pack("<I", 0xFFFFFFFF),
        "offset-inside-head": b"II*\0" + struct.pack("<I", 0) + struct.pack("<H", 1) + entry,
        "entries-huge": head + struct.pack("<H", 0xFFFF) + entry * 3,
        "count-huge": head + struct.pack("<H", 1) + struct.pack("<HHIHH", 0x0112, 3, 0xFFFFFFFF, 6, 0),
        "type-unknown": head + struct.pack("<H", 1) + struct.pack("<HHIHH", 0x0112, 99, 1, 6, 0),
        "value-zero": head + struct.pack("<H", 1) + struct.pack("<HHIHH", 0x0112, 3, 1, 0, 0),
        "value-huge": head + struct.pack("<H", 1) + struct.pack("<HHII", 0x0112, 4, 1, 0xFFFFFFFF),
        "circle": head + struct.pack("<H", 0) + struct.pack("<I", 8),
        "order-unknown": b"XX*\0" + struct.pack("<I", 8),
        "short": b"II",
    }.items():
        put("exif", f"{name}.jpg", jpeg(tiff))
        put("exif", f"{name}.png", png(1, 1, b"\0\0", chunk(b"eXIf", tiff)))
    put("exif", "length-lie.jpg", b"\xff\xd8\xff\xe1\xff\xffExif\0\0II")
    put("exif", "fill.jpg", b"\xff\xd8" + b"\xff" * 2000 + b"\xe1\0\x02")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, extra: bytes = b"", interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlace)
    idat = chunk(b"IDAT", zlib.compress(data, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + idat + chunk(b"IEND", b"")


def pictures() -> None:
    whole = (b"\0" + bytes(8)) * 8
    folder = MODELS / "image" / "pictures"
    files = sorted(folder.iterdir(), key=lambda path: (path.suffix, path.stat().st_size))
    jpegs = [path for path in files if path.suffix in (".jpg", ".jpeg")][:4]
    for path in jpegs + [path for path in files if path.suffix == ".png"][:8]:
        put("picture", path.name, path.read_bytes())
    jpeg = bytearray(jpegs[0].read_bytes())
    frame = next(i for i in range(2, len(jpeg)) if jpeg[i] == 0xFF and 0xC0 <= jpeg[i + 1] <= 0xC2)
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 13000, 13000)
    scan = bytes(jpegs[0].read_bytes())
    at = scan.rindex(b"\xff\xd9")
    tiff = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x0112, 3, 1, 6) + bytes(4)
    exif = lambda data: scan[:2] + b"\xff\xe1" + struct.pack(">H", len(data) + 8) + b"Exif\0\0" + data + scan[2:]
    bombs = {
        "exif.jpg": exif(tiff),
        "exif-beyond.jpg": exif(tiff[:4] + b"\xff\xff\xff\xff" + tiff[8:]),
        "exif-entries.jpg": exif(tiff[:8] + b"\xff\xff" + tiff[10:]),
        "exif.png": png(8, 8, whole, chunk(b"eXIf", tiff)),
        "bomb.png": png(100_000, 100_000, whole),
        "area.png": png(13_000, 13_000, whole),
        "zero.png": png(0, 8, whole),
        "interlaced.png": png(8, 8, whole, interlace=1),
        "text.png": png(8, 8, whole, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20), 9))),
        "profile.png": png(8, 8, whole, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(1 << 20), 9))),
        "zlib.png": png(8, 8, bytes(1 << 20)),
        "area.jpg": bytes(jpeg),
        "scans.jpg": scan[:at] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00" * 300 + scan[at:],
    }
    for name, data in bombs.items():
        put("picture", name, data)
        if name.endswith("png"):
            put("label_map", name, data)
    put("label_map", "whole.png", png(8, 8, whole))
    for name in ["palette1.png", "gray4-interlaced.png", "palette2.png", "gray2.png"]:
        put("label_map", name, (folder / name).read_bytes())


def tokenizers() -> None:
    clip, t5 = MODELS / "clip-tokenizer", MODELS / "t5-tokenizer"
    vocabulary, merges = (clip / "vocab.json").read_bytes(), (clip / "merges.txt").read_bytes()
    put("clip_tokenizer", "whole", CUT.join([vocabulary, merges, b"", b"{}", b"", b"", "a Photo of a cat, 2!".encode()]))
    both = {"model": {"vocab": json.loads(vocabulary), "merges": merges.decode().splitlines()[1:]}, "added_tokens": []}
    put("clip_tokenizer", "one-file", CUT.join([b"", b"", json.dumps(both).encode(), b"", b"", b"", b"cat"]))
    odd = {"<|startoftext|>": 4294967295, "<|endoftext|>": 0, "a</w>": 4294967294}
    put("clip_tokenizer", "huge-ids", CUT.join([json.dumps(odd).encode(), b"\n", b"", b"", b"", b"", b"a"]))
    put("clip_tokenizer", "length", CUT.join([vocabulary, merges, b"", b'{"model_max_length": 1e19}', b"", b"", b""]))
    put("clip_tokenizer", "deep", CUT.join([b"[" * 2000, merges]))
    whole = json.loads((t5 / "tokenizer.json").read_bytes())
    put("t5_tokenizer", "whole", CUT.join([json.dumps(whole).encode(), b"{}", "A cat's  hat".encode()]))
    for name, charsmap in {
        "charsmap-size": b"\xff\xff\xff\xff",
        "charsmap-empty": bytes(4),
        "charsmap-outside": struct.pack("<II", 4, 0xFFFFFFFF),
    }.items():
        table = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}
        put("t5_tokenizer", name, CUT.join([json.dumps(whole | {"normalizer": table}).encode(), b"", b"cat"]))
    absent = json.dumps(whole | {"normalizer": {"type": "Precompiled"}}).encode()
    put("t5_tokenizer", "charsmap-absent", CUT.join([absent, b"", b"cat"]))
    put("t5_tokenizer", "deep", CUT.join([b"[" * 2000, b"{}"]))
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 100}
    steps = {"type": "Sequence", "normalizers": [grow] * 4}
    padding = {"strategy": {"Fixed": 10**9}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0,
               "pad_type_id": 0, "pad_token": "<pad>"}  # fmt: skip
    for name, change in {
        "replacements-multiply": {"normalizer": steps},
        "prefix": {"normalizer": {"type": "Prepend", "prepend": "a" * 4096}},
        "regular-expression": {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}},
        "split": {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a|a)*$"}, "behavior": "Isolated", "invert": False}},
        "padding": {"padding": padding},
        "long-token": {"model": whole["model"] | {"vocab": [*whole["model"]["vocab"], ["x" * 4096, 0.0]]}},
        "other-model": {"model": {"type": "WordPiece", "unk_token": "", "vocab": {}}},
    }.items():
        put("t5_tokenizer", name, CUT.join([json.dumps(whole | change).encode(), b"{}", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaa!"]))


def configurations() -> None:
    seen = set()
    for path in sorted(MODELS.glob("**/*config.json")) + sorted(MODELS.glob("**/model_index.json")):
        data = path.read_bytes()
        key = (path.name, json.loads(data).get("_class_name"), json.loads(data).get("model_type"))
        if key not in seen and len(data) < 4000:
            seen.add(key)
            put("config", f"{path.relative_to(MODELS).as_posix().replace('/', '-')}", data)
    for key, number in {
        "num_hidden_layers": 1 << 60, "num_attention_heads": 0, "patch_size": 0, "hidden_size": -1, "image_size": 1 << 62
    }.items():
        put("config", f"vit-{key}", json.dumps({"model_type": "vit", key: number}))
    unet = json.loads((MODELS / "unet-sd1" / "config.json").read_bytes())
    put("config", "unet-layers", json.dumps(unet | {"layers_per_block": 1 << 60}))
    put("config", "ddim-times", json.dumps({"_class_name": "DDIMScheduler", "num_train_timesteps": 1 << 60}))
    put("config", "deep", "[" * 2000)
    for name, shards in {
        "whole": ["one.safetensors"],
        "parent": ["../one.safetensors"],
        "absolute": ["/etc/passwd"],
        "dots": ["..", ".", "", "one.safetensors/.."],
        "missing": ["two.safetensors"],
    }.items():
        put("weight_index", name, json.dumps({"weight_map": {f"t{i}": shard for i, shard in enumerate(shards)}}))
    put("weight_index", "deep", '{"weight_map":' + "[" * 2000)


def lists() -> None:
    put("gtsegs", "whole", (ROOT / "crates/tasks/tests/fixtures/gtsegs/gtsegs.mat").read_bytes())
    whole = "file,label,name,mask,value\none.png,1,cat,one.png,1\n"
    for name, text in {
        "whole": whole,
        "parent": whole + "../one.png,1,cat,,\n",
        "absolute": whole + "/etc/passwd,1,cat,/etc/passwd,\n",
        "mask": "file,name,mask\none.png,cat,../masks/one.png\n",
        "huge-label": "file,label\none.png,18446744073709551616\n",
        "quotes": 'file,label\n"' + "a" * 2000,
        "columns": ",".join(["file"] * 2000) + "\n" + "," * 1999,
    }.items():
        put("table", name, text)
    for name, text in {
        "names": "one\n",
        "ground-truth": "one.JPEG 3\n",
        "synsets": "one n01440764\n",
        "synset-list": "n01440764 tench\n",
        "parent": "../JPEGImages/one\n",
        "absolute": "/etc/passwd 1\n",
        "numbers": "490\n361\n",
    }.items():
        put("list", name, text)


def names() -> None:
    lines = 'n01440764 = "tench"\nn02123045 = "cat"\n'
    for name, text in {
        "whole": (ROOT / "datasets" / "imagenet-segmentation" / "names.toml").read_text(),
        "few": lines,
        "empty-name": lines + 'n02123046 = " "\n',
        "number": "n02123045 = 1\n",
        "table": "[n02123045]\nname = 'cat'\n",
        "twice": lines + lines,
        "deep": ".".join("a" * 2000) + " = 'cat'",
        "control": 'n02123045 = "\\u001b[2J\\u202e"\n',
    }.items():
        put("synset_names", name, text)


def inputs() -> None:
    stamp = {"bytes": 9, "modified": 1, "changed": 2}
    line = compact({"id": "one", "sha256": "a" * 64, "files": [stamp]})
    for name, text in {
        "whole": line + "\n" + line.replace("one", "two") + "\n",
        "cut": line + "\n" + line[:40],
        "extremes": compact({"id": "", "sha256": "", "files": [dict.fromkeys(stamp, (1 << 64) - 1)] * 99}),
        "beyond": line.replace("9", "18446744073709551616"),
        "negative": line.replace("9", "-9"),
        "unknown": line[:-1] + ',"other":1}',
        "many-files": line.replace(compact(stamp), ",".join([compact(stamp)] * 99)),
        "deep": "[" * 2000,
    }.items():
        put("inputs", name, text)


def experiments() -> None:
    for path in sorted((ROOT / "configs" / "mini").glob("*.toml"))[:8]:
        put("experiment", path.stem, path.read_bytes())
    mini = (ROOT / "configs" / "mini" / "masking-vit.toml").read_text()
    put("experiment", "deep-array", "x = " + "[" * 2000)
    put("experiment", "deep-key", ".".join("a" * 2000) + " = 1")
    put("experiment", "huge-numbers", mini.replace("step = 0.05", "step = 1e-300"))
    descriptor = 'classes = ["cat", "dog"]\ntemplates = ["a photo of a {}", "a {}"]\n'
    put("experiment", "descriptor", descriptor)


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def finished(task: str, settings: dict, records: list[dict], values: dict, **said: object) -> tuple[dict, dict, str]:
    """A run of two miniature scenes with these records and their values by metric and, where it matters, method; said is
    added to its results."""
    results = json.loads((ROOT / "results" / "mini" / task / "results.json").read_text())
    experiment = results["experiment"]
    experiment["model"]["path"] = "nowhere"
    experiment["dataset"]["mini"] |= {"count": 2, "size": 32}
    kind = task.split("-")[0]
    experiment["task"][kind] |= settings
    identity = {
        "experiment": experiment,
        "limit": None,
        "device": "cpu",
        "weights_sha256": "0" * 64,
        "classes": compact(SHAPES) if kind == "diffseg" else "",
        "manifest_sha256": "1" * 64,
        "sources_sha256": "2" * 64,
    }
    fingerprint = hashlib.sha256(compact(identity).encode()).hexdigest()
    header = {"schema": 1, "name": task, "fingerprint": fingerprint, "identity": identity}
    header |= {"command": f"tokenrank run configs/mini/{task}.toml", "items": len(records), "batch": 2}
    lines = "".join(compact(record) + "\n" for record in records)
    closing = {"first": 0, "items": len(records), "sha256": hashlib.sha256(f"{fingerprint}\n{lines}".encode()).hexdigest()}
    failed = [record["failed"] for record in records if "failed" in record]
    results |= {"fingerprint": fingerprint, "items": len(records) - len(failed), "failed": failed}
    keys = list(next(iter(record for record in records if "failed" not in record)).get("methods", {"center": 0}))
    results["metrics"] = [one for one in results["metrics"] if one.get("method", keys[0]) in keys]
    for one in results["metrics"]:
        name = one["name"]
        one["value"] = values.get(f"{name} of {one.get('method')}", values.get(name, one["value"]))
    results["comparisons"] = [one for one in results.get("comparisons", []) if {one["method"], one["minus"]} <= set(keys)]
    drawn = [one | {"values": one["values"][:4]} for one in results.get("resampled", []) if one["method"] in keys]
    results |= {"resampled": drawn} if drawn else {}
    return header, results | said, lines + compact({"segment": closing}) + "\n"


def runs() -> None:
    def record(number: int, **answer: object) -> dict:
        return {"id": f"val-{number:06}", "sha256": "a" * 64} | answer

    shares = {"fractions": {"from": 0.0, "to": 0.5, "step": 0.25}, "scores": ["center", "tokenrank"], "cls": ["kept"]}
    maps = {"grid": [2, 2], "maps": {"center": [0.1, 0.2, 0.3, 0.4], "tokenrank": [0.4, 0.3, 0.2, 0.1]}}
    predicted = [{"center": [1, 1, 0], "tokenrank": [1, 0, 0]}, {"center": [2, 2, 2], "tokenrank": [2, 2, 1]}]
    masking = [record(i, label=1 + i, unmasked=1 + i, predicted=predicted[i], scores=maps) for i in range(2)]
    curve = {"center": [1.0, 1.0, 0.5], "tokenrank": [1.0, 0.5, 0.0]}
    curves = {"fractions": [0.0, 0.25, 0.5], "accuracy": curve, "still_right": curve}
    # The areas of the two images are 3/4 and 1.
    whole = finished("masking-vit", shares, masking, {"auc": 0.875, "auc-still-right": 0.875}, curves=curves)

    counts = {"0": {"intersection": 5, "predicted": 6, "labelled": 7}, "3": {"intersection": 2, "predicted": 4, "labelled": 3}}
    score = {"classes": counts, "correct": 7, "labelled": 10, "pooled_ap": 0.75, "foreground_ap": 0.5}
    methods = {"bounce": score, "row-select": score | {"correct": 6}}
    segments = [record(i, names=["circle"], methods=methods) for i in range(2)]
    scored = {"accuracy": 0.7, "miou": (5 / 8 + 2 / 5) / 2, "miou-identity": None, "map": 0.75, "map-foreground": 0.5}
    scored["accuracy of row-select"] = 0.6
    segment = {"methods": [{"row-select": {}}, {"bounce": {"steps": 2, "direction": "forward", "map": "pretty"}}]}

    found = {"proposals": 3, "overlap": [[0, 0, 9], [0, 2, 1], [1, 1, 6]], "boundary": {"labelled": 8, "found": 5}}
    pictures = {"labels": [[0, 9], [1, 6], [2, 1]], "anchors": [[0, 0], [1, 1], [0, 1]]}
    drawn = {"size": [4, 4], "grid": [2, 2], "methods": {"uniform": pictures, "random": pictures}}
    diffsegs = [record(i, methods={"uniform": found, "random": found}, pictures=drawn) for i in range(2)]
    # The third segment is matched to no class of the image: the union of another one, but where the order is free.
    parted = {"accuracy": 15 / 16, "class-accuracy": 0.95, "image-accuracy": 15 / 16, "miou": 1.9 / 3, "miou-order-free": 0.95}
    parted |= {"adjusted-rand-index": 0.85, "boundary-recall": 5 / 8, "proposals": 3.0}
    diffseg = {"methods": [{"uniform": {"side": 6, "aggregate": "mean"}}, {"random": {"number": 36, "aggregate": "mean"}}]}

    masks = {"grid": [2, 2], "passes": ["#..#", ".##."]}
    made = {"none": {"sha256": "b" * 64}, "sag-tokenrank": {"sha256": "c" * 64, "mask_area": 0.5, "masks": masks}}
    guidances = [{"id": f"{i:08}", "seed": i, "methods": made} for i in range(2)]
    guidance = {"methods": ["none", {"sag": {"mask": "tokenrank"}}], "count": 2}

    failed = {"failed": {"id": "val-000001", "reason": "a JPEG cut in half"}}
    sweep = {"schema": 1, "title": "layers", "items": 2, "metric": "auc", "combinations": [
        {"settings": {"layers": "last:1"}, "auc": {"center": 0.5, "tokenrank": 0.25}},
        {"settings": {"layers": "all"}, "auc": {"center": None}},
    ]}  # fmt: skip
    shard = ({**whole[0], "shard": {"index": 1, "of": 1}}, {}, whole[2])
    for name, run in {
        "masking": whole,
        "failed": finished("masking-vit", shares, [masking[0], failed], {"auc": 0.75, "auc-still-right": 0.75}),
        "segment": finished("segment", segment, segments, scored),
        "diffseg": finished("diffseg", diffseg, diffsegs, parted),
        "guidance": finished("guidance", guidance, guidances, {}),
        "shard": shard,
        "huge-fractions": finished("masking-vit", shares | {"fractions": {"from": 0, "to": 0.5, "step": 1e-300}}, masking, {}),
        "huge-batch": ({**whole[0], "batch": (1 << 64) - 1}, *whole[1:]),
        "shard-zero": ({**whole[0], "shard": {"index": 0, "of": 0}}, {}, whole[2]),
        "shard-of-many": ({**whole[0], "shard": {"index": 1, "of": (1 << 64) - 1}}, {}, whole[2]),
        "shard-of-many-items": ({**shard[0], "items": (1 << 64) - 1, "batch": 1}, {}, whole[2]),
        "huge-counts": finished("segment", segment, [
            record(0, names=[], methods=methods | {"bounce": score | {"classes": {"1": {
                "intersection": 0, "predicted": (1 << 64) - 1, "labelled": (1 << 64) - 1}}}})], {}),
        "huge-segments": finished("diffseg", diffseg, [
            record(0, methods={"uniform": found | {"overlap": [[65535, (1 << 32) - 1, (1 << 64) - 1]] * 2}, "random": found})], {}),
    }.items():  # fmt: skip
        header, results, records = run
        more = [compact(sweep)] if name in ("masking", "diffseg") else []
        if name == "segment":
            seen = compact({"id": "val-000000", "sha256": "a" * 64, "files": []})
            more = ["", seen, compact({"host": "node", "pid": (1 << 32) - 1, "started": None, "namespace": None})]
        put("run_folder", name, CUT.join(part.encode() for part in [compact(header), compact(results), records, *more]))


def baselines() -> None:
    whole = json.loads((ROOT / "eval" / "baselines" / "mini-quick.json").read_text())
    runs = {}
    for name in ("masking-vit", "segment", "guidance"):
        run = runs[name] = whole["runs"][name]
        run |= {"items": 2, "limit": 2, "ids": run["ids"][:2]}
        run["pictures"] = {method: hashes[:2] for method, hashes in run.get("pictures", {}).items()}
        run["values"] = run["values"][:4]
        for value in run["values"]:
            if sums := value.get("per_item", {}).get("sums"):
                value["per_item"]["sums"] = sums[:2]
                ratios = [sum(pair) for pair in zip(*sums[:2])]
                ratios = [part / all for part, all in zip(ratios[::2], ratios[1::2]) if all > 0]
                mean = sum(ratios) / len(ratios) if ratios else None
                value["value"] = mean / (2 - mean) if value["per_item"]["formula"] == "identity" else mean
    whole = {**whole, "tolerances": {"default": 0.005, "metrics": {"auc": 0.01}}, "runs": runs}
    put("baseline", "whole", compact(whole))
    one = json.loads(compact({**whole, "runs": {"masking-vit": runs["masking-vit"]}}))
    other = json.loads(compact(one))
    for value in other["runs"]["masking-vit"]["values"]:
        value["per_item"]["sums"][0] = value["per_item"]["sums"][1]
        first, second = value["per_item"]["sums"][0]
        value["value"] = first / second if second else None
    put("baseline", "two", compact(one).encode() + CUT + compact(other).encode())
    put("baseline", "deep", '{"schema":1,"runs":' + "[" * 2000)


def parquet() -> None:
    fixtures = ROOT / "crates" / "tasks" / "tests" / "fixtures" / "parquet"
    for name in "tiny-snappy tiny-zstd tiny-gzip masks gzip-v2 zstd-pages".split():
        put("parquet", name, (fixtures / f"{name}.parquet").read_bytes())


def words() -> None:
    for name, text in {
        "shard": "2/4", "shard-auto": "auto/4", "shard-huge": "1/18446744073709551615", "tolerance": "masking-vit/auc=0.01",
        "tolerance-infinite": "auc=1e999", "layers": "0,3,block.11", "layers-last": "last:4", "gpu": "a100:1",
        "flux-layers": "dual.3,single.0,dual.last:4", "flux-without-single": "dual.0,single.0", "device": "cuda:1",
        "unet-layers": "mid_block,up_blocks.3.attn2", "features": "inception:weights.safetensors",
    }.items():  # fmt: skip
        put("arguments", name, text)


for write in (
    safetensors, scores, pytorch, npy, npz, statistics, matrix_keys, checkpoints, preprocessors, exif, pictures, tokenizers, configurations, lists,
    names, inputs, experiments, runs, baselines, parquet, words,
):  # fmt: skip
    write()
