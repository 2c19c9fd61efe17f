"""Golden values for Inception-v3 by torch-fidelity's class, with random weights that both sides draw by one formula.

    pip install torch==2.11.0 torchvision==0.26.0 numpy==2.4.6 pillow==13.0.0 safetensors==0.8.0
    pip install --no-deps torch-fidelity==0.4.0 && pip install tqdm
    python tools/golden_inception.py     # writes crates/models/tests/fixtures/inception/

24 million weights are too many to store, so each is a function of its tensor's name and its place (`draw`, and the same in
crates/models/tests/models/inception_golden). `golden.safetensors` holds, for two pictures of 45 by 61 pixels:

    stage.{name}            [n]         numbers of the stage [2, c, h, w] at places spread over it, row-major
    stage.{name}.moments    [2]         its mean and root mean square
    pool, logits, logits_unbiased       [2, 2048], [2, 1008], [2, 1008]

and `resize.{h}x{w}` [n], numbers of pictures of other sizes resized to 299 by 299, spread likewise. `metrics.json`
has what the features of 24 pictures against 20 others give: Inception Score, FID and KID. `shapes.json` lists
the tensors of the published state dict.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

FIXTURES = Path(__file__).parent.parent / "crates/models/tests/fixtures/inception"
STAGES = [
    "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2",
    "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7a", "Mixed_7b",
    "Mixed_7c",
]
SPREAD = 200
SIZES = [(1, 1), (2, 3), (45, 61), (299, 299), (64, 64), (333, 512), (601, 300)]


def mix(z):
    """SplitMix64's output function."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bits(name, count):
    """The top 24 bits of a counter's hash, the counter keyed by FNV-1a of the name."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        counter = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
        return (mix(counter) >> np.uint64(40)).astype(np.float32)


def draw(name, shape):
    """Uniform, float32 throughout: He's spread for matrices, near the identity for norms."""
    count = int(np.prod(shape))
    unit = bits(name, count) * np.float32(2**-23) - np.float32(1)  # exact, in [-1, 1)
    if len(shape) > 1:
        values = unit * np.float32(np.sqrt(6.0 / np.prod(shape[1:])))
    elif name.endswith(("weight", "running_var")):
        values = np.float32(1) + np.float32(0.25) * unit
    else:
        values = np.float32(0.125) * unit
    return torch.from_numpy(values.reshape(shape))


def pictures(name, count, height, width):
    """Noise on coarse blocks, so that neighbouring pixels have to do with each other. Bytes [count, 3, height, width]."""
    rows, columns = -(-height // 8), -(-width // 8)
    coarse = bits(name, count * 3 * rows * columns).astype(np.int64).reshape(count, 3, rows, columns) >> 16
    coarse = coarse.repeat(8, 2).repeat(8, 3)[:, :, :height, :width]
    fine = bits(f"{name}.fine", count * 3 * height * width).astype(np.int64).reshape(count, 3, height, width) >> 16
    return torch.from_numpy(((3 * coarse + fine) // 4).astype(np.uint8))


def spread(tensor):
    flat = tensor.reshape(-1)
    places = [k * (flat.numel() - 1) // (SPREAD - 1) for k in range(SPREAD)]
    return flat[places].float().contiguous()


def network(folder):
    """The class loads weights as it is made, so it gets them from a file."""
    file = Path(folder) / "weights.pth"
    torch.save({name: draw(name, shape) for name, shape in state_shapes().items()}, file)
    # Counters of training steps are not in the published file.
    original = FeatureExtractorInceptionV3.load_state_dict
    FeatureExtractorInceptionV3.load_state_dict = lambda self, state: original(self, state, strict=False)
    try:
        return FeatureExtractorInceptionV3(
            "inception", ["2048", "logits_unbiased", "logits"], feature_extractor_weights_path=str(file))
    finally:
        FeatureExtractorInceptionV3.load_state_dict = original


def state_shapes():
    """Names and shapes of the published state dict, asked of the class itself."""
    shapes = {}

    class Asked(Exception):
        pass

    def load_state_dict(self, *_):
        shapes.update({name: tuple(tensor.shape) for name, tensor in self.state_dict().items() if tensor.is_floating_point()})
        raise Asked

    original = FeatureExtractorInceptionV3.load_state_dict
    FeatureExtractorInceptionV3.load_state_dict = load_state_dict
    try:
        with tempfile.NamedTemporaryFile() as file:
            torch.save({}, file.name)
            FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=file.name)
    except Asked:
        pass
    finally:
        FeatureExtractorInceptionV3.load_state_dict = original
    return shapes


def main():
    torch.set_num_threads(1)
    tensors = {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        net = network(folder)

        def watch(name):
            def hook(_module, _inputs, output):
                tensors[f"stage.{name}"] = spread(output)
                tensors[f"stage.{name}.moments"] = torch.stack([output.double().mean(), output.double().square().mean().sqrt()]).float()
            return hook

        hooks = [getattr(net, name).register_forward_hook(watch(name)) for name in STAGES]
        pool, unbiased, logits = net(pictures("picture", 2, 45, 61))
        for hook in hooks:
            hook.remove()
        tensors |= {"pool": pool, "logits_unbiased": unbiased, "logits": logits}
        for name in STAGES:
            print(name, tensors[f"stage.{name}.moments"].tolist())
        print("logits", logits.std().item(), "differences of pools", (pool[0] - pool[1]).abs().mean().item(), pool.mean().item())

        for height, width in SIZES:
            image = pictures(f"resize.{height}x{width}", 1, height, width).float()
            resized = interpolate_bilinear_2d_like_tensorflow1x(image, size=(299, 299), align_corners=False)
            tensors[f"resize.{height}x{width}"] = spread(resized)

        # Pictures of one size each, so that every one is resized.
        generated = [net(pictures(f"generated.{k}", 1, 40 + k, 52)) for k in range(24)]
        # Darker by half, so that there is a distance to measure.
        reference = [net(pictures(f"reference.{k}", 1, 64, 40 + k) // 2) for k in range(20)]
        pools = [torch.cat([features[0] for features in side]) for side in (generated, reference)]
        score = isc_features_to_metric(torch.cat([features[1] for features in generated]), splits=2)
        fid = fid_statistics_to_metric(*(fid_features_to_statistics(pool.double()) for pool in pools), False)
        kid = kid_features_to_metric(*(pool.double() for pool in pools), kid_subset_size=20, verbose=False)
        values = {**score, **fid, **kid}
        print(values)
    FIXTURES.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, FIXTURES / "golden.safetensors")
    shapes = ",\n".join(f"{json.dumps(name)}: {list(shape)}" for name, shape in state_shapes().items())
    (FIXTURES / "shapes.json").write_text("{\n" + shapes + "\n}\n")
    (FIXTURES / "metrics.json").write_text(json.dumps(values, indent=2) + "\n")
    for file in sorted(FIXTURES.iterdir()):
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
