"""Facts about an image's pixels: blank, grey, or two pictures side by side."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageStat

FLAT = 1.5  # standard deviation, of 255 levels, below which an image is blank
GREY = 3.0  # mean difference of the channels, of 255 levels, up to which an image is grey; JPEG adds some noise


class Look(NamedTuple):
    """What can be said of an image at a glance."""

    flat: bool  # nothing is to be seen in it
    saturation: float  # mean distance of its channels, 0 to 255
    colours: int  # how many, of 4096

    @property
    def grey(self) -> bool:
        return self.saturation < GREY


def look(image: Image.Image) -> Look:
    """Look at an 8-bit RGB image."""
    flat = max(ImageStat.Stat(image).stddev) < FLAT
    every = max(1, int(math.sqrt(image.width * image.height / 65536)))
    pixels = np.asarray(image)[::every, ::every].astype(np.int32)  # (h, w, 3)
    codes = (pixels >> 4) @ np.array([256, 16, 1])
    return Look(flat, float(np.ptp(pixels, axis=2).mean()), np.count_nonzero(np.bincount(codes.ravel())))


def is_cut_through(image: Image.Image, x: int) -> bool | None:
    """Tell whether an RGB picture goes on across its column `x`, rather than being two side by side.

    True if the columns on both sides of `x` differ no more than their neighbours do. None where that tells nothing: in
    areas of one colour, or where columns far apart differ as little as neighbours do.
    """
    if x < 24 or image.width - x < 24:
        return None
    strip = np.asarray(image.crop((x - 24, 0, x + 24, image.height))).astype(np.float32)  # (h, 48, 3)
    near = np.abs(np.diff(strip, axis=1)).mean(axis=(0, 2))  # (47,): of columns side by side; 23 is across x
    far = np.abs(strip[:, 16:] - strip[:, :-16]).mean(axis=(0, 2))  # (32,): 16 apart; 8 to 23 are across x
    far = np.median(np.delete(far, slice(8, 24)))
    # JPEG's blocks are 8 columns wide, and there may be more of a difference where one ends than within.
    beside = max(np.median(np.delete(near, 23)), np.median(near[[7, 15, 31, 39]]))
    if far < 4 or beside > 0.5 * far:
        return None
    return bool(near[23] <= 1.5 * beside)
