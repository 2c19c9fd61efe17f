"""Times the decoding of JPEG files beside Pillow, in turn, on one core: milliseconds for an image.

    cargo build --release -p models --example bench_jpeg
    python tools/bench_jpeg.py --ours target/release/examples/bench_jpeg --images FOLDER [--rounds 5] [--out FILE.json]

Both have the files in memory. A time is the shortest of three passes over the folder. Whether ours was built with SIMD depends on `nasm`
being there at build time. Pinned: pillow 13.0.0.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import PIL
from PIL import Image

AIM, PASSES = 1, 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="the example bench_jpeg of models")
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEG files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    files = [path.read_bytes() for path in sorted(given.images.iterdir()) if path.suffix.lower() in {".jpg", ".jpeg"}]
    program = subprocess.Popen([given.ours, str(given.images)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ours():
        program.stdin.write("\n")
        program.stdin.flush()
        return float(program.stdout.readline())

    def peer():
        start = time.perf_counter()
        for file in files:
            Image.open(io.BytesIO(file)).convert("RGB").load()
        return (time.perf_counter() - start) * 1e3 / len(files)

    rounds = [[min(run() for _ in range(PASSES)) for run in (ours, peer)] for _ in range(given.rounds)]
    mine, theirs = (statistics.median(each) for each in zip(*rounds))
    ratio = statistics.median(other / own for own, other in rounds)
    print(f"{len(files)} photographs: {mine:.2f} ms, Pillow {theirs:.2f} ms: {ratio:.2f} x")
    if given.out:
        given.out.write_text(json.dumps({
            "photographs": len(files), "rounds": given.rounds, "cores": os.cpu_count(), "load": os.getloadavg()[0],
            "pillow": PIL.__version__, "ours_ms": mine, "pillow_ms": theirs, "ratio": ratio, "aim": AIM,
        }) + "\n")


if __name__ == "__main__":
    main()
