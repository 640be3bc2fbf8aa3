"""95 % intervals: the standard error of a mean, and a jackknife for values that are no mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z95 = 1.96  # standard deviations of a normal distribution that hold 95 %
GROUPS = 10  # of the jackknife
T95 = 2.262  # the same as Z95, of Student's t with GROUPS - 1 degrees of freedom


def mean_and_half_interval(values: Sequence[float]) -> tuple[float, float, int]:
    """Return the mean of the values that are not NaN, half of its 95 % interval, and how many values it has.

    The half is 1.96 standard deviations over the square root of the count; 0 for one value or an infinite mean.
    """
    values = np.sort(np.asarray(values, np.float64))  # so that the order of the images does not matter
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, 0.0, 0
    mean = float(values.mean())
    known = len(values) > 1 and math.isfinite(mean)
    return mean, Z95 * float(values.std(ddof=1)) / math.sqrt(len(values)) if known else 0.0, len(values)


def jackknife(values: Sequence) -> np.ndarray:
    """Return half of a 95 % interval from values (groups, ...), each computed without one group of the images."""
    return T95 * math.sqrt(len(values) - 1) * np.std(values, axis=0)
