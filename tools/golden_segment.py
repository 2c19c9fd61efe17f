"""Golden fixtures for the scores of segmentation: torch, Pillow and scikit-learn on small maps, numpy for the rest.

    pip install torch==2.11.0 pillow==13.0.0 scikit-learn==1.9.1 numpy==2.4.6
    python tools/golden_segment.py

writes

    crates/tasks/tests/fixtures/segment/golden.json
        positions   SHA-256 over which of 1…1024 tokens or pixels is taken by 14, 64 and 224 pixels (u16, little endian):
                    torch's nearest on a float map, Pillow's nearest on a label map
        blur, bilinear   maps and what torch makes of them
        two, several     a map or several, labels, settings, and the record's counts and average precisions
    crates/eval/tests/fixtures/segment/golden.json
        records     of simulated images, and over them: the metrics, the histograms of ConceptAttention's evaluation
                    (https://github.com/helblazer811/ConceptAttention, concept_attention/utils.py), bootstrap intervals

Average precision is scikit-learn's on the very float32 values that are ranked. Values past torch's float32 are derived
with numpy: positions in float32, sums in float64, rounded to float32 once; the script stops where torch differs by more
than 1e-6.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

ROOT = Path(__file__).parent.parent / "crates"
IGNORED = 255


# Resampling

def torch_nearest(array, height, width):
    map_ = torch.tensor(np.asarray(array, dtype=np.float32))[None, None]
    return torch.nn.functional.interpolate(map_, size=(height, width), mode="nearest")[0, 0].numpy()


def pillow_nearest(labels, height, width):
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.NEAREST))


def positions():
    digests = {}
    for to in (14, 64, 224):
        digest = {"torch": hashlib.sha256(), "pillow": hashlib.sha256()}
        for size in range(1, 1025):
            line = np.arange(size, dtype=np.float32)[None]
            across, down = torch_nearest(line, 1, to)[0], torch_nearest(line.T, to, 1)[:, 0]
            assert (across == down).all()
            digest["torch"].update(across.astype("<u2").tobytes())
            across, down = pillow_nearest(line, 1, to)[0], pillow_nearest(line.T.copy(), to, 1)[:, 0]
            assert (across == down).all()
            digest["pillow"].update(across.astype("<u2").tobytes())
        digests[str(to)] = {peer: hash_.hexdigest() for peer, hash_ in digest.items()}
    return digests


def bilinear(map_, height, width):
    def taps(size, to):
        scale = np.float32(size) / np.float32(to)
        centre = np.maximum(scale * (np.arange(to, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), np.float32(0))
        first = np.minimum(centre.astype(np.int64), size - 1)
        return first, np.minimum(first + 1, size - 1), (centre - first.astype(np.float32)).astype(np.float64)

    (top, bottom, down), (left, right, across) = taps(map_.shape[0], height), taps(map_.shape[1], width)
    exact = map_.astype(np.float64)
    mix = lambda a, b, share: a + (b - a) * share
    above = mix(exact[np.ix_(top, left)], exact[np.ix_(top, right)], across)
    below = mix(exact[np.ix_(bottom, left)], exact[np.ix_(bottom, right)], across)
    result = mix(above, below, down[:, None]).astype(np.float32)
    peer = torch.nn.functional.interpolate(
        torch.tensor(map_)[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0].numpy()
    assert np.abs(result - peer).max() <= 1e-6 * np.abs(map_).max()
    return result, peer


def blur(map_):
    """torchvision's gaussian_blur(kernel_size=3, sigma=1.0): its kernel, torch's reflect padding and convolution."""
    pdf = torch.exp(-0.5 * torch.linspace(-1, 1, 3) ** 2)
    line = pdf / pdf.sum()
    padded = torch.nn.functional.pad(torch.tensor(map_)[None, None], [1] * 4, mode="reflect")
    peer = torch.nn.functional.conv2d(padded, torch.outer(line, line)[None, None])[0, 0].numpy()
    line = np.exp([-0.5, 0.0, -0.5])
    line /= line.sum()
    mirrored = np.pad(map_.astype(np.float64), 1, mode="reflect")
    rows, columns = map_.shape
    result = sum(line[i] * line[j] * mirrored[i:i + rows, j:j + columns] for i in range(3) for j in range(3))
    result = result.astype(np.float32)
    assert np.abs(result - peer).max() <= 1e-6 * np.abs(map_).max()
    return result, peer


# Scores of one image

def min_max(map_):
    """Float32 throughout, and whether the map was constant."""
    low, high = map_.min(), map_.max()
    return (np.zeros_like(map_), True) if low == high else ((map_ - low) / (high - low), False)


def otsu(values):
    values = np.sort(values.astype(np.float64).ravel())
    best, cut = 0.0, values[-1]
    for value in np.unique(values)[:-1]:
        low, high = values[values <= value], values[values > value]
        between = len(low) * len(high) * (low.mean() - high.mean()) ** 2
        if between > best * (1 + 1e-12):
            best, cut = between, value
    return cut


def threshold(text, signal):
    values = signal.astype(np.float64)
    kind, _, number = text.partition(":")
    return {
        "mean": values.mean,
        "median": lambda: np.median(values),
        "otsu": lambda: otsu(values),
        "quantile": lambda: np.quantile(values, float(number)),
        "fixed": lambda: float(number),
    }[kind]()


def upsample(map_, settings):
    side = settings["side"]
    return bilinear(map_, side, side)[0] if settings["upsample"] == "bilinear" else torch_nearest(map_, side, side)


def counts(predicted, labels):
    valid = labels != IGNORED
    predicted, labels = predicted[valid], labels[valid]
    classes = {}
    for k in np.union1d(predicted, labels):
        classes[str(int(k))] = {
            "intersection": int(((predicted == k) & (labels == k)).sum()),
            "predicted": int((predicted == k).sum()),
            "labelled": int((labels == k).sum()),
        }
    return {"classes": classes, "correct": int((predicted == labels).sum()), "labelled": int(valid.sum())}


def average_precisions(signal, constant, labels):
    valid = labels != IGNORED
    s, target = signal[valid], labels[valid]
    assert s.dtype == np.float32
    found = {}
    if len(s):
        channels = np.stack([s if constant else np.float32(1) - s, s]).ravel()
        found["pooled_ap"] = average_precision_score(np.stack([target == 0, target == 1]).ravel(), channels)
    if (target == 1).any():
        found["foreground_ap"] = average_precision_score(target == 1, s)
    return found


def score(map_, labels, settings):
    side = settings["side"]
    labels = pillow_nearest(labels, side, side)
    map_ = blur(map_)[0] if settings["blur"] else map_
    if settings["threshold_at"] == "map":
        signal, constant = min_max(map_)
        mask = torch_nearest(signal.astype(np.float64) > threshold(settings["threshold"], signal), side, side)
        signal = upsample(signal, settings)
    else:
        signal, constant = min_max(upsample(map_, settings))
        mask = signal.astype(np.float64) > threshold(settings["threshold"], signal)
    return counts(mask.astype(np.uint8), labels) | average_precisions(signal, constant, labels)


def score_classes(signals, labels, settings):
    side = settings["side"]
    maps = [blur(map_)[0] if settings["blur"] else map_ for _, map_ in signals]
    if settings["threshold_at"] == "pixels":
        maps = [upsample(map_, settings) for map_ in maps]
    winner = np.array([k for k, _ in signals], dtype=np.uint8)[np.argmax(maps, axis=0)]
    return counts(torch_nearest(winner, side, side).astype(np.uint8), pillow_nearest(labels, side, side))


# Cases

def blob(rng, height, width, ignored=False):
    """A disc of foreground, and a rim that counts nowhere."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y / height - rng.uniform(0.3, 0.7), x / width - rng.uniform(0.3, 0.7))
    labels = (distance < rng.uniform(0.2, 0.35)).astype(np.uint8)
    if ignored:
        labels[(distance > 0.3) & (distance < 0.35)] = IGNORED
    return labels


def signal_of(rng, labels, rows, columns, noise=0.5):
    """A map that knows something of the labels."""
    known = (pillow_nearest(labels, rows, columns) == 1) + noise * rng.standard_normal((rows, columns))
    return (np.exp(known) / np.exp(known).sum()).astype(np.float32)


def settings(side=28, upsample="nearest", threshold="mean", threshold_at="map", blur=False):
    return dict(side=side, upsample=upsample, threshold=threshold, threshold_at=threshold_at, blur=blur)


def as_list(map_):
    """The shortest decimals that are these float32 values."""
    return [[float(str(value)) for value in row] for row in np.asarray(map_, dtype=np.float32)]


def two_classes(rng):
    cases = []

    def case(map_, labels, **chosen):
        given = settings(**chosen)
        cases.append(dict(map=as_list(map_), labels=labels.tolist(), settings=given, score=score(map_, labels, given)))

    for at in ("map", "pixels"):
        for how in ("nearest", "bilinear"):
            for cut in ("mean", "median", "otsu", "quantile:0.8", "fixed:0.35"):
                labels = blob(rng, 20, 27, ignored=True)
                case(signal_of(rng, labels, 6, 8), labels, upsample=how, threshold=cut, threshold_at=at, blur=cut == "otsu")
    labels = blob(rng, 20, 27)
    # Many equal values; values so small that 1 - s is 1 for several of them; a map larger than the labels' square.
    case(np.round(signal_of(rng, labels, 8, 8) * 64) / np.float32(64), labels, side=30)
    tiny = signal_of(rng, labels, 6, 6)
    tiny[::2] *= np.float32(1e-9)
    case(tiny, labels, side=33)
    case(signal_of(rng, labels, 12, 12), labels, side=7, upsample="bilinear", threshold_at="pixels")
    # A constant map, no foreground, nothing labelled, a single token.
    case(np.full((4, 4), 0.25, dtype=np.float32), labels, side=20)
    case(np.full((4, 4), 0.25, dtype=np.float32), labels, side=20, upsample="bilinear", threshold_at="pixels")
    case(signal_of(rng, labels, 4, 4), np.zeros((9, 7), dtype=np.uint8), side=12)
    case(signal_of(rng, labels, 4, 4), np.full((9, 7), IGNORED, dtype=np.uint8), side=12)
    case(np.full((1, 1), 3, dtype=np.float32), labels, side=20)
    return cases


def several_classes(rng):
    cases = []
    for at in ("map", "pixels"):
        for how in ("nearest", "bilinear"):
            labels = blob(rng, 24, 18, ignored=True) * np.uint8(1)
            labels[:6][labels[:6] == 0] = 7
            # Two signals for the background; one class that no label has.
            signals = [(k, signal_of(rng, (labels == k).astype(np.uint8), 6, 5)) for k in (0, 7, 0, 1, 12)]
            # Equal signals: the first wins.
            signals.append((3, signals[1][1].copy()))
            given = settings(upsample=how, threshold_at=at, blur=how == "bilinear")
            cases.append(dict(
                signals=[[k, as_list(map_)] for k, map_ in signals], labels=labels.tolist(), settings=given,
                score=score_classes(signals, labels, given)))
    return cases


# Metrics over a dataset

class Rng:
    """tasks::Rng: SplitMix64 keyed by a list."""

    GAMMA, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1

    def __init__(self, keys):
        self.counter = self.mix(len(keys) ^ self.GAMMA)
        for key in keys:
            self.counter = self.mix((self.counter + self.GAMMA & self.MASK) ^ self.mix(key ^ self.GAMMA))

    def mix(self, z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & self.MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & self.MASK
        return z ^ (z >> 31)

    def below(self, n):
        self.counter = self.counter + self.GAMMA & self.MASK
        return self.mix(self.counter) * n >> 64


def metrics(scores):
    classes = sorted({k for one in scores for k in one["classes"]})
    total = lambda k, what: sum(one["classes"].get(k, {}).get(what, 0) for one in scores)
    iou = []
    for k in classes:
        inter, union = total(k, "intersection"), total(k, "predicted") + total(k, "labelled") - total(k, "intersection")
        iou += [inter / union] if union else []
    accuracy = sum(one["correct"] for one in scores) / sum(one["labelled"] for one in scores)
    mean = lambda name: float(np.mean([one[name] for one in scores if name in one]))
    return {
        "accuracy": accuracy,
        "miou": float(np.mean(iou)),
        "miou-identity": accuracy / (2 - accuracy),
        "map": mean("pooled_ap"),
        "map-foreground": mean("foreground_ap"),
    }


def histograms(masks, labels):
    """ConceptAttention's accuracy and mIoU as its evaluation computes them: two complementary channels, no argmax."""
    correct = labelled = 0
    area_inter, area_union = np.zeros(2), np.zeros(2)
    for mask, label in zip(masks, labels):
        predict, target = np.stack([1 - mask, mask]) + 1, np.stack([1 - label, label]) + 1
        labelled += (target > 0).sum()
        correct += ((predict == target) & (target > 0)).sum()
        histogram = lambda values: np.histogram(values, bins=2, range=(1, 2))[0]
        inter = histogram(predict * (predict == target))
        area_inter += inter
        area_union += histogram(predict) + histogram(target) - inter
    return {"accuracy": float(correct / labelled), "miou": float((area_inter / area_union).mean())}


def interval(records, a, b, metric, resamples, seed):
    value = lambda items, method: metrics([record["methods"][method] for record in items])[metric]
    difference = lambda items: value(items, a) - value(items, b)
    n = len(records)
    drawn = []
    for resample in range(resamples):
        rng = Rng([seed, resample])
        drawn.append(difference([records[rng.below(n)] for _ in range(n)]))
    drawn = np.array(drawn)
    low, high = np.quantile(drawn, [0.025, 0.975])
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return dict(
        a=a, b=b, metric=metric, resamples=resamples, seed=seed, difference=difference(records), low=low, high=high,
        p_value=min(1.0, 2 * (int(beyond) + 1) / (resamples + 1)))


def dataset(rng):
    records, masks, labels_of = [], {}, []
    methods = {"good": 0.4, "better": 0.35, "poor": 1.5}
    for item in range(40):
        labels = blob(rng, 32, 32) if item != 5 else np.zeros((32, 32), dtype=np.uint8)
        labels_of.append(labels.astype(np.int64))
        record = dict(id=f"{item:03}", sha256="0" * 64, names=["disc"], methods={})
        for method, noise in methods.items():
            map_ = signal_of(rng, labels, 8, 8, noise)
            record["methods"][method] = score(map_, labels, settings(side=32))
            signal = min_max(map_)[0]
            masks.setdefault(method, []).append(torch_nearest(signal > signal.astype(np.float64).mean(), 32, 32).astype(np.int64))
        records.append(record)
    pairs = [("good", "poor"), ("better", "good"), ("poor", "poor")]
    names = ["accuracy", "miou", "miou-identity", "map", "map-foreground"]
    return {
        "records": records,
        "metrics": {method: metrics([record["methods"][method] for record in records]) for method in methods},
        "histograms": {method: histograms(masks[method], labels_of) for method in methods},
        "bootstrap": [interval(records, a, b, name, 200, 11) for a, b in pairs for name in names],
    }


def write(crate, golden):
    folder = ROOT / crate / "tests/fixtures/segment"
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for key, value in golden.items():
        items = ",\n".join(json.dumps(item, separators=(",", ":")) for item in value) if isinstance(value, list) else None
        lines.append(f'"{key}": [\n{items}\n]' if items is not None else f'"{key}": {json.dumps(value, separators=(",", ":"))}')
    (folder / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(folder / "golden.json", (folder / "golden.json").stat().st_size)


def main():
    torch.set_num_threads(1)
    rng = np.random.default_rng(4)
    maps = [rng.standard_normal(shape).astype(np.float32) for shape in ((2, 2), (5, 7), (8, 8), (3, 2))]
    write("tasks", {
        "positions": positions(),
        "blur": [dict(map=as_list(map_), blurred=as_list(blur(map_)[1])) for map_ in maps],
        "bilinear": [
            dict(map=as_list(map_), upsampled=as_list(bilinear(map_, *size)[1]))
            for map_, size in zip(maps, ((5, 3), (13, 20), (3, 4), (9, 9)))
        ],
        "two": two_classes(rng),
        "several": several_classes(rng),
    })
    golden = dataset(rng)
    for method, found in golden["histograms"].items():
        assert abs(found["miou"] - golden["metrics"][method]["miou-identity"]) < 1e-12
        print(method, "accuracy", found["accuracy"], "their mIoU", found["miou"], "mIoU", golden["metrics"][method]["miou"])
    write("eval", golden)


if __name__ == "__main__":
    main()
