"""Turn Cityscapes' photos and colour-coded labels into pairs for pix2pix and two domains for CycleGAN.

    python datasets/prepare_cityscapes_dataset.py --gtFine_dir ./gtFine --leftImg8bit_dir ./leftImg8bit \
        --output_dir ./datasets/cityscapes

Cityscapes' validation set becomes `test`. Download both folders from https://www.cityscapes-dataset.com first.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import pairs
from PIL import Image
from tqdm import tqdm

from data.formats import pillow

SIDE = 256
BEST = {"quality": 100, "subsampling": 0}
LABEL, PHOTO = "_color.png", "_leftImg8bit.png"


def find_pairs(gtFine: Path, leftImg8bit: Path, phase: str) -> list[tuple[Path, Path]]:
    """Match photos and labels by CITY/CITY_SHOT_FRAME; stop if any lacks its partner."""
    labels = {path.name.removesuffix(LABEL).rpartition("_")[0]: path for path in (gtFine / phase).glob(f"*/*{LABEL}")}
    photos = {path.name.removesuffix(PHOTO): path for path in (leftImg8bit / phase).glob(f"*/*{PHOTO}")}
    if not labels and not photos:
        pairs.stop(
            f"found neither {gtFine}/{phase}/CITY/*{LABEL} nor {leftImg8bit}/{phase}/CITY/*{PHOTO}; "
            f"{pairs.contents(gtFine)}; {pairs.contents(leftImg8bit)}"
        )
    if lonely := sorted(labels.keys() ^ photos.keys()):
        pairs.stop(f"{phase}: {len(lonely)} have a photo or a label only: {pairs.enumerate_names(lonely)}")
    return [(photos[key], labels[key]) for key in sorted(labels, key=lambda key: str(labels[key]))]


def prepare(found: list[tuple[Path, Path]], out: Path, phase: str) -> None:
    """Write each pair as 256 x 256 photo, label and photo | label."""
    for index, (photo_path, label_path) in enumerate(tqdm(found, desc=phase, disable=None)):
        try:
            # Bicubic for both, as in the reference: labels are colours, not class numbers.
            photo, label = (
                pillow.load(path).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for path in (photo_path, label_path)
            )
            pairs.write(pairs.side_by_side(photo, label), out / phase / f"{index}.jpg", **BEST)
            pairs.write(photo, out / f"{phase}A" / f"{index}_A.jpg", **BEST)
            pairs.write(label, out / f"{phase}B" / f"{index}_B.jpg", **BEST)
        except pairs.BROKEN as error:
            pairs.stop(f"cannot prepare {photo_path} and {label_path}: {error}")
    print(f"{phase}: {len(found)} pairs")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Resize Cityscapes' photos and labels to 256 x 256 (bicubic) and write OUT/train (photo | label), "
        "OUT/trainA (photos), OUT/trainB (labels) and the same for test, as JPEG of quality 100 with full colour."
    )
    parser.add_argument("--gtFine_dir", type=Path, required=True, help="the folder gtFine of gtFine_trainvaltest.zip")
    parser.add_argument("--leftImg8bit_dir", type=Path, required=True, help="the folder leftImg8bit")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write, such as ./datasets/cityscapes")
    args = parser.parse_args()
    found = {
        phase: find_pairs(args.gtFine_dir, args.leftImg8bit_dir, source)
        for source, phase in (("val", "test"), ("train", "train"))
    }
    for phase, phase_pairs in found.items():
        prepare(phase_pairs, args.output_dir, phase)
    words = ["--dataroot", str(args.output_dir), *"--name cityscapes_pix2pix --model pix2pix --direction BtoA".split()]
    print(f"next: python train.py {shlex.join(words)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
