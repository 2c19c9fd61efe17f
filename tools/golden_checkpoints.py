"""Which files of a folder transformers and diffusers write and read as the weights of a network.

    pip install torch==2.11.0 diffusers==0.42.0 transformers==5.23.0 safetensors==0.8.0
    python tools/golden_checkpoints.py      # writes crates/models/tests/fixtures/checkpoints/golden.json

    written    library, variant, sharded, files: the names that `save_pretrained` gives to weights and index
    read       library, variant, present, taken: of the kinds of weights that are present in a folder (`single` and
               `sharded`, `single.fp16` and `sharded.fp16` with a variant), the kind that `from_pretrained` takes; none
               where it refuses
    pickled    the same for kinds of which some are files of torch.save (`.bin`); the libraries decide the format
    twice      library, index, taken: one tensor lies in two shards and the index names the first or the second
    explicit   file, taken: the file that `transformers_weights` of config.json names, and the kind that is taken

Each file holds one network of one number, so that the number tells which file was read.
"""

import itertools
import json
import tempfile
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers.configuration_utils import ConfigMixin, register_to_config
from safetensors.torch import save_file
from transformers import PreTrainedConfig, PreTrainedModel

OUT = Path(__file__).resolve().parent.parent / "crates/models/tests/fixtures/checkpoints"
assert (transformers.__version__, diffusers.__version__) == ("5.23.0", "0.42.0"), "other versions may read other files"


class TinyConfig(PreTrainedConfig):
    model_type = "tiny"


class TinyTransformers(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.first, self.second = torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 8, bias=False)
        self.post_init()

    def _init_weights(self, module):
        pass


class TinyDiffusers(diffusers.ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 8, bias=False)


LIBRARIES = {"transformers": lambda: TinyTransformers(TinyConfig()), "diffusers": TinyDiffusers}
STEMS = {"transformers": "model", "diffusers": "diffusion_pytorch_model"}
KINDS = ["single", "sharded", "single.fp16", "sharded.fp16"]
PICKLED = ["single", "single.fp16", "single.bin", "sharded.bin", "single.fp16.bin", "sharded.fp16.bin"]
NAMES = ["first.weight", "second.weight"]


def names(library, kind):
    """Index, if any, and weight files of a kind, as `written` shows that the libraries call them."""
    end = "bin" if kind.endswith(".bin") else "safetensors"
    stem = "pytorch_model" if (library, end) == ("transformers", "bin") else STEMS[library]
    variant = ".fp16" if ".fp16" in kind else ""
    if kind.startswith("single"):
        return None, [f"{stem}{variant}.{end}"]
    shards = [f"{stem}{variant}-0000{i}-of-00002.{end}" for i in (1, 2)]
    return f"{stem}.{end}.index{variant}.json", shards


def save(tensors, file):
    if file.suffix == ".bin":
        torch.save(tensors, file)
    else:
        save_file(tensors, file, metadata={"format": "pt"})


def write(folder, library, kind, number):
    index, files = names(library, kind)
    tensors = {name: torch.full((8, 8), float(number)) for name in NAMES}
    if index is None:
        save(tensors, folder / files[0])
        return
    for name, file in zip(NAMES, files):
        save({name: tensors[name]}, folder / file)
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 512}, "weight_map": dict(zip(NAMES, files))}))


def read(folder, library, variant, safetensors=True):
    """The number of the network that is read from a folder, or none."""
    model = TinyTransformers if library == "transformers" else TinyDiffusers
    try:
        network = model.from_pretrained(folder, variant=variant, use_safetensors=safetensors)
    except (OSError, ValueError):
        return None
    numbers = {float(parameter.flatten()[0]) for parameter in network.parameters()}
    assert len(numbers) == 1, numbers
    return numbers.pop()


def main():
    golden = {"versions": {"transformers": transformers.__version__, "diffusers": diffusers.__version__}}
    golden |= {"written": [], "read": [], "pickled": [], "twice": [], "explicit": []}
    for library, (variant, sharded) in itertools.product(LIBRARIES, itertools.product((None, "fp16"), (False, True))):
        with tempfile.TemporaryDirectory() as folder:
            size = 300 if sharded else "5GB"
            LIBRARIES[library]().save_pretrained(folder, variant=variant, max_shard_size=size)
            files = sorted(file.name for file in Path(folder).iterdir() if file.name != "config.json")
        golden["written"].append({"library": library, "variant": variant, "sharded": sharded, "files": files})
        index, weights = names(library, ("sharded" if sharded else "single") + (f".{variant}" if variant else ""))
        assert files == sorted(weights + ([index] if index else [])), files

    for (key, kinds, safetensors), library, variant in itertools.product(
        (("read", KINDS, True), ("pickled", PICKLED, None)), LIBRARIES, (None, "fp16")
    ):
        for flags in itertools.product((False, True), repeat=len(kinds)):
            present = [kind for kind, there in zip(kinds, flags) if there]
            with tempfile.TemporaryDirectory() as folder:
                folder = Path(folder)
                LIBRARIES[library]().save_config(folder) if library == "diffusers" else TinyConfig().save_pretrained(folder)
                for kind in present:
                    write(folder, library, kind, 1 + kinds.index(kind))
                number = read(folder, library, variant, safetensors)
            taken = None if number is None else kinds[int(number) - 1]
            golden[key].append({"library": library, "variant": variant, "present": present, "taken": taken})

    for library, index in itertools.product(LIBRARIES, ("first", "second")):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            LIBRARIES[library]().save_config(folder) if library == "diffusers" else TinyConfig().save_pretrained(folder)
            name, files = names(library, "sharded")
            for number, file in enumerate(files, 1):
                save_file({key: torch.full((8, 8), float(number)) for key in NAMES}, folder / file, metadata={"format": "pt"})
            chosen = files[["first", "second"].index(index)]
            # The other file must be named as well, so that it is opened.
            both = {key: chosen for key in NAMES} | {"other": files[1 - files.index(chosen)]}
            (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": both}))
            taken = ["first", "second"][int(read(folder, library, None)) - 1]
        golden["twice"].append({"library": library, "index": index, "taken": taken})

    for file in ("other.safetensors", "model.safetensors.index.json"):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            for kind in ("single", "sharded"):
                write(folder, "transformers", kind, 1 + KINDS.index(kind))
            save_file({name: torch.full((8, 8), 9.0) for name in NAMES}, folder / "other.safetensors", metadata={"format": "pt"})
            (folder / "config.json").write_text(json.dumps({"model_type": "tiny", "transformers_weights": file}))
            number = read(folder, "transformers", None)
        taken = "other" if number == 9 else KINDS[int(number) - 1]
        golden["explicit"].append({"file": file, "taken": taken})

    OUT.mkdir(parents=True, exist_ok=True)
    lines = [f'"versions": {json.dumps(golden.pop("versions"))}']
    for key, rows in golden.items():
        lines.append(f'"{key}": [\n  ' + ",\n  ".join(json.dumps(row) for row in rows) + "\n ]")
    (OUT / "golden.json").write_text("{\n " + ",\n ".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
