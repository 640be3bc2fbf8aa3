"""Reading image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from util.util import UserError

DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # grey with more than 8 bits

_said: set[str] = set()


def say_once(subject: str, text: str) -> None:
    """Print a notice, the first time that its subject comes up in this process."""
    if subject not in _said:
        _said.add(subject)
        print(f"{text} (said once)", flush=True)


def load(path: str | Path) -> Image.Image:
    """Read an image file as 8-bit RGB, the pixels as they are stored: a rotation noted in EXIF is not applied.

    Grey with more than 8 bits is scaled down. UserError for a file that cannot be read, with its path and the reason.
    """
    try:
        with Image.open(path) as image:
            return (to_8_bits(image, path) if image.mode in DEEP_MODES else image).convert("RGB")
    except UserError:
        raise
    except Exception as error:  # on a broken file decoders raise nearly anything: OSError, SyntaxError, zlib.error, ...
        if isinstance(error, UnidentifiedImageError):
            reason = "it is empty, or no image that Pillow knows"
        else:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"cannot read {path}: {reason.rstrip('.')}.") from error


def to_8_bits(image: Image.Image, path: str | Path) -> Image.Image:
    """Scale a deep grey image to 8 bits: integers from 0..65535, floats from 0..1, 0..255 or 0..65535.

    Never from the darkest to the lightest value in the file, which would give one value two meanings in two files.
    """
    values = np.asarray(image, dtype=np.float64)
    low, high = values.min(), values.max()
    tops = (1, 255, 65535) if image.mode == "F" else (65535,)
    top = next((top for top in tops if high <= top), None)
    if top is None or not low >= 0:  # `not` also finds NaN
        raise UserError(
            f"cannot read {path}: its values run from {low:g} to {high:g}. "
            "Deep images are read from 0..65535, and floats from 0..1 or 0..255 too."
        )
    say_once("deep", f"{path} has more than 8 bits (values {low:g} to {high:g}): 0..{top} becomes 0..255")
    return Image.fromarray(np.floor(values * (255 / top) + 0.5).astype(np.uint8))
