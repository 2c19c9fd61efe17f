"""How often intervals of a Fréchet distance hold what they should: a simulation in numpy.

    pip install numpy==2.4.6
    python tools/measure_frechet_intervals.py

writes results/precision/frechet-intervals.json. Images are drawn from a known distribution of features (independent Student t with six
degrees of freedom, moved and scaled) and compared with a known normal distribution. For each number of images and features it counts how
often a 95 % interval has inside

    of_this_many    the expected distance of this many images, which is what a table reports
    of_infinitely_many  the distance of the distributions, which infinitely many images would have
    itself          the distance of the very images that were resampled

for three intervals from the same resamples: `percentile`; `moved`, the percentile interval minus the mean bias of the resamples, which
is the program's; and `reflected`, the "basic" bootstrap interval.
"""

import json
from pathlib import Path

import numpy as np

OUT = Path(__file__).parent.parent / "results/precision/frechet-intervals.json"
SETTINGS = [(4, 20), (8, 50), (16, 100), (16, 400)]
SAMPLES, RESAMPLES, EXPECTED_OVER, FREEDOM = 400, 200, 4_000, 6


def distance(x):
    """Fréchet distance to the standard normal distribution, whose covariance is the identity."""
    covariance = np.cov(x.T)
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(covariance), 0))
    return (x.mean(0) ** 2).sum() + ((roots - 1) ** 2).sum()


def setting(rng, features, images):
    mean, scale = np.full(features, 0.3), np.linspace(0.6, 1.2, features)
    draw = lambda: mean + scale * rng.standard_t(FREEDOM, size=(images, features))
    # A Student t with f degrees of freedom has variance f / (f − 2).
    deviations = scale * np.sqrt(FREEDOM / (FREEDOM - 2))
    infinite = (mean**2).sum() + ((deviations - 1) ** 2).sum()
    expected = np.mean([distance(draw()) for _ in range(EXPECTED_OVER)])
    kinds = ("percentile", "moved", "reflected")
    held = {kind: dict(of_this_many=0, of_infinitely_many=0, itself=0) for kind in kinds}
    for _ in range(SAMPLES):
        x = draw()
        value = distance(x)
        found = np.array([distance(x[rng.integers(0, images, images)]) for _ in range(RESAMPLES)])
        low, high = np.quantile(found, [0.025, 0.975])
        bias = found.mean() - value
        ends = ((low, high), (low - bias, high - bias), (2 * value - high, 2 * value - low))
        for kind, (low, high) in zip(kinds, ends):
            for name, wanted in (("of_this_many", expected), ("of_infinitely_many", infinite), ("itself", value)):
                held[kind][name] += bool(low <= wanted <= high)
    fractions = {kind: {name: count / SAMPLES for name, count in of.items()} for kind, of in held.items()}
    return dict(
        features=features, images=images, expected=round(float(expected), 3), infinitely_many=round(float(infinite), 3),
        held=fractions)


def main():
    rng = np.random.default_rng(1)
    found = [setting(rng, *one) for one in SETTINGS]
    report = dict(samples=SAMPLES, resamples=RESAMPLES, settings=found)
    OUT.write_text(json.dumps(report, indent=2) + "\n")
    for one in found:
        print(one)


if __name__ == "__main__":
    main()
