"""TIFF with tifffile: integers and floats, bands, pages, tiles, compression, OME, GeoTIFF. Pieces are read alone."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.formats.info import MOST_BYTES, Box, Info
from util.checkpoint.atomic_files import replacing
from util.errors import UserError, need, printable

SUFFIXES = (".tif", ".tiff")
GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 42113)  # scale, tie points, matrix, keys and no-data value
LOSSLESS = ("NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "ZSTD", "LZMA", "PACKBITS")


@dataclass(frozen=True)
class Header:
    """The properties of a TIFF that results keep."""

    ome: bool = False
    compression: str = "ADOBE_DEFLATE"
    tile: tuple[int, int] | None = None
    resolution: tuple | None = None  # (x, y, unit) as in the file
    geo_tags: tuple[tuple, ...] = ()
    sizes: dict[str, object] = field(default_factory=dict)  # PhysicalSizeX and others of OME


def inspect(path: str) -> Info:
    """Describe a TIFF's first series of equal pages; channels are its samples, bands or axis C."""
    with _open(path) as tif:
        series, page = tif.series[0], tif.series[0].keyframe
        if page.dtype is None:
            raise UserError(f"its samples have {page.bitspersample} bits.")
        outer, planes = _outer(series), _planes(series)
        channels = page.samplesperpixel * math.prod(n for axis, n in outer if axis == "C")
        alpha = bool(page.extrasamples) and page.extrasamples[-1] in (1, 2)
        notes, dtype = [], page.dtype.newbyteorder("=")
        if _name(page.photometric) == "PALETTE":
            channels, dtype = 3, np.dtype(np.uint8)
        elif dtype.kind == "b":
            dtype = np.dtype(np.uint8)
        if len(tif.series) > 1 and not getattr(tif.series[0], "is_pyramidal", False):
            notes.append(("pages", f"has {len(tif.series) - 1} more images of other sizes, which are not read"))
        if _name(page.photometric) in ("SEPARATED", "CIELAB", "YCBCR") and _name(page.compression) != "JPEG":
            notes.append(("colours", f"stores {_name(page.photometric)} colours, which are read as they are stored"))
        if page.iccprofile:
            notes.append(("profile", "has a colour profile (ICC), which is not applied"))
        header = Header(
            tif.is_ome,
            _name(page.compression) if _name(page.compression) in LOSSLESS else "ADOBE_DEFLATE",
            (page.tilelength, page.tilewidth) if page.is_tiled else None,
            _resolution(page),
            tuple(_tag(page.tags[code]) for code in GEO_TAGS if code in page.tags),
            _physical_sizes(tif) if tif.is_ome else {},
        )
        slices = planes // math.prod(n for axis, n in outer if axis == "C")
        size = (slices, page.imagelength, page.imagewidth, channels)
        spacing = tuple(float(header.sizes.get(f"PhysicalSize{axis}", 0)) for axis in "ZYX")
        bits = page.bitspersample if dtype.kind == "u" and 8 < page.bitspersample < 8 * dtype.itemsize else 0
        return Info(path, "tiff", *size, dtype, alpha, bits, "", spacing, notes=tuple(notes), header=header)


def read(info: Info, index: int = 0, box: Box | None = None) -> np.ndarray:
    """Read a slice or a piece of it, (H, W, C). Only the tiles or strips that it touches are decoded."""
    box = info.box(box)
    with _open(info.path) as tif:
        series, outer = tif.series[0], _outer(tif.series[0])
        numbers = np.arange(_planes(series)).reshape([n for _, n in outer])  # of the planes
        channel_axes = [i for i, (axis, _) in enumerate(outer) if axis == "C"]
        numbers = np.moveaxis(numbers, channel_axes, range(-len(channel_axes), 0))
        planes = numbers.reshape(info.slices, -1)[index]
        parts = [_read_plane(series, int(plane), box) for plane in planes]
    return np.concatenate(parts, axis=2).astype(info.dtype, copy=False)


def write(path: str | Path, slices: Iterable[np.ndarray], info: Info) -> None:
    """Write slices (D, H, W, C) one after another, so that a volume need not fit into memory.

    Resolution, geographic tags, tiles and lossless compression are those of `info.header`, where it comes from a TIFF.
    """
    tifffile = need("tifffile", "tifffile imagecodecs", printable(path))
    header = info.header if isinstance(info.header, Header) else Header()
    colour = info.channels in (3, 4) and info.dtype.kind == "u" and (info.channels == 3 or info.alpha)
    shape = (info.slices,) * (info.slices > 1) + (info.height, info.width) + (info.channels,) * (info.channels > 1)
    options = {
        "photometric": "rgb" if colour else "minisblack",
        "planarconfig": "contig" if info.channels > 1 else None,
        "extrasamples": ["unassalpha"] if info.alpha else None,
        "compression": None if header.compression == "NONE" else header.compression,
        "tile": header.tile,
        "extratags": header.geo_tags,
        "metadata": None,
    }
    if header.resolution:
        options |= {"resolution": header.resolution[:2], "resolutionunit": header.resolution[2]}
    ome = header.ome or str(path).lower().endswith((".ome.tif", ".ome.tiff"))
    if ome or info.slices > 1:
        options["metadata"] = {"axes": "Z" * (info.slices > 1) + "YX" + "S" * (info.channels > 1), **header.sizes}
    big = math.prod(shape) * info.dtype.itemsize > 2**31
    with replacing(Path(path)) as new, tifffile.TiffWriter(new, bigtiff=big, ome=ome) as file:
        pieces = (np.ascontiguousarray(s if info.channels > 1 else s[..., 0], info.dtype) for s in slices)
        if header.tile:
            pieces = itertools.chain.from_iterable(_tiles(piece, header.tile) for piece in pieces)
        elif info.slices == 1:
            pieces = next(pieces)
        file.write(pieces, shape=shape, dtype=info.dtype, **options)


# ---- one file ----


def _open(path: str):
    tifffile = need("tifffile", "tifffile imagecodecs", printable(path))
    try:
        tif = tifffile.TiffFile(path)
        if not tif.series:
            raise UserError("it holds no image.")
        return tif
    except tifffile.TiffFileError as error:
        raise UserError(f"it is damaged, or no TIFF: {error}.") from error


def _outer(series) -> list[tuple[str, int]]:
    """Return the axes of a series that lie across its pages, with their lengths."""
    inner = len(series.keyframe.shape)
    return list(zip(series.axes, series.shape, strict=True))[: len(series.shape) - inner]


def _planes(series) -> int:
    return math.prod(n for _, n in _outer(series))


def _read_plane(series, number: int, box: Box) -> np.ndarray:
    """Read a piece of one page, (h, w, samples)."""
    page, key = series.pages[number], series.keyframe
    if page is None:
        raise UserError(f"its page {number} is missing.")
    planar = key.planarconfig == 2 and key.samplesperpixel > 1
    out = np.zeros((box.bottom - box.top, box.right - box.left, key.samplesperpixel), key.dtype.newbyteorder("="))
    height = key.tilelength if key.is_tiled else min(key.rowsperstrip, key.imagelength)
    width = key.tilewidth if key.is_tiled else key.imagewidth
    if out.nbytes > MOST_BYTES or height * width * key.dtype.itemsize * key.samplesperpixel > MOST_BYTES:
        raise UserError(f"{out.nbytes / 1e9:.1f} GB at once are too many: cut the image into pieces.")
    down, across = -(-key.imagelength // height), -(-key.imagewidth // width)
    for sample, row, column in itertools.product(
        range(key.samplesperpixel if planar else 1),
        range(box.top // height, -(-box.bottom // height)),
        range(box.left // width, -(-box.right // width)),
    ):
        segment = _segment(page, key, (sample * down + row) * across + column)
        if segment is None:  # a sparse file leaves out empty tiles
            continue
        top, left = row * height, column * width
        rows = slice(max(box.top, top), min(box.bottom, top + segment.shape[0]))
        columns = slice(max(box.left, left), min(box.right, left + segment.shape[1]))
        piece = segment[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        target = out[rows.start - box.top : rows.stop - box.top, columns.start - box.left : columns.stop - box.left]
        target[..., sample : sample + piece.shape[2]] = piece
    return _as_seen(out, key)


def _segment(page, key, index: int) -> np.ndarray | None:
    """Decode a tile or strip, (h, w, samples)."""
    file, offset, count = page.parent.filehandle, page.dataoffsets[index], page.databytecounts[index]
    if not count:
        return None
    file.seek(offset)
    data = file.read(count)
    if len(data) < count:
        raise UserError("it ends before its pixels do.")
    try:
        return key.decode(data, index, jpegtables=page.jpegtables)[0][0]  # (depth, h, w, samples)[0]
    except Exception as error:  # decoders raise nearly anything
        hint = "" if "imagecodecs" not in str(error) else " Type pip install imagecodecs."
        raise UserError(
            f"its {_name(key.compression)} data cannot be decoded: {str(error).rstrip('.')}.{hint}"
        ) from error


def _as_seen(pixels: np.ndarray, page) -> np.ndarray:
    """Undo the two ways of storing values that are not brightness: white as zero, and palettes."""
    if _name(page.photometric) == "MINISWHITE" and pixels.dtype.kind in "bu":
        pixels = ~pixels
    if _name(page.photometric) == "PALETTE":
        return (page.colormap.T >> 8).astype(np.uint8)[pixels[..., 0]]  # (entries, 3)
    return pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels


# ---- tags ----


def _name(value) -> str:
    """Return a tag's name in capitals; tifffile gives a plain number for a value that it does not know."""
    return getattr(value, "name", str(value))


def _resolution(page) -> tuple | None:
    if "XResolution" not in page.tags or "YResolution" not in page.tags:
        return None
    unit = page.tags["ResolutionUnit"].value if "ResolutionUnit" in page.tags else 2  # inches, the format's default
    return (page.tags["XResolution"].value, page.tags["YResolution"].value, int(unit))


def _tag(tag) -> tuple:
    return (tag.code, int(tag.dtype), tag.count, tag.value, True)


def _physical_sizes(tif) -> dict[str, object]:
    """Return OME's sizes of a pixel, with their units."""

    start = tif.ome_metadata.partition("<Pixels")[2].partition(">")[0]
    found = dict(re.findall(r'(PhysicalSize[XYZ](?:Unit)?)="([^"]*)"', start))
    return {name: value if name.endswith("Unit") else float(value) for name, value in found.items()}


def _tiles(image: np.ndarray, tile: tuple[int, int]) -> Iterable[np.ndarray]:
    """Cut an image into its tiles, in the order of the file; the last ones of a row or column are filled up."""
    height, width = tile
    for top in range(0, image.shape[0], height):
        for left in range(0, image.shape[1], width):
            piece = image[top : top + height, left : left + width]
            missing = [(0, height - piece.shape[0]), (0, width - piece.shape[1]), (0, 0)][: image.ndim]
            yield np.pad(piece, missing)
