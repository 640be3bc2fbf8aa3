"""Reasons why Pillow could not read a file, as a user understands them."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from util.runtime.file_kinds import HEAD, kind_of

# Advice for files of other kinds that are found under images' names.
ADVICE = {
    "a web page": ", as a failed download leaves it",
    "a Git LFS pointer": ": type git lfs pull",
    "a zip archive": ": unpack it",
    "a gzip archive": ": unpack it",
}


def too_large(pixels: int, most: int, kind: str = "") -> str:
    """Return the reason that an image has too many pixels."""
    limit = f"at most {most / 1e6:.0f}{kind} are read"
    return f"it has {pixels / 1e6:,.0f} megapixels, and {limit}. Make it smaller, or cut it into tiles."


def reason(error: Exception, path: str | Path, formats: list[str]) -> str:
    """Return the reason why a file could not be read, for a user; `formats` are those that are tried."""
    if isinstance(error, Image.DecompressionBombError):
        pixels, most = re.findall(r"\d+", str(error))[:2]
        return too_large(int(pixels), int(most))
    if "MAX_TEXT" in str(error):
        return "a text or a colour profile in it unpacks to more than a megabyte; save it without"
    if isinstance(error, MemoryError):
        return "memory is too short to decode it"
    if isinstance(error, UnidentifiedImageError):
        with contextlib.suppress(OSError), Path(path).open("rb") as file:
            return _kind(file.read(HEAD), formats)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _kind(head: bytes, formats: list[str]) -> str:
    kind = kind_of(head)
    if not head:
        return "it is empty"
    if kind in ("", "an image", "an AVIF image", "text"):
        return f"it is damaged, or none of {', '.join(formats)}, or of an uncommon kind of these"
    problem = "which can't be read" if "image" in kind else "not an image"
    return f"it is {kind}, {problem}{ADVICE.get(kind, '')}"
