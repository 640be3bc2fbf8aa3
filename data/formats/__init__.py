"""Images of any kind: each module reads and writes one family of formats.

`inspect` describes a file, `read` returns one of its slices or a piece of it as (H, W, C) in the file's own values, and
`write` writes slices as a file. pillow.py reads ordinary photos as 8-bit RGB besides.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from data.formats import arrays, dicom, pillow, png, tiff, volumes
from data.formats.info import Box, Info
from util.errors import UserError, printable

MODULES = {"arrays": arrays, "dicom": dicom, "png": png, "tiff": tiff, "volumes": volumes}
SUFFIXES = tuple(suffix for module in (arrays, dicom, volumes) for suffix in module.SUFFIXES)  # beyond Pillow's


def inspect(path: str | Path, axis: str = "z", whole: bool = True) -> Info | None:
    """Describe a file that is no photo of 8 bits; None for a photo, which Pillow reads.

    A TIFF is a photo too if Pillow reads it; with `whole` only one of a single page is.
    """
    module, path = module_of(path), str(path)
    with naming(path):
        if module is volumes:
            return volumes.inspect(path, axis)
        if module is None or (module is tiff and pillow.is_photo(path, whole)):
            return None
        return module.inspect(path)


def read(info: Info, index: int = 0, box: Box | None = None) -> np.ndarray:
    """Read a slice or a piece of it, (H, W, C) of `info.dtype`."""
    with naming(info.path):
        return MODULES[info.format].read(info, index, box)


def write(path: str | Path, slices: Iterable[np.ndarray], info: Info) -> None:
    """Write slices (D, H, W, C) as the kind of file that the path's suffix names, or the folder of a DICOM series."""
    with naming(str(path)):
        is_series = info.format == "dicom" and not str(path).lower().endswith(".png")
        (module_of(path, exists=False) or (dicom if is_series else png)).write(path, slices, info)


def module_of(path: str | Path, exists: bool = True) -> ModuleType | None:
    """Return the module for a file, by its suffix; None for Pillow's. Of an existing PNG the depth decides."""
    name = str(path).lower()
    for module in (arrays, dicom, volumes, tiff):
        if name.endswith(module.SUFFIXES):
            return module
    if Path(path).is_dir():
        return dicom
    return png if name.endswith(".png") and exists and png.is_deep(path) else None


def stem(path: str | Path) -> str:
    """Return a file's name without its suffix, such as .nii.gz; a folder has none."""
    name = Path(path).name
    if Path(path).is_dir():
        return name
    known = [suffix for suffix in SUFFIXES if name.lower().endswith(suffix)]
    return name[: -len(max(known, key=len))] if known else Path(name).stem


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Put the file's path in front of an error that the body raises."""
    try:
        yield
    except UserError as error:
        raise UserError(f"cannot read {printable(path)}: {error}") from error
    except (OSError, MemoryError) as error:
        raise UserError(f"cannot read {printable(path)}: {error}") from error
