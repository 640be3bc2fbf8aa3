"""Evaluate images: metrics of pairs, an image and its ground truth, and of two sets.

evaluation = Evaluation(["psnr", "kid_lite0"])
for fake, real in batches:  # uint8 (N, C, H, W)
    evaluation.add(fake, real)
evaluation.compute()["psnr"].value
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from util.errors import UserError, did_you_mean, need
from util.metrics import features
from util.metrics.intervals import mean_and_half_interval
from util.metrics.pairs import PIXELS, lpips
from util.metrics.sets import DISTANCES, UNBIASED, distance_and_half_interval, frechet, kernel
from util.metrics.table import METRICS


class Score(NamedTuple):
    """A metric's value, its 95 % interval, and the number of images measured."""

    value: float
    low: float
    high: float
    images: int


def default_metrics(paired: bool, weights: dict[str, Path] | None = None) -> list[str]:
    """Return the metrics to measure if none are named: those without a download, and those of the given weights.

    Packages and caches of the machine do not count, so that a command measures the same everywhere.
    """
    networks = {"" if paired else "lite0", *(METRICS[name].network for name in weights or {} if name in METRICS)}
    return [name for name, metric in METRICS.items() if metric.network in networks and (paired or not metric.paired)]


class Evaluation:
    """Measure images, batch by batch, in constant memory.

    Values do not depend on how the images are split into batches. Intervals (95 %) say how far a value would move with
    other images from the same source: standard errors of means, and a jackknife of distances.
    """

    def __init__(
        self,
        names: Iterable[str],
        device: torch.device | str = "cpu",
        weights: dict[str, Path] | None = None,
        download: bool = True,
    ):
        """Prepare some of METRICS; `weights`: metric -> file, for networks whose weights come separately.

        Raises UserError for an unknown metric, a missing package, or weights that are missing and cannot be downloaded.
        """
        asked = list(names)
        for name in [*asked, *(weights or {})]:
            if name not in METRICS:
                raise UserError(f"metric {name!r} is not one of {', '.join(METRICS)}.{did_you_mean(name, METRICS)}")
        need("torchmetrics", "torchmetrics", ", ".join(asked))
        self.names = [name for name in METRICS if name in asked]
        self.device = torch.device(device)
        given = {METRICS[name].network: Path(path) for name, path in (weights or {}).items()}
        self.networks = {
            name: features.network(name, device, given.get(name), download)
            for name in dict.fromkeys(METRICS[name].network for name in self.names)
            if name
        }
        self.values = {name: array("d") for name in self.names if METRICS[name].paired}  # NaN where an image has none
        sets = [name for name in self.networks if name != "lpips"]
        self.sets = {name: tuple(features.Features(self.networks[name], device) for _ in range(2)) for name in sets}
        self.missing: dict[str, str] = {}  # metric -> why `compute` has no value for it
        self.notes: list[str] = []  # warnings about the values of `compute`

    def add(self, fake: Tensor, real: Tensor) -> dict[str, list[float]]:
        """Add pairs, uint8 (N, C, H, W) with C 1 or 3; return each image's value of every paired metric.

        A value is NaN where the image is too small for the metric. The images also go to the metrics of sets.
        """
        self.add_fake(fake)
        self.add_real(real)
        if fake.shape[0] != real.shape[0] or fake.shape[2:] != real.shape[2:]:
            sizes = [f"{len(images)} of {images.shape[3]} x {images.shape[2]}" for images in (fake, real)]
            raise UserError(f"results and ground truths differ in size: {' and '.join(sizes)} (width x height)")
        if fake.shape[1] != real.shape[1]:
            fake, real = three_channels(fake), three_channels(real)
        pairs = [*zip(fake.split(1), real.split(1), strict=True)]  # one by one: batches would round sums differently
        values = {name: [self._measure(name, *pair) for pair in pairs] for name in self.values}
        for name, found in values.items():
            self.values[name].extend(found)
        return values

    def add_fake(self, images: Tensor) -> None:
        """Add results for the metrics of two sets."""
        self._add(0, images)

    def add_real(self, images: Tensor) -> None:
        """Add real images for the metrics of two sets."""
        self._add(1, images)

    def _add(self, side: int, images: Tensor) -> None:
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"uint8 (N, 1 or 3, H, W) expected, not {images.dtype} {tuple(images.shape)}")
        for both in self.sets.values():
            both[side].add(three_channels(images))

    def _measure(self, name: str, fake: Tensor, real: Tensor) -> float:
        """Measure one pair (1, C, H, W)."""
        if min(fake.shape[2:]) < METRICS[name].smallest:
            return math.nan
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        with torch.no_grad(), features.exact():
            if name == "lpips":
                pair = (three_channels(images).to(self.device) for images in (fake, real))
                return lpips(self.networks["lpips"], *pair)
            return float(PIXELS[name](*(image.to(self.device, exact).contiguous() for image in (fake, real))))

    def compute(self, intervals: bool = True) -> dict[str, Score]:
        """Return scores in the order of METRICS; without `intervals`, low = high = value.

        A metric without a value is left out, and `missing` says why. No random state is changed.
        """
        self.missing, self.notes = {}, []
        scores = {name: self._pairs(name, values, intervals) for name, values in self.values.items()}
        for name in self.names:
            if not METRICS[name].paired:
                scores[name] = self._sets(name, intervals)
        return {name: scores[name] for name in self.names if scores[name]}

    def _pairs(self, name: str, values: array, intervals: bool) -> Score | None:
        value, half, count = mean_and_half_interval(values)
        small = f"smaller than {METRICS[name].smallest} pixels"
        if not count:
            self.missing[name] = f"images are {small}" if values else "no pairs"
            return None
        if count < len(values):
            self.notes.append(f"{name}: without {len(values) - count:,} images that are {small}")
        return interval(name, value, half * intervals, count)

    def _sets(self, name: str, intervals: bool) -> Score | None:
        fake, real = (side.rows() for side in self.sets[METRICS[name].network])
        few = min(len(fake), len(real))
        if few < 2:
            self.missing[name] = f"each set needs at least two images; there are {len(fake)} and {len(real)}"
            return None
        distance = DISTANCES[name]
        value, half = distance_and_half_interval(distance, fake, real, intervals, self.device)
        if distance is frechet and few <= (width := fake.shape[1]):
            self.notes.append(
                f"{name}: {few:,} images are too few for covariances of {width:,} features, so the value is too large. "
                f"Compare it only with values from the same number of images; {UNBIASED[name]} has no such bias"
            )
        return interval(name, value, half, len(fake))


def interval(name: str, value: float, half: float, images: int) -> Score:
    """Return a score whose interval stays above 0 where the metric does: only an unbiased KID can be negative."""
    low = value - half
    return Score(value, low if DISTANCES.get(name) is kernel else max(low, 0.0), value + half, images)


def three_channels(images: Tensor) -> Tensor:
    """Return images (N, 1 or 3, H, W) with three channels."""
    return images.expand(-1, 3, -1, -1)
