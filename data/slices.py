"""Volumes as images: each slice has a path, such as scan_z012.nii for slice 12 of scan.nii.gz."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data import formats
from data.formats import dicom, volumes
from data.formats.info import Info
from util.errors import UserError, printable


class Slices(NamedTuple):
    """The value of --slices: how many neighbouring slices are channels, and the axis that slices lie across."""

    count: int
    axis: str = "z"


class Place(NamedTuple):
    """A slice in a file."""

    file: str
    axis: str
    index: int


def read_slices(opt) -> Slices | None:
    """Read `K` or `K,AXIS` of --slices; K is odd. None without it, as in options that a notebook made itself."""
    if not (text := getattr(opt, "slices", None)):
        return None
    match = re.fullmatch(r"(\d*[13579])(?:,([xyz]))?", text)
    if not match:
        raise UserError(f"--slices {text}: type an odd number of slices, and x, y or z if it is not z: 1 or 3,y.")
    return Slices(int(match[1]), match[2] or "z")


def as_slices(paths: list[str], slices: Slices | None) -> list[str]:
    """Return the path of each slice of some files; the files themselves without --slices."""
    if slices is None:
        return paths
    return [path for file in dict.fromkeys(map(_file_of, paths)) for path in _slices_of(file, slices.axis)]


def pairs_as_slices(pairs: list[tuple[str, str]], slices: Slices | None) -> list[tuple[str, str]]:
    """Return the paths of the slices of paired volumes; UserError if the grids of a pair differ."""
    if slices is None:
        return pairs
    found = []
    for pair in dict.fromkeys((_file_of(A), _file_of(B)) for A, B in pairs):
        infos = [describe_volume(file, slices.axis) for file in pair]
        if all(infos) and (difference := volumes.same_grid(*infos)):
            names = " and ".join(map(printable, pair))
            raise UserError(f"{names} are not on one grid ({difference}). Resample one to the other.")
        found += zip(*(_slices_of(file, slices.axis) for file in pair), strict=True)
    return found


def _file_of(path: str) -> str:
    """Return the folder of a DICOM file, which holds its series, or another file itself."""
    return str(Path(path).parent) if path.lower().endswith(dicom.SUFFIXES) else path


def locate(path: str) -> Place:
    """Return the file, axis and number of a slice's path; the path of a file itself means its first slice."""
    match = re.fullmatch(r"(.*)_([xyz])(\d{3,})(\.\w+)?", path, re.DOTALL)
    if match and not Path(path).exists():
        for suffix in (match[4] or "", (match[4] or "") + ".gz"):
            if Path(match[1] + suffix).exists():
                return Place(match[1] + suffix, match[2], int(match[3]))
    return Place(path, "z", 0)


def describe_volume(file: str, axis: str = "z", whole: bool = True) -> Info | None:
    """Return the facts of a file; None for a photo. Without `whole`, a photo may have further pages."""
    with formats.naming(file):
        facts = Path(file).stat()
    return _describe(file, axis, whole, (facts.st_mtime_ns, facts.st_size))


@lru_cache(maxsize=32)
def _describe(file: str, axis: str, whole: bool, version: tuple) -> Info | None:
    return formats.inspect(file, axis, whole)


def read_neighbours(info: Info, index: int, count: int) -> np.ndarray:
    """Read `count` neighbouring slices as channels (H, W, count * C); those beyond the ends repeat the last one."""
    numbers = (min(max(index + offset, 0), info.slices - 1) for offset in range(-(count // 2), count // 2 + 1))
    parts = [formats.read(info, number) for number in numbers]
    return np.concatenate(parts, axis=2) if count > 1 else parts[0]


def _slices_of(file: str, axis: str) -> Iterator[str]:
    info = describe_volume(file, axis)
    if info is None or (info.slices == 1 and info.format != "volumes"):
        return iter([file])
    return (slice_path(file, axis, index) for index in range(info.slices))


def slice_path(file: str, axis: str, index: int) -> str:
    """Return the path of a slice."""
    suffix = "" if Path(file).is_dir() else Path(file).suffix
    return str(Path(file).with_name(f"{formats.stem(file)}_{axis}{index:03d}{suffix.replace('.gz', '.nii')}"))
