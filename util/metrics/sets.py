"""Distances between two sets of images, computed from their features (images, channels)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from util.metrics.intervals import GROUPS, jackknife

WHOLE = 2000  # up to this number of images, a KID takes whole sets
SUBSET, SUBSETS = 1000, 100  # images per subset of larger sets, and number of subsets (Binkowski et al. 2018)


class Sample(NamedTuple):
    """Some images of a set."""

    features: np.ndarray  # (images, channels), possibly on the disk
    chosen: np.ndarray  # indices of images

    def read(self, chosen: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
        return torch.from_numpy(self.features[chosen]).to(device, torch.float64)


def frechet(fake: Sample, real: Sample, gamma: float, device: torch.device) -> float:
    """Return the Frechet distance (Heusel et al. 2017)."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    given = nn.Identity()  # stands for a network: its features are given
    given.num_features = fake.features.shape[1]
    metric = FrechetInceptionDistance(feature=given)
    for sample, is_real in ((fake, False), (real, True)):
        for begin in range(0, len(sample.chosen), SUBSET):
            metric.update(sample.read(sample.chosen[begin : begin + SUBSET]), real=is_real)
    return float(metric.compute())


def kernel(fake: Sample, real: Sample, gamma: float, device: torch.device) -> float:
    """Return the kernel distance (Binkowski et al. 2018): squared MMD, unbiased, kernel (gamma x.y + 1)^3.

    Sets of equal size, up to 2,000 images, are taken whole. Otherwise the distance is the mean over 100 subsets of
    1,000 images of each set, or of the smaller set's size.
    """
    from torchmetrics.image.kid import poly_mmd

    sizes = len(fake.chosen), len(real.chosen)
    if sizes[0] == sizes[1] <= WHOLE:
        return float(poly_mmd(real.read(real.chosen, device), fake.read(fake.chosen, device), 3, gamma, 1.0))
    rng, values = np.random.default_rng(0), []
    for _ in range(SUBSETS):
        subsets = [s.read(rng.choice(s.chosen, min(SUBSET, *sizes), replace=False), device) for s in (fake, real)]
        values.append(float(poly_mmd(*subsets, 3, gamma, 1.0)))
    return math.fsum(values) / len(values)


Distance = Callable[[Sample, Sample, float, torch.device], float]
DISTANCES: dict[str, Distance] = {"fid": frechet, "kid": kernel, "fd_lite0": frechet, "kid_lite0": kernel}
UNBIASED = {"fid": "kid", "fd_lite0": "kid_lite0"}


def distance_and_half_interval(
    distance: Distance, fake: np.ndarray, real: np.ndarray, interval: bool, device: torch.device | str = "cpu"
) -> tuple[float, float]:
    """Return the distance of two sets and half of its 95 % interval, 0 without `interval` or for fewer than 4 images.

    The interval is a grouped jackknife: the spread of ten distances, each without a tenth of the images of both sets.
    """
    device = torch.device(device if torch.device(device).type == "cuda" else "cpu")  # others lack float64
    gamma = 1 / fake.shape[1]
    rng = np.random.default_rng(0)
    # Sorted along a random direction: nothing depends on the order of the images, and neighbours are not alike.
    orders = [
        np.argsort(rows @ rng.standard_normal(rows.shape[1], dtype=np.float32), kind="stable") for rows in (fake, real)
    ]
    sets = compact(fake, real)
    value = distance(*map(Sample, sets, orders), gamma, device)
    if not interval or min(len(fake), len(real)) < 4:
        return value, 0.0
    groups = min(GROUPS, len(fake), len(real))
    shuffled = [rng.permutation(order) for order in orders]
    rest = [[np.delete(order, slice(k, None, groups)) for order in shuffled] for k in range(groups)]
    found = [distance(*map(Sample, sets, chosen), gamma, device) for chosen in rest]
    return value, float(jackknife(found))


def compact(fake: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project features of fewer images than channels onto the space that they span: distances stay the same."""
    images, width = len(fake) + len(real), fake.shape[1]
    if images >= width:
        return fake, real
    basis, _ = np.linalg.qr(np.concatenate([fake, real]).astype(np.float64).T)  # (channels, images), orthonormal
    return fake @ basis, real @ basis
