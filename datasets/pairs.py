"""What the scripts beside it share: which files are pictures, reading them, joining two, writing them whole."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from util.checkpoint.atomic_files import replacing

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp")
# What Pillow raises on a file that it cannot read or write.
BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()


def read_rgb(path: Path, upright: bool = False) -> Image.Image:
    """Read a picture as 8-bit RGB, whatever its mode; 16-bit grey is scaled. Raises one of BROKEN.

    `upright` turns a photo as its camera's EXIF note says.
    """
    with Image.open(path) as image:
        if upright:
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # Pillow's own conversion would turn all above 255 white
            image = image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
        elif image.mode == "F":
            raise ValueError("pictures of 32-bit floats have no known range; convert them to 8 or 16 bits first")
        return image.convert("RGB")


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Join two pictures of one size (W, H) into one of (2W, H). Raises ValueError if their sizes differ."""
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


def progress(done: int, total: int, what: str) -> None:
    """Print a line at each tenth of `total`, and at the end."""
    if done * 10 // total > (done - 1) * 10 // total:
        print(f"{what}: {done} of {total} pairs", flush=True)


def enumerate_names(names: Iterable[str], most: int = 20) -> str:
    """List names for a message, the first `most` of them."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def contents(folder: Path) -> str:
    """Say what a folder holds, for the error that something else is missing."""
    if not folder.is_dir():
        return f"{folder} is no folder"
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    return f"{folder} holds {enumerate_names(names, 8) or 'nothing'}"


def stop(message: str):
    """End with an error for the user."""
    sys.exit(f"error: {message}")
