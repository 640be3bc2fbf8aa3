"""Values of image files with more than 8 bits: their range, which are refused, and how the others become 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from util.errors import UserError, printable

DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # grey with more than 8 bits
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of a TIFF
MOST_CLASSES = 64  # lower values are probably class numbers
LEAST = 1 / 8  # of the range that the values of deep images have to use
OWN = "or let train.py read the folders of A and B with --value_range (docs/datasets.md)"


class RangeError(UserError):
    """Values whose black and white are unknown. `paths` are the images in question."""

    def __init__(self, text: str, paths=()):
        super().__init__(text)
        self.paths = list(paths)


class Values(NamedTuple):
    """The type of a file's values."""

    kind: str  # "unsigned", "signed", "float"
    bits: int
    inverted: bool = False  # 0 is white, in a depth in which Pillow does not turn that round
    upper: bool = False  # Pillow reads the upper 8 bits only

    @property
    def top(self) -> int:
        """The value of white."""
        return 2**self.bits - 1

    @property
    def deep(self) -> bool:
        """Whether the values are anything but the usual 8 bits."""
        return self.bits > 8 or self.kind != "unsigned"


class Range(NamedTuple):
    """The values in some files, all of one type."""

    values: Values
    low: float
    high: float

    def join(self, other: Range) -> Range:
        """Return the range of both."""
        return self._replace(low=np.minimum(self.low, other.low), high=np.maximum(self.high, other.high))

    def __str__(self):
        return f"{self.low:.6g} to {self.high:.6g}"

    def fault(self, of: str, whole: bool = True) -> str:
        """Return why images with these values are refused, and what to do; else nothing.

        `of`: the images, as the subject of a sentence. `whole`: they are enough to show how much of the range is used.
        """
        kind, bits, top = self.values.kind, self.values.bits, self.values.top
        if kind != "unsigned":
            return (
                f"{of} {'floats' if kind == 'float' else 'signed numbers'} from {self}, and nothing says which of them "
                f"are black and white.\nWrite all images with one scale, as unsigned numbers of 8 or 16 bits, {OWN}."
            )
        used = (self.high - self.low) / top
        if not whole or used >= LEAST:
            return ""
        offset = self.low if self.low > self.high - self.low else 0
        like = f"{int(self.high).bit_length()}-bit data" if self.high >= MOST_CLASSES else "class numbers"
        like, base = (", a narrow band", f"(value - {offset:.0f})") if offset else (f", like {like}", "value")
        levels, factor = int(used * 255) + 1, int(top // max(1, self.high - offset))
        return (
            f"{of} values from {self} in {bits} bits (0 to {top}){like}: they would become {levels} of 256 levels.\n"
            f"Write all images with one scale, here {base} * {factor}, {OWN}."
        )


def type_of(image: Image.Image) -> Values:
    """Return the type of the values of an image that is opened, not yet decoded."""
    tags = getattr(image, "tag_v2", {})
    formats = set(tags.get(SAMPLE_FORMAT, ()))
    args = image.tile[0][3] if image.tile else ""
    rawmode = args if isinstance(args, str) else str(args[0]) if args else ""
    bits = 16 if image.mode in DEEP_MODES or ";16" in rawmode else 8
    bits = max(tags.get(BITS, ()), default=bits) if bits > 8 else 8
    kind = "float" if image.mode == "F" or 3 in formats else "signed" if 2 in formats else "unsigned"
    inverted = image.mode in DEEP_MODES and tags.get(PHOTOMETRIC) == 0
    return Values(kind, bits, inverted, bits > 8 and image.mode not in DEEP_MODES)


def turned_round(image: Image.Image, values: Values) -> Image.Image:
    """Return a deep grey image with 0 as black."""
    if not values.inverted or values.kind != "unsigned":
        return image
    return Image.fromarray((values.top - np.asarray(image)).astype(np.uint16))


def range_of(image: Image.Image, values: Values) -> Range:
    """Return the range of a decoded image; of upper bits, with all lower bits that they may have."""
    if values.upper:
        ends = [channel.getextrema() for channel in image.split()[: 1 if image.mode == "LA" else 3]]
        unit = 2 ** (values.bits - 8)
        return Range(values, min(low for low, _ in ends) * unit, (max(high for _, high in ends) + 1) * unit - 1)
    if image.mode not in DEEP_MODES:  # signed numbers of 8 bits
        low, high = np.asarray(image).view(np.int8).min(), np.asarray(image).view(np.int8).max()
        return Range(values, low, high)
    ends = [(strip.min(), strip.max()) for strip in _strips(image, values)]
    return Range(values, np.min(ends), np.max(ends))  # not a number if any value is


def to_8_bits(image: Image.Image, values: Values, top: int) -> Image.Image:
    """Scale a deep grey image from 0..top to 0..255."""
    strips = [
        np.floor(strip.astype(np.float64) * (255 / top) + 0.5).astype(np.uint8) for strip in _strips(image, values)
    ]
    return Image.fromarray(np.concatenate(strips))


def guess_top(found: Range) -> int:
    """Return the value of white as earlier versions took it, for their runs: from the file's own values."""
    tops = (1, 255, 65535) if found.values.kind == "float" else (65535,)
    top = next((top for top in tops if found.high <= top), None)
    if top is None or not found.low >= 0:  # `not` also finds NaN
        raise UserError(
            f"its values run from {found}. Deep images are read from 0..65535, and floats from 0..1 or 0..255 too."
        )
    return top


def _strips(image: Image.Image, values: Values) -> Iterator[np.ndarray]:
    """Yield an image's rows, about a million values at a time, which bounds the memory."""
    rows = max(1, 2**20 // image.width)
    for top in range(0, image.height, rows):
        strip = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))  # (rows, W)
        yield strip.view(np.uint32) if (values.kind, values.bits, image.mode) == ("unsigned", 32, "I") else strip


def check_ranges(found: list[tuple[str, Range]], count: int, paths: list[str]) -> None:
    """Raise RangeError for values that are refused, given the range of each deep file among the first `count` paths."""
    by_type: dict[Values, list[tuple[str, Range]]] = {}
    for path, one in found:
        by_type.setdefault(one.values, []).append((path, one))
    for group in by_type.values():
        joined = group[0][1]
        for _, one in group[1:]:
            joined = joined.join(one)
        path, looked = printable(group[0][0]), f"of the first {count} images"
        if fault := joined.fault(f"{path}: {len(group)} {looked} hold{'s' * (len(group) == 1)}"):
            raise RangeError(fault, paths)
