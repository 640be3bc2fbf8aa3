"""Measure a results folder of test.py against the truth, beside two answers that need no training.

    python scripts/score.py results/earth_pix2pix/test_latest --train_B datasets/earth/train

Pairs each `*_fake_B.png` with its `*_real_B.png`. PSNR (dB) and SSIM are computed on 8-bit RGB for each image, then
averaged over the images. The trivial answers: the input itself (`*_real_A.png`), and with --train_B the mean of the
training targets, one picture for every input. A translation that does not beat both has learned nothing useful.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.metrics import structural_similarity

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}


def main() -> None:
    """Parse the command line, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a results folder, or its images/")
    parser.add_argument("--train_B", type=Path, help="training targets, alone or as right halves of A | B pairs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    try:
        scores = score_folder(args.results, args.train_B)
        if args.json:
            args.json.write_text(json.dumps(finite(scores), indent=1) + "\n")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print_table(scores)


def score_folder(results: Path, train_B: Path | None = None) -> dict:
    """Return {"images": count, "result": {"psnr", "ssim"}, "input": ..., "mean_target": ...}.

    "input" is there if every image has a `_real_A.png` of the target's size, "mean_target" if `train_B` is given.
    Raises ValueError where no pairs are found or sizes differ.
    """
    pairs = list(find_pairs(results))
    answers = {"result": [fake for fake, _ in pairs]}
    inputs = [real.with_name(real.name.replace("_real_B.png", "_real_A.png")) for _, real in pairs]
    if all(
        path.exists() and image_size(path) == image_size(real) for path, (_, real) in zip(inputs, pairs, strict=True)
    ):
        answers["input"] = inputs
    means = {}  # one mean picture for each size of target
    measured: dict[str, list] = {}
    for i, (_, real) in enumerate(pairs):
        truth = read_rgb(real)
        for name, paths in answers.items():
            measured.setdefault(name, []).append(compare(read_rgb(paths[i]), truth, paths[i]))
        if train_B:
            size = (truth.shape[1], truth.shape[0])
            if size not in means:
                means[size] = mean_target(train_B, size)
            measured.setdefault("mean_target", []).append(compare(means[size], truth, train_B))
    scores: dict = {"images": len(pairs)}
    for name, values in measured.items():
        psnr, ssim = np.mean(values, axis=0)
        scores[name] = {"psnr": float(psnr), "ssim": float(ssim)}
    return scores


def find_pairs(results: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (fake_B, real_B) of a results folder, by name."""
    folder = results / "images" if (results / "images").is_dir() else results
    fakes = sorted(folder.rglob("*_fake_B.png"))
    if not fakes:
        raise ValueError(f"no *_fake_B.png in {folder}: name a folder that test.py wrote, results/NAME/test_latest")
    for fake in fakes:
        real = fake.with_name(fake.name.removesuffix("_fake_B.png") + "_real_B.png")
        if not real.exists():
            raise ValueError(f"{real} is missing: a score needs the truth beside each result")
        yield fake, real


def mean_target(folder: Path, size: tuple[int, int]) -> np.ndarray:
    """Return the mean (H, W, 3) of a folder's images, or of their right halves where they are A | B pairs."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise ValueError(f"no images in {folder}")
    total = np.zeros((size[1], size[0], 3))
    for path in paths:
        with Image.open(path) as image:
            target = image.convert("RGB")
        if target.width * size[1] == 2 * target.height * size[0]:  # twice as wide as a result
            target = target.crop((target.width // 2, 0, target.width, target.height))
        total += np.asarray(target.resize(size, Image.Resampling.BICUBIC))
    return (total / len(paths)).round().astype(np.uint8)


def compare(image: np.ndarray, truth: np.ndarray, path: Path) -> tuple[float, float]:
    """Return PSNR in dB (infinite for equal images) and SSIM of two 8-bit images (H, W, 3)."""
    if image.shape != truth.shape:
        raise ValueError(
            f"{path} is {image.shape[1]} x {image.shape[0]}, the truth {truth.shape[1]} x {truth.shape[0]}"
        )
    error = np.mean((image.astype(np.float64) - truth) ** 2)
    psnr = 10 * math.log10(255**2 / error) if error else math.inf
    return psnr, structural_similarity(image, truth, data_range=255, channel_axis=-1)


def read_rgb(path: Path) -> np.ndarray:
    """Read an image as 8-bit RGB (H, W, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def image_size(path: Path) -> tuple[int, int]:
    """Read an image's (width, height) without its pixels."""
    with Image.open(path) as image:
        return image.size


def finite(scores: dict) -> dict:
    """Replace what JSON has no number for by null."""
    return {
        key: finite(value) if isinstance(value, dict) else value if math.isfinite(value) else None
        for key, value in scores.items()
    }


def print_table(scores: dict) -> None:
    """Print one line for each answer."""
    names = {"result": "the result", "input": "the input itself", "mean_target": "the mean training target"}
    print(f"{scores['images']} images{'':19} PSNR (dB)    SSIM")
    for key, name in names.items():
        if key in scores:
            print(f"{name:28} {scores[key]['psnr']:6.2f}   {scores[key]['ssim']:7.3f}")


if __name__ == "__main__":
    main()
