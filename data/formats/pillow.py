"""Read 8-bit images with Pillow, also files from strangers: in bounded memory, and with few decoders."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import re
import stat
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from util.errors import UserError, printable
from util.runtime.file_kinds import HEAD, kind_of

# Pillow warns about files that it reads nevertheless, or raises an error that says the same.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

Image.init()
# Pillow knows forty more formats, and would start Ghostscript for one of them. A plug-in may append a format.
FORMATS = [name for name in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF") if name in Image.OPEN]
MOST_BYTES = 2**30  # while one image is read; Pillow itself refuses more than 178 megapixels
# Measured bytes per pixel while an image is read: by format, else by mode, else the last number.
FORMAT_BYTES = {"WEBP": 17, "AVIF": 17, "progressive JPEG": 12}
MODE_BYTES, OTHER_BYTES = {"RGB": 4, "L": 5, "P": 5, "1": 5}, 9
MOST_SCANS = 100  # of a progressive JPEG, usually 10: a scan of a few bytes decodes the whole image again
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # grey with more than 8 bits
ORIENTATION = 0x0112  # EXIF's tag; 1 is upright
# Advice for files of other kinds that are found under images' names.
ADVICE = {
    "a web page": ", as a failed download leaves it",
    "a Git LFS pointer": ": type git lfs pull",
    "a HEIC image": ": convert it to JPEG or PNG",
    "a zip archive": ": unpack it",
    "a gzip archive": ": unpack it",
}

# One byte for each subject, in memory that forked workers share, so that only one of them prints a notice.
_said = mmap.mmap(-1, 1024)


def say_once(subject: str, path: str | Path, text: str) -> None:
    """Print a notice about a file, once for each subject in this process and its forked workers."""
    key = zlib.crc32(subject.encode()) % len(_said)
    if not _said[key]:
        _said[key] = 1
        print(f"{printable(path)} {text} (said once)", flush=True)


def load(path: str | Path) -> Image.Image:
    """Read an image file as 8-bit RGB, without the rotation that EXIF may note.

    An animation gives its first frame. Grey with more than 8 bits is scaled down, transparency is dropped.
    UserError, with path and reason, for a file that is none of FORMATS, damaged or too large.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a pipe would block, a device has no end
            raise UserError("it is not a file.")
        image = _decode(path)
        if image.mode in DEEP_MODES:
            image = to_8_bits(image, path)
        if image.mode == "RGBa":  # colours multiplied by their transparency, in some TIFFs
            image = image.convert("RGBA")
        return image if image.mode == "RGB" else image.convert("RGB")
    except UserError as error:
        raise UserError(f"cannot read {printable(path)}: {error}") from None
    except Exception as error:  # on broken files decoders raise OSError, SyntaxError, zlib.error, ...
        raise UserError(f"cannot read {printable(path)}: {_reason(error, path).rstrip('.')}.") from error


def _decode(path: str | Path) -> Image.Image:
    """Return an image in the file's mode; UserError if it would take too much memory or time."""
    with Image.open(path, formats=FORMATS) as image:
        _check_size(image, path)
        with _libtiff_silenced() if image.format == "TIFF" else contextlib.nullcontext():
            image.load()
        with contextlib.suppress(Exception):  # broken EXIF is no reason to reject the pixels
            if image.getexif().get(ORIENTATION, 1) in range(2, 9):
                say_once(
                    "rotation",
                    path,
                    "notes a rotation (EXIF), which viewers apply and training does not: "
                    f"it is read as stored, {image.width}x{image.height}.",
                )
        return image


@contextlib.contextmanager
def _libtiff_silenced():
    """Drop the output to stderr of the body: libtiff writes warnings there, which name no file."""
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _check_size(image: Image.Image, path: str | Path) -> None:
    kind = image.format
    if kind in ("JPEG", "MPO") and image.info.get("progressive"):
        kind = "progressive JPEG"
        scans = Path(path).read_bytes().count(b"\xff\xda")
        if scans > MOST_SCANS:
            raise UserError(f"it is a JPEG of {scans} scans, and at most {MOST_SCANS} are read.")
    pixels = image.width * image.height
    raw = kind in ("BMP", "PPM", "TIFF") and image.tile and image.tile[0][0] == "raw"  # at least one bit per pixel
    if raw and os.stat(path).st_size * 8 < pixels:  # noqa: PTH116
        raise UserError(f"its header says {image.width}x{image.height} pixels, but its data end before.")
    bytes_a_pixel = FORMAT_BYTES.get(kind) or MODE_BYTES.get(image.mode, OTHER_BYTES)
    if pixels * bytes_a_pixel > MOST_BYTES:
        raise UserError(_too_large(pixels, MOST_BYTES // bytes_a_pixel, f" of {kind}, {image.mode}"))


def _too_large(pixels: int, most: int, kind: str = "") -> str:
    limit = f"at most {most / 1e6:.0f}{kind} are read"
    return f"it has {pixels / 1e6:,.0f} megapixels, and {limit}. Make it smaller, or cut it into tiles."


def _reason(error: Exception, path: str | Path) -> str:
    """Return the reason why a file could not be read, for a user."""
    if isinstance(error, Image.DecompressionBombError):
        pixels, most = re.findall(r"\d+", str(error))[:2]
        return _too_large(int(pixels), int(most))
    if "MAX_TEXT" in str(error):
        return "a text or a colour profile in it unpacks to more than a megabyte; save it without"
    if isinstance(error, MemoryError):
        return "memory is too short to decode it"
    if isinstance(error, UnidentifiedImageError):
        with contextlib.suppress(OSError), Path(path).open("rb") as file:
            return _kind(file.read(HEAD))
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _kind(head: bytes) -> str:
    kind = kind_of(head)
    if not head:
        return "it is empty"
    if kind in ("", "an image", "an AVIF image", "text"):
        return f"it is damaged, or none of {', '.join(FORMATS)}, or of an uncommon kind of these"
    problem = "which can't be read" if "image" in kind else "not an image"
    return f"it is {kind}, {problem}{ADVICE.get(kind, '')}"


def to_8_bits(image: Image.Image, path: str | Path) -> Image.Image:
    """Scale a deep grey image to 8 bits: integers from 0..65535, floats from 0..1, 0..255 or 0..65535.

    The file's own darkest and lightest values are not used: one value would have two meanings in two files.
    """
    ends = [(strip.min(), strip.max()) for strip in _strips(image)]
    low, high = np.min(ends), np.max(ends)
    tops = (1, 255, 65535) if image.mode == "F" else (65535,)
    top = next((top for top in tops if high <= top), None)
    if top is None or not low >= 0:  # `not` also finds NaN
        raise UserError(
            f"its values run from {low:g} to {high:g}. "
            "Deep images are read from 0..65535, and floats from 0..1 or 0..255 too."
        )
    say_once("deep", path, f"has more than 8 bits (values {low:g} to {high:g}): 0..{top} becomes 0..255")
    strips = [np.floor(strip.astype(np.float64) * (255 / top) + 0.5).astype(np.uint8) for strip in _strips(image)]
    return Image.fromarray(np.concatenate(strips))


def _strips(image: Image.Image) -> Iterator[np.ndarray]:
    """Yield an image's rows, about a million values at a time, which bounds the memory."""
    rows = max(1, 2**20 // image.width)
    for top in range(0, image.height, rows):
        yield np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))  # (rows, W)
