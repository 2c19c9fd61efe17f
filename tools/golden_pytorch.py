"""Files of torch.save in every form that checkpoints have, and what torch.load reads from them.

    pip install torch==2.11.0 safetensors==0.8.0 numpy==2.4.6
    python tools/golden_pytorch.py      # writes crates/models/tests/fixtures/pytorch/

    NAME.pt             a file of torch.save, its tensors tiny
    golden.safetensors  `NAME/tensor`: the tensor as torch.load returns it, contiguous; types that safetensors lacks, and
                        eight-bit floats, as float32; complex numbers as two real ones
    golden.json         NAME: {tensor: type}

Where a file holds more than a state dict, WHERE says under which keys the state dict lies and which prefix its names have.
"""

import collections
import io
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent.parent / "crates/models/tests/fixtures/pytorch"
assert torch.__version__.split("+")[0] == "2.11.0", "another version may write other files"
WHERE = {}


def numbers(*shape, dtype=torch.float32, start=0.5):
    return (torch.arange(max(1, torch.Size(shape).numel())) * 0.25 + start)[: torch.Size(shape).numel()].reshape(shape).to(dtype)


def save(name, value, where=((), ""), **options):
    WHERE[name] = where
    torch.save(value, OUT / f"{name}.pt", **options)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 2), torch.nn.BatchNorm2d(3), torch.nn.Linear(3, 2))


def trained(optimizer):
    model = network()
    optimizer = optimizer(model.parameters())
    model[2](model[1](model[0](numbers(2, 2, 3, 3))).mean((2, 3))).sum().backward()
    optimizer.step()
    return model, optimizer


def files():
    base = numbers(4, 6)
    plain = collections.OrderedDict(a=numbers(2, 3), b=numbers(4))
    save("plain", plain)
    save("dict", dict(plain))
    save("half", {"f16": numbers(3, dtype=torch.float16), "bf16": numbers(3, dtype=torch.bfloat16)})
    whole = [torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
    save("types", {str(dtype).removeprefix("torch."): numbers(2, 2, dtype=dtype) for dtype in whole})
    save("complex", {"c64": torch.complex(numbers(2), numbers(2, start=9)), "c128": torch.complex(numbers(2).double(), numbers(2).double())})
    save("float8", {"e5m2": numbers(3).to(torch.float8_e5m2), "e4m3": numbers(3).to(torch.float8_e4m3fn)})
    save("strides", {"transposed": base.t(), "steps": base[::2, 1::2], "permuted": numbers(2, 3, 4).permute(2, 0, 1)})
    save("channels_last", {"conv": numbers(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)})
    save("expanded", {"row": numbers(1, 3).expand(4, 3), "scalar": torch.tensor(2.5).expand(2, 2)})
    save("offsets", {"tail": base[2:], "row": base[1], "number": base[3, 5]})
    save("tied", {"embed.weight": base, "head.weight": base, "first_rows": base[:2]})
    save("empty", {"none": torch.empty(0), "no_rows": torch.empty(0, 3), "scalar": torch.tensor(3.5)})
    save("module", network().state_dict())
    save("parameters", {name: parameter for name, parameter in network().named_parameters()})
    row = numbers(300)
    save("many", {f"layer.{i}.weight": row[i : i + 1] for i in range(300)})
    save("protocol4", plain, pickle_protocol=4)
    save("protocol5", network().state_dict(), pickle_protocol=5)
    legacy = {"_use_new_zipfile_serialization": False}
    save("legacy", plain, **legacy)
    save("legacy_protocol4", plain, pickle_protocol=4, **legacy)
    save("legacy_tied", {"a": base, "b": base.t(), "c": base[1:3, 2:4], "d": numbers(2, dtype=torch.float16)}, **legacy)
    save("legacy_module", network().state_dict(), **legacy)
    model, optimizer = trained(torch.optim.AdamW)
    save(
        "training",
        {"epoch": 3, "best": 71.5, "lr": [0.1, 0.01], "name": "tiny", "done": None, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()},
        (("state_dict",), ""),
    )
    # As DINO's linear classifiers are published.
    head = {"module.linear.weight": numbers(3, 4), "module.linear.bias": numbers(3)}
    save("linear_head", {"epoch": 100, "state_dict": head, "optimizer": {"state": {}}, "best_acc": 77.0}, (("state_dict",), "module."), **legacy)
    model, optimizer = trained(lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9))
    save("model_of_run", {"optimizer": optimizer.state_dict(), "model": {"module._orig_mod." + k: v for k, v in model.state_dict().items()}}, (("model",), "module._orig_mod."))
    save("only_member", {"step": 5, "ema": plain}, (("ema",), ""))
    save("nested", {"w": numbers(2), "blocks": [{"w": numbers(2, start=1)}, (numbers(1), {"deep": numbers(3)})], "by_number": {7: numbers(2, start=2)}})
    torch.serialization.set_crc32_options(False)
    save("no_checksums", plain)
    torch.serialization.set_crc32_options(True)
    tag, torch.serialization.location_tag = torch.serialization.location_tag, lambda storage: "cuda:0"
    save("from_gpu", plain)
    torch.serialization.location_tag = tag
    # Python 2 wrote texts as byte strings: the opcode T instead of X, with the same layout.
    WHERE["python2"] = ((), "")
    stream = io.BytesIO()
    torch.save(plain, stream, **legacy)
    old = stream.getvalue()
    start = old.index(b"ccollections\nOrderedDict")
    end = old.index(b"\x80\x02", start)
    (OUT / "python2.pt").write_bytes(old[:start] + old[start:end].replace(b"X\x01\0\0\0", b"T\x01\0\0\0").replace(b"X\x07\0\0\0storage", b"U\x07storage") + old[end:])


def flatten(value, path=()):
    if torch.is_tensor(value):
        yield ".".join(path), value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from flatten(item, (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from flatten(item, (*path, str(i)))


def plain_tensor(tensor):
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if "float8" in str(tensor.dtype):
        tensor = tensor.float()
    return tensor.clone(memory_format=torch.contiguous_format)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    files()
    tensors, golden = {}, {}
    for name, (keys, prefix) in WHERE.items():
        # With Python's own pickle, since weights_only lacks opcodes of newer protocols and of Python 2. The files are ours.
        value = torch.load(OUT / f"{name}.pt", map_location="cpu", weights_only=False, encoding="utf-8")
        for key in keys:
            value = value[key]
        golden[name] = {}
        for path, tensor in flatten(value):
            assert path.startswith(prefix), path
            path = path.removeprefix(prefix)
            golden[name][path] = str(tensor.dtype).removeprefix("torch.")
            tensors[f"{name}/{path}"] = plain_tensor(tensor)
    save_file(tensors, OUT / "golden.safetensors")
    (OUT / "golden.json").write_text(json.dumps(golden, indent=0) + "\n")
    print(len(golden), "files", len(tensors), "tensors")


if __name__ == "__main__":
    main()
