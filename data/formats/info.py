"""Facts about an image file, which every format's module returns and writes back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from util.errors import UserError, printable

MOST_BYTES = 2**30  # of values that are read at once


class Box(NamedTuple):
    """A piece of a slice, in pixels; right and bottom are not part of it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Info:
    """A file's slices (D, H, W, C) of one dtype: a photo has one slice, a volume has more.

    `header` is whatever the format's module needs to write a file like this one: tags, resolution, geometry.
    """

    path: str
    format: str  # the name of the module that reads it
    slices: int
    height: int
    width: int
    channels: int
    dtype: np.dtype  # of the values that `read` returns
    alpha: bool = False  # the last channel is opacity
    bits: int = 0  # that the values use, if these are fewer than the dtype's
    unit: str = ""
    spacing: tuple[float, ...] = ()  # of slices, rows and columns, in millimetres
    affine: tuple[tuple[float, ...], ...] = ()  # from voxel indices to millimetres
    notes: tuple[tuple[str, str], ...] = ()  # (kind, sentence) of content that `read` changes or leaves out
    header: object = None

    def with_values(self, **changes) -> Info:
        """Return a copy with other facts."""
        return replace(self, **changes)

    def box(self, box: Box | None) -> Box:
        """Return `box`, or the whole slice; UserError if it reaches beyond the image."""
        box = box or Box(0, 0, self.width, self.height)
        if not (0 <= box.left < box.right <= self.width and 0 <= box.top < box.bottom <= self.height):
            raise UserError(f"{printable(self.path)} is {self.width}x{self.height}: it has no piece {tuple(box)}.")
        return box
