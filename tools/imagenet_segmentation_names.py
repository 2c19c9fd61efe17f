"""Writes datasets/imagenet-segmentation/names.toml: what a prompt calls each synset of ImageNet-Segmentation.

    python tools/imagenet_segmentation_names.py --wordnet /usr/share/wordnet --names imagenet_class_map.json \
        --out datasets/imagenet-segmentation/names.toml

--wordnet is the folder of WordNet 3.0's `data.noun` (Debian: `apt-get install wordnet-base`). --names is the table by
which ConceptAttention names the classes, from `experiments/imagenet_segmentation/data` of its repository: the first
word of a synset -> a short everyday name. A word that heads several synsets gives its name to each of them that is an
animal or an artefact (to all, where none is), because ConceptAttention goes by the word as well.
"""

import argparse
import collections
import json
import pathlib

# The files of WordNet's lexicographers: 05 is noun.animal, 06 is noun.artifact.
THINGS = {"05", "06"}

HEADER = """\
# What a prompt calls each synset of ImageNet-Segmentation: {words} classes, {names} names.
# Written by tools/imagenet_segmentation_names.py from WordNet 3.0 (Copyright 2006 by Princeton University) and from the
# names that ConceptAttention has published (https://github.com/helblazer811/ConceptAttention, MIT licence, Copyright (c)
# 2025 Alec Helbling). The published numbers rest on these, so they are kept where one would choose otherwise: antelopes
# are an "animal", marsupials a "mouse", weasels and mongooses a "ferret", the ichneumon (a mongoose) an "insect", the
# apar (an armadillo) a "monkey". Set dataset.imagenet-segmentation.names to a file of this form to use your own.
#
# The synset's first word stands behind each line. Where that word heads two synsets ("ox", "brocket"), both are listed;
# the data set has one of them.

"""


def synsets(folder):
    """First word of each noun synset, and its lexicographer file, by offset."""
    found = {}
    for line in (folder / "data.noun").read_text(encoding="utf-8").splitlines():
        if not line.startswith("  "):  # the licence
            offset, file, _, _, word = line.split(" ")[:5]
            found[offset] = (word.replace("_", " "), file)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=pathlib.Path, required=True)
    parser.add_argument("--names", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()

    names = json.loads(args.names.read_text())["categories"]
    heads = collections.defaultdict(list)
    for offset, (word, file) in synsets(args.wordnet).items():
        heads[word].append((offset, file))
    unknown = sorted(set(names) - set(heads))
    if unknown:
        raise SystemExit(f"no synset of WordNet 3.0 begins with: {', '.join(unknown)}")

    rows = {}
    for word, name in names.items():
        things = [offset for offset, file in heads[word] if file in THINGS]
        for offset in things or [offset for offset, _ in heads[word]]:
            rows[offset] = f'n{offset} = "{name}"'.ljust(28) + f"# {word}\n"
    header = HEADER.format(words=len(names), names=len(set(names.values())))
    args.out.write_text(header + "".join(row for _, row in sorted(rows.items())))
    print(f"{args.out}: {len(names)} words, {len(rows)} synsets, {len(set(names.values()))} names")


if __name__ == "__main__":
    main()
