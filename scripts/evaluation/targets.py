"""Ground truths of results, and the mean of the training targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from data.formats import pillow
from data.image_folder import find_images
from scripts.evaluation.results_folder import read_results
from util.errors import UserError, printable


def find_pairs(results: Path, side: str = "B") -> list[tuple[Path, Path]]:
    """List (fake, real) of a results folder, sorted by name; UserError if there are none, or a fake has no real."""
    found = read_results(results)
    for fake, real in ((f"fake_{side}", f"real_{side}"), ("fake_B_rgb", "real_B_rgb")):  # --model colorization
        rows = [row for row in found.rows if fake in row.pictures]
        if missing := [row.name for row in rows if real not in row.pictures]:
            path = found.images / f"{missing[0]}_{real}.png"
            raise UserError(f"{printable(path)} is missing: every result needs its ground truth.")
        if rows:
            return sorted((row.pictures[fake], row.pictures[real]) for row in rows)
    alone = " It contains results of --model test, which have no ground truth: test with the training's --model."
    raise UserError(
        f"no *_fake_{side}.png in {printable(found.images)}: "
        "name a folder that test.py wrote, results/NAME/test_latest." + alone * ("fake" in found.labels())
    )


def half(image: Image.Image, side: str) -> Image.Image:
    """Return A, the left half of an A | B pair, or B, the right one."""
    middle = image.width // 2
    left = 0 if side == "A" else middle
    return image.crop((left, 0, left + middle, image.height))


def targets(folder: Path, side: str, size: tuple[int, int]) -> Iterator[Image.Image]:
    """Yield a folder's images, or their halves `side` if they are A | B pairs: twice as wide as the shape of `size`."""
    paths = find_images(folder)
    pillow.check_first(paths)
    for path in paths:
        image = pillow.load(path)
        yield half(image, side) if image.width * size[1] == 2 * image.height * size[0] else image


class MeanImage:
    """The mean of images, which are read once."""

    def __init__(self, images: Callable[[tuple[int, int]], Iterable[Image.Image]]):
        """`images`: (width, height) of the images that the mean is compared with -> the images."""
        self.images = images
        self.channels: list[Image.Image] = []  # of the mean, not rounded
        self.size, self.resized = (0, 0), np.empty(0)  # of the last call

    def at(self, size: tuple[int, int]) -> np.ndarray:
        """Return the mean (H, W, 3), uint8, for (width, height)."""
        if not self.channels:
            self.channels = [Image.fromarray(channel) for channel in mean(self.images(size)).transpose(2, 0, 1)]
        if size != self.size:
            resized = [np.asarray(channel.resize(size, Image.Resampling.BICUBIC)) for channel in self.channels]
            self.size, self.resized = size, np.stack(resized, axis=-1).round().clip(0, 255).astype(np.uint8)
        return self.resized


def mean(images: Iterable[Image.Image]) -> np.ndarray:
    """Return the mean of images, resized to the first one's size: float32 (H, W, 3) in [0, 255]."""
    total = count = 0
    size = None
    for image in images:
        size = size or image.size
        total = total + np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float64)
        count += 1
    return (total / count).astype(np.float32)
