#!/usr/bin/env python3
"""Writes a small file laid out like `gtsegs_ijcv.mat` of ImageNet-Segmentation, and what Python reads from it.

    pip install h5py==3.16.0 numpy==2.4.6 pillow==13.0.0
    python tools/fake_gtsegs.py                                   # crates/tasks/tests/fixtures/gtsegs/
    python tools/fake_gtsegs.py --pictures pictures.csv --out DIR # lines of image,mask,id; a mask's non-zero is 1

The file is MATLAB v7.3: HDF5 behind 512 bytes of text, `/value` a struct of cell arrays of references into `#refs#`,
arrays transposed, ids in UTF-16. Small arrays are stored whole and large ones in compressed chunks, as MATLAB does.
Beside `gtsegs.mat` stand `{index}-image.png` and `{index}-mask.png`: the same entries read back by h5py and numpy,
indexed as the readers of Chefer et al. and ConceptAttention do.
"""

import argparse
import csv
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

FIXTURE = Path(__file__).parent.parent / "crates" / "tasks" / "tests" / "fixtures" / "gtsegs"
IDS = ["n02123045_7", "n02442172_10139", "n02690373_1"]
SIZES = [(31, 20), (48, 64), (90, 70)]


def shapes():
    """Three pictures with an ellipse on a gradient, wider than high and higher than wide: (image, mask, id)."""
    for index, ((width, height), name) in enumerate(zip(SIZES, IDS)):
        y, x = np.mgrid[:height, :width]
        centre = (width * (0.35 + 0.1 * index), height * 0.6)
        mask = ((x - centre[0]) / (width * 0.3)) ** 2 + ((y - centre[1]) / (height * 0.25)) ** 2 < 1
        ground = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1)
        image = np.where(mask[..., None], [200 - 60 * index, 40, 60 + 50 * index], ground)
        yield image.astype(np.uint8), mask.astype(np.uint8), name


def listed(table):
    for image, mask, name in csv.reader(table.open(newline="")):
        with Image.open(table.parent / image) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        with Image.open(table.parent / mask) as picture:
            yield pixels, (np.asarray(picture.convert("L")) > 0).astype(np.uint8), name


def write(path, entries):
    with h5py.File(path, "w", userblock_size=512) as file:
        refs, value = file.create_group("#refs#"), file.create_group("value")
        value.attrs["MATLAB_class"] = np.bytes_("struct")

        def put(array, kind):
            large = {"chunks": (min(3, array.shape[0]), 16, 16)[-array.ndim :], "compression": 3, "shuffle": True}
            options = large if array.size > 2000 else {}
            dataset = refs.create_dataset(f"r{len(refs)}", data=array, **options)
            dataset.attrs["MATLAB_class"] = np.bytes_(kind)
            return dataset.ref

        def cell(group, name, references):
            data = np.array([[reference] for reference in references], dtype=h5py.ref_dtype)
            dataset = group.create_dataset(name, data=data, dtype=h5py.ref_dtype)
            dataset.attrs["MATLAB_class"] = np.bytes_("cell")
            return dataset.ref

        columns = {"gt": [], "id": [], "img": []}
        for index, (image, mask, name) in enumerate(entries):
            columns["img"].append(put(image.transpose(2, 1, 0), "uint8"))
            columns["gt"].append(cell(refs, f"gt{index}", [put(mask.transpose(1, 0), "uint8")]))
            text = np.frombuffer(name.encode("utf-16-le"), np.uint16)
            columns["id"].append(put(text.reshape(-1, 1), "char"))
        for name, references in columns.items():
            cell(value, name, references)
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 ."
    with path.open("r+b") as file:
        file.write(head.ljust(124) + b"\x00\x02IM")


def read(path):
    with h5py.File(path) as file:
        for index in range(len(file["/value/img"])):
            image = np.array(file[file["/value/img"][index, 0]]).transpose(2, 1, 0)
            mask = np.array(file[file[file["/value/gt"][index, 0]][0, 0]]).transpose(1, 0)
            yield image, mask


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--out", type=Path, default=FIXTURE)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "gtsegs.mat"
    write(path, listed(args.pictures) if args.pictures else shapes())
    for index, (image, mask) in enumerate(read(path)):
        Image.fromarray(image).save(args.out / f"{index}-image.png", optimize=True)
        Image.fromarray(mask).save(args.out / f"{index}-mask.png", optimize=True)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
