"""NumPy's arrays: .npy files, and .npz files that hold one array. Nothing is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from data.formats.info import Box, Info
from util.checkpoint.atomic_files import replacing
from util.errors import UserError

SUFFIXES = (".npy", ".npz")
MOST_CHANNELS = 16  # a last dimension up to this is channels, a longer one is columns


def inspect(path: str) -> Info:
    """Describe an array: (H, W), (H, W, C) with C up to 16, (D, H, W), or (D, H, W, C)."""
    array = _open(path)
    shape = array.shape
    if array.ndim == 2:
        shape = (1, *shape, 1)
    elif array.ndim == 3:
        shape = (1, *shape) if shape[2] <= MOST_CHANNELS else (*shape, 1)
    if len(shape) != 4 or not array.size or array.dtype.kind not in "biuf":
        raise UserError(
            f"its array is {array.shape} of {array.dtype}; numbers of the shape (height, width), (height, width, "
            f"channels up to {MOST_CHANNELS}), (slices, height, width) or (slices, height, width, channels) are read."
        )
    return Info(path, "arrays", *shape, np.dtype(np.uint8) if array.dtype == bool else array.dtype.newbyteorder("="))


def read(info: Info, index: int = 0, box: Box | None = None) -> np.ndarray:
    """Read a slice or a piece of it, (H, W, C). Of a .npy file only that part is read from the disk."""
    box = info.box(box)
    array = _open(info.path).reshape(info.slices, info.height, info.width, info.channels)
    return np.array(array[index, box.top : box.bottom, box.left : box.right], info.dtype)


def write(path: str | Path, slices, info: Info) -> None:
    """Write slices (D, H, W, C); one slice and one channel are left out of the array's shape."""
    array = np.stack(list(slices)).astype(info.dtype, copy=False)
    array = array[0] if info.slices == 1 else array
    array = array[..., 0] if info.channels == 1 else array
    with replacing(Path(path)) as new, new.open("wb") as file:
        (np.savez_compressed if Path(path).suffix.lower() == ".npz" else np.save)(file, array)


def _open(path: str) -> np.ndarray:
    """Return the array, mapped from the file where it is not compressed."""
    try:
        if not path.lower().endswith(".npz"):
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with np.load(path, allow_pickle=False) as arrays:
            if len(arrays.files) != 1:
                raise UserError(f"it holds the arrays {', '.join(arrays.files) or '(none)'}; a file of one is read.")
            return arrays[arrays.files[0]]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"it is damaged, or no array of numbers: {error}.") from error
