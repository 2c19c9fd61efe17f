"""Golden values for Inception Score, Fréchet and kernel distance, precision and recall, by torch-fidelity; draws by numpy.

    pip install torch==2.11.0 torchvision==0.26.0 numpy==2.4.6 pillow==13.0.0 safetensors==0.8.0
    pip install --no-deps torch-fidelity==0.4.0 && pip install tqdm
    python tools/golden_metrics.py     # writes crates/eval/tests/fixtures/fidelity/

`features.safetensors` holds float32 features and logits of a few pairs of sets; `golden.json` what torch-fidelity makes of
them in float64 (its own pipeline hands the kernel distance and the mean float32, which costs digits: `float32` says which
values those are) and permutations and choices of numpy's RandomState.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

FIXTURES = Path(__file__).parent.parent / "crates/eval/tests/fixtures/fidelity"

# name: generated items, reference items, numbers per feature, classes, subset size of the kernel distance
CASES = {
    "plenty": (200, 160, 24, 12, 50),
    "few": (20, 33, 24, 7, 15),          # fewer items than numbers per feature: singular covariances
    "one-sided": (120, 18, 24, 5, 18),   # one singular covariance
    "wide": (40, 45, 96, 10, 30),
}


def features(generator, items, width, shift):
    """Correlated, skewed and non-negative for the most part, as pooled features are."""
    mix = torch.randn(width, width, generator=generator) / width**0.5
    x = torch.randn(items, width, generator=generator) @ (mix + torch.eye(width)) + shift
    return torch.where(x > 0, x, 0.1 * x).float()


def metrics(generated, reference, logits, subset_size):
    """In the type of the features."""
    statistics = [fid_features_to_statistics(x) for x in (generated, reference)]
    values = {"frechet": fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]}
    kid = dict(kid_subsets=20, kid_subset_size=subset_size, verbose=False)
    for name, options in {
        "kernel": {},
        "kernel-other": dict(kid_kernel_poly_degree=2, kid_kernel_poly_gamma=0.05, kid_kernel_poly_coef0=0.5, rng_seed=7),
    }.items():
        found = kid_features_to_metric(generated, reference, **kid, **options)
        values[name] = [found["kernel_inception_distance_mean"], found["kernel_inception_distance_std"]]
    for name, options in {
        "score": {}, "score-other": dict(splits=3, rng_seed=5), "score-in-order": dict(splits=4, shuffle=False),
    }.items():
        found = isc_features_to_metric(logits, **options)
        values[name] = [found["inception_score_mean"], found["inception_score_std"]]
    for name, neighbours in {"precision-recall": 3, "precision-recall-1": 1}.items():
        found = prc_features_to_metric(generated, reference, prc_neighborhood=neighbours, verbose=False)
        values[name] = [found["precision"], found["recall"]]
    return values


def draws():
    made = []
    for seed, n, size in [(2020, 10, 4), (2020, 257, 50), (0, 2, 1), (4294967295, 1000, 7), (12345, 1, 1), (7, 64, 64)]:
        rng = np.random.RandomState(seed)
        made.append(dict(
            seed=seed, n=n, size=size, permutation=rng.permutation(n).tolist(),
            choices=[rng.choice(n, size, replace=False).tolist() for _ in range(2)],
        ))
    return made


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(11)
    tensors, cases = {}, {}
    for name, (items, references, width, classes, subset_size) in CASES.items():
        generated = features(generator, items, width, 0.5)
        reference = features(generator, references, width, 0.35)
        logits = 2.5 * torch.randn(items, classes, generator=generator)
        tensors |= {f"{name}.generated": generated, f"{name}.reference": reference, f"{name}.logits": logits}
        double = metrics(generated.double(), reference.double(), logits.double(), subset_size)
        single = metrics(generated, reference, logits, subset_size)
        # Scores are computed in float64 either way, and float32 logits are exact.
        cases[name] = dict(subset_size=subset_size, float64=double, float32={
            key: single[key] for key in ("frechet", "kernel", "kernel-other")})
        print(name, double)
    FIXTURES.mkdir(parents=True, exist_ok=True)
    save_file(tensors, FIXTURES / "features.safetensors")
    (FIXTURES / "golden.json").write_text(json.dumps({"cases": cases, "draws": draws()}, separators=(",", ":")) + "\n")
    for file in sorted(FIXTURES.iterdir()):
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
