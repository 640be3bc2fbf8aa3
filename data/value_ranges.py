"""The values of a side, A or B: how those of its files become the network's [-1, 1], and how results go back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from util.errors import UserError, printable

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"


@dataclass(frozen=True)
class ValueRange:
    """The values that become -1 and 1; without numbers, those of the file's integer type.

    `percentiles` says that the numbers have to be measured on the training split; they are then saved with the run.
    """

    low: float = math.nan
    high: float = math.nan
    percentiles: bool = False

    def ends(self, dtype: np.dtype) -> tuple[float, float]:
        """Return the values that become -1 and 1; UserError for floats without a range."""
        if not math.isnan(self.low):
            return self.low, self.high
        if dtype.kind not in "iu":
            raise UserError(f"its values are {dtype}, and nothing says which of them are black and white.")
        limits = np.iinfo(dtype)
        return float(limits.min), float(limits.max)

    def to_network(self, values: np.ndarray) -> np.ndarray:
        """Map values to float32 in [-1, 1]; those outside of the range are clipped."""
        low, high = self.ends(values.dtype)
        scaled = (values.astype(np.float64) - low) * (2 / (high - low)) - 1
        return scaled.clip(-1, 1).astype(np.float32)

    def to_values(self, image: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Map [-1, 1] back to values; integers are rounded."""
        low, high = self.ends(dtype)
        values = (image.astype(np.float64).clip(-1, 1) + 1) * ((high - low) / 2) + low
        if dtype.kind in "iu":
            values = np.rint(values).clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
        return values.astype(dtype)


def read_value_ranges(words: Iterable[str]) -> dict[str, ValueRange]:
    """Read the words of --value_range: `A=MIN,MAX`, `B=dtype`, `A=p1,99`, or one without a letter for both sides."""
    ranges = {}
    for word in words:
        match = re.fullmatch(rf"(?:([AB])=)?(?:(dtype)|(p?)({NUMBER}),({NUMBER}))", word.strip())
        low, high = (float(match[4]), float(match[5])) if match and match[4] else (math.nan, math.nan)
        wrong = not match or low >= high or (match[3] and not 0 <= low < high <= 100)
        if wrong or any(side in ranges for side in match[1] or "AB"):
            raise UserError(
                f"--value_range {word}: type two numbers for each side as A=0,4095 B=-1024,3071, or dtype, or "
                "percentiles as A=p1,99; the smaller number comes first."
            )
        for side in match[1] or "AB":
            ranges[side] = ValueRange(low, high, bool(match[3]))
    return ranges


def measure_percentiles(
    images: Iterable[np.ndarray], low: float, high: float, most: int = 1 << 22
) -> tuple[float, float]:
    """Return two percentiles of about `most` values of some images."""
    sample = []
    for image in images:
        values = image[np.isfinite(image)].ravel()
        sample.append(values[:: max(1, values.size // 65536)])
        if sum(map(len, sample)) > most:
            break
    found = np.percentile(np.concatenate(sample), (low, high)) if sample else (math.nan, math.nan)
    if not found[0] < found[1]:
        raise UserError(f"the percentiles {low:g} and {high:g} of the values are both {found[0]:g}; type two numbers.")
    return float(found[0]), float(found[1])


# ---- label maps ----

VOID = 255
# JPEG changes colours a little, and more at edges; the nearest class is taken.
FAR, MOST_STRANGE = 48, 0.1  # from the nearest class's colour, and the greatest fraction of such pixels


@dataclass(frozen=True)
class Labels:
    """The classes of a label map: numbers from 0, or one colour each."""

    count: int
    colors: tuple[tuple[int, int, int], ...] = ()

    def to_network(self, values: np.ndarray) -> np.ndarray:
        """Map (H, W, 1) class numbers or (H, W, 3) colours to one channel for each class, 1 where it is and -1 else.

        255, the usual mark of pixels without a class, is in none.
        """
        numbers = self._numbers(values)
        return (2.0 * (numbers[..., None] == np.arange(self.count)) - 1).astype(np.float32)

    def to_values(self, image: np.ndarray) -> np.ndarray:
        """Map channels (H, W, N) to the greatest one's number (H, W, 1) or colour (H, W, 3), as uint8 or uint16."""
        numbers = image.argmax(axis=-1)
        if self.colors:
            return np.array(self.colors, np.uint8)[numbers]
        return numbers[..., None].astype(np.uint8 if self.count <= 256 else np.uint16)

    def palette(self) -> list[tuple[int, int, int]]:
        """Return a colour for each class: its own, or one of hues that differ from their neighbours'."""
        hues = (number * 0.618 % 1 for number in range(self.count))
        return list(self.colors) or [tuple(round(255 * part) for part in hsv_to_rgb(hue, 0.7, 0.9)) for hue in hues]

    def _numbers(self, values: np.ndarray) -> np.ndarray:
        if not self.colors:
            numbers = values[..., 0]
            known = numbers[numbers != VOID]
            if values.shape[-1] != 1 or (known.size and not 0 <= known.min() <= known.max() < self.count):
                found = f"{values.shape[-1]} channels" if values.shape[-1] != 1 else f"values up to {known.max()}"
                raise UserError(f"it has {found}, and class numbers from 0 to {self.count - 1} are expected.")
            return numbers
        colors, place = np.unique(values[..., :3].reshape(-1, 3), axis=0, return_inverse=True)
        distances = np.abs(colors[:, None].astype(int) - np.array(self.colors)).max(axis=2)  # (found, classes)
        strange = (distances.min(axis=1) > FAR)[place]
        if strange.mean() > MOST_STRANGE:
            color = colors[place[strange][0]].tolist()
            raise UserError(f"{strange.mean():.0%} of its pixels have colours of no class, the first is {color}.")
        return distances.argmin(axis=1)[place].reshape(values.shape[:2])


def read_labels(words: Iterable[str]) -> dict[str, Labels]:
    """Read the words of --labels: `A=20` classes, or `A=colors.json`, a list of colours or a table with their names."""
    labels = {}
    for word in words:
        side, _, text = word.partition("=")
        if side not in ("A", "B") or not text or side in labels:
            raise UserError(f"--labels {word}: type A= or B= and a number of classes or a file of colours, as A=20.")
        labels[side] = Labels(int(text)) if text.isdecimal() and int(text) > 1 else _read_colors(word, Path(text))
    return labels


def _read_colors(word: str, path: Path) -> Labels:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        colors = [tuple(color) for color in (table.values() if isinstance(table, dict) else table)]
        if len(set(colors)) < max(2, len(colors)) or not all(map(_is_color, colors)):
            raise ValueError("two or more different colours like [128, 64, 128] are needed")
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--labels {printable(word)}: {getattr(error, 'strerror', None) or error}.") from error
    return Labels(len(colors), tuple(colors))


def _is_color(color: tuple) -> bool:
    return len(color) == 3 and all(isinstance(value, int) and 0 <= value <= 255 for value in color)
