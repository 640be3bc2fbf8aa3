"""Pairs of images: find, read, join and write them. The scripts of this folder share it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.formats import pillow
from data.formats.pillow import SUFFIXES as EXTENSIONS
from util.checkpoint.atomic_files import replacing
from util.errors import UserError
from util.runtime.search import Search

BROKEN = (UserError, OSError, ValueError)  # of a file that cannot be read or written
NOT_WRITTEN = (".avif", ".heic", ".heif")  # read, but never written, since that would change the pixels


def images_of(folder: Path) -> list[Path]:
    """List the images of a folder, sorted; none if it does not exist."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [e for e in entries if e.suffix.lower() in EXTENSIONS and not e.name.startswith(".") and e.is_file()]


def check_first(found: Iterable[tuple]) -> None:
    """Stop if the values of the first A or the first B are such that training would refuse them."""
    for paths in zip(*found, strict=True):
        try:
            pillow.check_first(list(map(str, paths)))
        except UserError as error:
            stop(str(error))


def join(path_A: Path, path_B: Path) -> Image.Image:
    """Read two images as training does, and join them. Raises one of BROKEN."""
    return side_by_side(*pillow.load_pair(path_A, path_B))


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Join two images of one size (W, H) into one of (2W, H). Raises ValueError if their sizes differ."""
    if left.size != right.size:
        raise ValueError(f"the left one is {left.width} x {left.height}, the right one {right.width} x {right.height}")
    pair = Image.new("RGB", (2 * left.width, left.height))
    pair.paste(left, (0, 0))
    pair.paste(right, (left.width, 0))
    return pair


def write(image: Image.Image, path: Path, **options) -> None:
    """Write an image that appears whole or not at all."""
    with replacing(path) as new:
        image.save(new, format=Image.registered_extensions()[path.suffix.lower()], **options)


def enumerate_names(names: Iterable[str], most: int = 20) -> str:
    """List the first `most` names for a message."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def contents(folder: Path) -> str:
    """Describe a folder, for the error that something is missing there."""
    if not folder.is_dir():
        return f"{folder} is no folder"
    names = [entry.name + "/" * entry.is_dir() for entry in Search().entries(folder)]
    return f"{folder} holds {enumerate_names(names, 8) or 'nothing'}"


def stop(message: str):
    """End with an error for the user."""
    sys.exit(f"error: {message}")
