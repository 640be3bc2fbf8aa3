"""Join the two domains of an unpaired layout side by side, if their sorted images belong together.

    python datasets/make_dataset_aligned.py --dataset-path data

testA and testB become test/0000.jpg ..., trainA and trainB become train/0000.jpg ... (A on the left).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pairs

from data.formats import pillow
from util.errors import UserError


def find_pairs(root: Path, phase: str) -> list[tuple[Path, Path]]:
    """Pair the sorted images of both folders; stop if their numbers or sizes differ."""
    folders = [root / f"{phase}A", root / f"{phase}B"]
    files = [pairs.images_of(folder) for folder in folders]
    if len(files[0]) != len(files[1]):
        counts = " and ".join(f"{len(found)} in {folder}" for found, folder in zip(files, folders, strict=True))
        pairs.stop(f"each image needs a partner, but there are {counts}")
    found = list(zip(*files, strict=True))
    for A, B in found:
        try:
            sizes = [pillow.read_header(path)[:2] for path in (A, B)]
            if sizes[0] != sizes[1]:
                pairs.stop(f"{A} has {sizes[0]} pixels, its partner {B} {sizes[1]}")
        except UserError as error:
            pairs.stop(str(error))
    pairs.check_first(found)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Join trainA with trainB and testA with testB, in sorted order, as JPEG (Pillow's default quality)."
    )
    parser.add_argument("--dataset-path", type=Path, required=True, help="folder with trainA trainB and/or testA testB")
    root = parser.parse_args().dataset_path
    found = {phase: find_pairs(root, phase) for phase in ("test", "train")}
    if not any(found.values()):
        pairs.stop(f"looked for images in {root}/trainA, trainB, testA and testB; {pairs.contents(root)}")
    for phase, phase_pairs in found.items():
        for index, (A, B) in enumerate(phase_pairs):
            try:
                pairs.write(pairs.join(A, B), root / phase / f"{index:04d}.jpg")
            except pairs.BROKEN as error:
                pairs.stop(f"cannot join {A} and {B}: {error}")
        print(f"{phase}: {len(phase_pairs)} pairs" + (f" in {root / phase}" if phase_pairs else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
