"""Read images as 8-bit RGB with Pillow, also files from strangers: in bounded memory, and with few decoders."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose

from data.formats.faults import reason, too_large
from data.formats.notes import Note, say
from data.formats.values import (
    DEEP_MODES,
    Range,
    RangeError,
    Values,
    check_ranges,
    guess_top,
    range_of,
    to_8_bits,
    turned_round,
    type_of,
)
from util.errors import UserError, need, printable
from util.runtime.file_kinds import HEAD, kind_of

# Pillow warns about files that it reads nevertheless, or raises an error that says the same.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

Image.init()
# Pillow knows forty more formats, and would start Ghostscript for one of them. A plug-in may append a format.
FORMATS = [name for name in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF") if name in Image.OPEN]
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif")
MOST_BYTES = 2**30  # while one image is read; Pillow itself refuses more than 178 megapixels
# Measured bytes per pixel while an image is read: by format, else by mode, else the last number.
FORMAT_BYTES = {"WEBP": 17, "AVIF": 17, "HEIF": 12, "progressive JPEG": 12}
MODE_BYTES, OTHER_BYTES = {"RGB": 4, "L": 5, "P": 5, "1": 5}, 9
MOST_SCANS = 100  # of a progressive JPEG, usually 10: a scan of a few bytes decodes the whole image again
PHOTO_MODES = ("1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB")
FIRST = 16  # images of a list that are looked at before a run begins
SINGLE = ("MPO", "HEIF")  # photos: their further frames are previews and depth maps
ORIENTATION, BANDS = 0x0112, 277  # tags of EXIF and of a TIFF
# EXIF's orientation: how to turn the pixels upright.
TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE}
TURNS |= {6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}


class Picture(NamedTuple):
    """An image file as it was read."""

    image: Image.Image
    values: Values  # of the file, which may have more bits than `image`
    orientation: int = 1  # as noted in EXIF; 1 is upright
    notes: tuple[Note, ...] = ()  # what was left out or changed


class Header(NamedTuple):
    """Facts from a file's header."""

    width: int  # of the image as it is read
    height: int
    mode: str
    format: str
    values: Values
    orientation: int


def load(path: str | Path, as_before: bool = False) -> Image.Image:
    """Read an image file as 8-bit RGB, turned upright as its EXIF orientation says.

    An animation gives its first frame. Grey with more than 8 bits is scaled down, transparency is dropped; a note is
    printed once. UserError, with path and reason, for a file that is none of FORMATS, damaged or too large, or whose
    values are floats or signed. `as_before`: with the orientation and the scale of runs saved by earlier versions.
    """
    picture = read(path, as_before)
    say(*picture.notes)
    return picture.image


def load_pair(path_A: str | Path, path_B: str | Path, as_before: bool = False) -> tuple[Image.Image, Image.Image]:
    """Read two images that belong together; UserError if their sizes differ."""
    A, B = read(path_A, as_before), read(path_B, as_before)
    say(*A.notes, *B.notes)
    turned, other = (path_A, path_B) if A.orientation != 1 else (path_B, path_A)
    if (A.orientation == 1) != (B.orientation == 1):
        text = f"notes a rotation (EXIF) and its partner {printable(other)} none: make sure that they fit each other"
        say(Note("rotation of one", str(turned), text))
    check_sizes((path_A, A.image.size), (path_B, B.image.size))
    return A.image, B.image


def check_sizes(*images: tuple[str | Path, tuple[int, int]]) -> None:
    """Raise UserError if the images of a pair, (path, size) each, differ in size."""
    if len({size for _, size in images}) > 1:
        found = ", ".join(f"{printable(path)} is {width}x{height}" for path, (width, height) in images)
        raise UserError(f"the images of a pair must have one size: {found}.")


def read(path: str | Path, as_before: bool = False) -> Picture:
    """Read an image file as `load` does, and return it with its notes."""
    with explained(path):
        picture = decode(path, as_before)
        image, values = picture.image, picture.values
        notes = list(picture.notes)
        if image.mode in DEEP_MODES:
            found = range_of(image, values)
            if not as_before and (fault := found.fault("it holds", whole=False)):
                raise RangeError(fault)
            top = guess_top(found) if as_before else values.top
            text = f"has more than 8 bits (values {found}): 0..{top} becomes 0..255"
            if as_before and found.fault("", whole=False):
                text += ", as when this run was trained; a new run would refuse these values"
            notes.append(Note("deep", str(path), text))
            image = to_8_bits(image, values, top)
        elif values.deep and not as_before:
            if values.kind != "unsigned":
                raise RangeError(range_of(image, values).fault("it holds", whole=False))
            notes.append(Note("deep", str(path), f"has {values.bits} bits a channel; the upper 8 are read"))
        if image.mode == "RGBa":  # colours multiplied by their transparency, in some TIFFs
            image = image.convert("RGBA")
        image = image if image.mode == "RGB" else image.convert("RGB")
        return picture._replace(image=image, notes=tuple(notes))


def decode(path: str | Path, as_before: bool = False) -> Picture:
    """Decode an image in the file's mode, upright; an error if it would take too much memory or time."""
    with opened(path) as image:
        _check_size(image, path)
        values, notes, orientation = type_of(image), [], 1
        is_tiff = image.format == "TIFF"
        if _has_more_frames(image, path):
            notes.append(("frames", f"has further {'pages' if is_tiff else 'frames'}, and the first one is read"))
        bands = len(image.getbands())
        if is_tiff:  # Pillow turns the pixels of these
            orientation, count = orientation_of(image), image.tag_v2.get(BANDS, 1)
            if count > bands:
                notes.append(("bands", f"has {count} bands, and the first {min(bands, 3)} are read"))
        with _libtiff_silenced() if is_tiff else contextlib.nullcontext():
            image.load()
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            notes.append(("alpha", "has transparency (alpha), which is dropped"))
        upright = turned_round(image, values) if not as_before else image
        if not is_tiff:
            orientation = orientation_of(image)
            if orientation != 1 and as_before:
                text = "notes a rotation (EXIF), which is not applied, as when this run was trained"
                notes.append(("rotation", f"{text}: it is read as stored, {image.width}x{image.height}."))
            elif orientation != 1:
                upright = upright.transpose(TURNS[orientation])
    return Picture(upright, values, orientation, tuple(Note(kind, str(path), text) for kind, text in notes))


def _has_more_frames(image: Image.Image, path: str | Path) -> bool:
    with contextlib.suppress(Exception):  # of a broken second frame
        if image.format == "GIF":  # where Pillow moves on to look for it
            with opened(path) as other:
                return other.is_animated
        return image.format not in SINGLE and getattr(image, "is_animated", False)
    return False


def orientation_of(image: Image.Image) -> int:
    """Return the orientation that EXIF notes, 1 to 8."""
    with contextlib.suppress(Exception):  # broken EXIF is no reason to reject the pixels
        orientation = image.getexif().get(ORIENTATION, 1)
        return orientation if orientation in TURNS else 1
    return 1


def read_header(path: str | Path, as_before: bool = False) -> Header:
    """Read a file's header; errors are those of `load`."""
    with explained(path), opened(path) as image:
        is_tiff = image.format == "TIFF"
        # Of some formats Pillow would decode the pixels to look for EXIF behind them.
        orientation = orientation_of(image) if is_tiff or image.format != "PNG" or "exif" in image.info else 1
        width, height = (image.tag_v2[256], image.tag_v2[257]) if is_tiff else image.size  # as stored
        if orientation >= 5 and (is_tiff or not as_before):
            width, height = height, width
        return Header(width, height, image.mode, image.format or "", type_of(image), orientation)


def is_photo(path: str | Path, whole: bool = False) -> bool:
    """Whether a file has 8 bits and colours that `load` reads; with `whole`, also no further pages."""
    with contextlib.suppress(Exception), opened(path) as image:
        pages = getattr(image, "n_frames", 1)
        return not type_of(image).deep and image.mode in PHOTO_MODES and not (whole and pages > 1)
    return False


def check_first(paths: list[str], as_before: bool = False) -> None:
    """Raise RangeError if the values of deep images, as the first of `paths` show them, cannot be read rightly.

    Only deep images are decoded. Broken ones are passed over: an error names them when they are read.
    """
    if not as_before:
        found = [(path, find_range(path)) for path in map(str, paths[:FIRST])]
        check_ranges([(path, one) for path, one in found if one], len(found), paths)


def find_range(path: str | Path) -> Range | None:
    """Return the values in a file; None if it has the usual 8 bits or is broken."""
    with contextlib.suppress(Exception):
        if read_header(path).values.deep:
            image, values, *_ = decode(path)
            return range_of(image, values)
    return None


@contextlib.contextmanager
def explained(path: str | Path):
    """Turn whatever a broken file makes decoders raise into a UserError with its path and the reason."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a pipe would block, a device has no end
            raise UserError("it is not a file.")
        yield
    except UserError as error:
        raise type(error)(f"cannot read {printable(path)}: {error}") from None
    except Exception as error:  # on broken files decoders raise OSError, SyntaxError, zlib.error, ...
        raise UserError(f"cannot read {printable(path)}: {reason(error, path, FORMATS).rstrip('.')}.") from error


@contextlib.contextmanager
def opened(path: str | Path):
    """Open an image file, its pixels not decoded yet. HEIC needs the package pillow-heif."""
    # Given a path, Pillow maps some TIFFs into memory, and before 11.1 turned those wrongly.
    with open(path, "rb") as file:  # noqa: PTH123
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            file.seek(0)
            if kind_of(file.read(HEAD)) != "a HEIC image":
                raise
            need("pillow_heif", "pillow-heif", "a HEIC image").register_heif_opener()
            image = Image.open(file, formats=["HEIF"])
        yield image


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
        raise UserError(too_large(pixels, MOST_BYTES // bytes_a_pixel, f" of {kind}, {image.mode}"))
