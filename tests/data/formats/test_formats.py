"""Every format gives back the values that were written, to the last bit, and agrees with the library of its makers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from data import formats
from data.formats import tiff
from data.formats.info import Box, Info

SIZE = (2, 23, 37)  # slices, height, width
INTEGERS = ("u1", "i1", "u2", "i2", "u4", "i4")
FLOATS = ("f4", "f8")
# suffix -> (dtypes, channels, whether it holds several slices)
HOLDS = {
    ".png": (("u2",), (1, 2, 3, 4), False),
    ".tif": ((*INTEGERS, "f2", *FLOATS), (1, 3, 4, 7), True),
    ".ome.tif": ((*INTEGERS, *FLOATS), (1, 3), True),
    ".npy": ((*INTEGERS, "f2", *FLOATS), (1, 3, 7), True),
    ".npz": ((*INTEGERS, *FLOATS), (1, 3), True),
    ".nii": ((*INTEGERS, *FLOATS), (1, 3), True),
    ".nii.gz": ((*INTEGERS, *FLOATS), (1, 2), True),
    ".mha": ((*INTEGERS, *FLOATS), (1, 3), True),
    ".mhd": (("i2", "f4"), (1,), True),
    ".nrrd": ((*INTEGERS, *FLOATS), (1, 3), True),
}
PACKAGES = {
    **dict.fromkeys((".png", ".tif", ".ome.tif"), ("tifffile", "imagecodecs")),
    **dict.fromkeys((".nii", ".nii.gz"), ("nibabel",)),
    **dict.fromkeys((".mha", ".mhd", ".nrrd"), ("SimpleITK",)),
}
CASES = [
    (suffix, dtype, channels, slices)
    for suffix, (dtypes, numbers, several) in HOLDS.items()
    for dtype, channels, slices in itertools.product(dtypes, numbers, (1, 2) if several else (1,))
]


def volume(dtype, channels, slices):
    rng = np.random.default_rng(len(dtype) + channels)
    shape = (slices, *SIZE[1:], channels)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize(("suffix", "dtype", "channels", "slices"), CASES)
def test_values_come_back_to_the_last_bit(tmp_path, suffix, dtype, channels, slices):
    for package in PACKAGES.get(suffix, ()):
        pytest.importorskip(package)
    values = volume(dtype, channels, slices)
    path = tmp_path / f"one{suffix}"
    formats.write(path, values, Info(str(path), "", *values.shape, values.dtype))
    info = formats.inspect(path) or tiff.inspect(str(path))  # of 8 bits: a photo
    assert (info.slices, info.height, info.width, info.channels, info.dtype) == (*values.shape, np.dtype(dtype))
    for index, expected in enumerate(values):
        np.testing.assert_array_equal(formats.read(info, index), expected)
    np.testing.assert_array_equal(formats.read(info, slices - 1, Box(5, 2, 30, 19)), values[-1, 2:19, 5:30])
    again = tmp_path / f"two{suffix}"
    formats.write(again, (formats.read(info, index) for index in range(slices)), info)
    np.testing.assert_array_equal(formats.read(info.with_values(path=str(again)), 0), values[0])
    assert formats.stem(path) == "one" + ".ome" * suffix.startswith(".ome")
    assert {entry.name for entry in tmp_path.iterdir()} - {"one.zraw", "two.zraw"} == {path.name, again.name}
