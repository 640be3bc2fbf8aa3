"""Volumes: NIfTI with nibabel, MetaImage and NRRD with SimpleITK. Slices lie across the last axis, or another one.

A slice across z has rows y and columns x, across y rows z and columns x, across x rows z and columns y; all in the
file's order, without turning the patient.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from data.formats.info import Box, Info
from util.errors import UserError, need, printable

NIFTI = (".nii", ".nii.gz")
SUFFIXES = (*NIFTI, ".mha", ".mhd", ".nrrd")


def inspect(path: str, axis: str = "z") -> Info:
    """Describe a volume of numbers, with channels as a fourth axis or as vectors; slices lie across `axis`."""
    try:
        shape, channels, dtype, spacing, affine, header = (_nifti if _is_nifti(path) else _itk)(path)
    except (OSError, EOFError, ValueError, RuntimeError) as error:
        raise UserError(f"it is damaged, or no volume{_reason(error)}.") from error
    if len(shape) != 3 or 0 in (*shape, channels) or dtype.kind not in "iuf":
        raise UserError(f"its shape is {tuple(shape)} of {dtype}; numbers in three axes are read.")
    depth, height, width = _axes(axis)
    return Info(
        path,
        "volumes",
        *(shape[i] for i in (depth, height, width)),
        channels,
        dtype,
        spacing=tuple(float(spacing[i]) for i in (depth, height, width)),
        affine=tuple(tuple(float(value) for value in row) for row in affine),
        header=(axis, header),
    )


def read(info: Info, index: int = 0, box: Box | None = None) -> np.ndarray:
    """Read a slice or a piece of it, (H, W, C). An uncompressed file is read only there."""
    box, (axis, header) = info.box(box), info.header
    depth, height, width = _axes(axis)
    where: list = [None] * 3  # for each axis of the file
    where[depth] = slice(index, index + 1)
    where[height], where[width] = slice(box.top, box.bottom), slice(box.left, box.right)
    try:
        piece = (_read_nifti if _is_nifti(info.path) else _read_itk)(info, header, where)  # (x, y, z, C)
    except (OSError, EOFError, ValueError, RuntimeError) as error:
        raise UserError(f"it is damaged, or ends early{_reason(error)}.") from error
    return np.ascontiguousarray(np.moveaxis(piece, (depth, height, width), (0, 1, 2))[0], info.dtype)


def write(path: str | Path, slices: Iterable[np.ndarray], info: Info) -> None:
    """Write slices (D, H, W, C) with the geometry of `info.header`, where it comes from a volume."""
    axis, header = info.header if isinstance(info.header, tuple) else ("z", None)
    order = _axes(axis)
    size = (info.slices, info.height, info.width)
    shape = [size[order.index(i)] for i in range(3)]
    with tempfile.TemporaryFile(dir=Path(path).parent) as file:  # a volume need not fit into memory
        volume = np.memmap(file, info.dtype, "w+", shape=(*shape, info.channels), order="F")
        view = np.moveaxis(volume, order, (0, 1, 2))
        for index, piece in enumerate(slices):
            view[index] = piece
        (_write_nifti if _is_nifti(str(path)) else _write_itk)(Path(path), volume, header, info)


def same_grid(one: Info, other: Info) -> str:
    """Return how the grids of two volumes differ; empty if voxels of one index show one place."""
    for name in ("slices", "height", "width"):
        if getattr(one, name) != getattr(other, name):
            return f"{getattr(one, name)} and {getattr(other, name)} {name}"
    for name in ("spacing", "affine"):
        values = [np.asarray(getattr(info, name)) for info in (one, other)]
        if values[0].size and values[1].size and not np.allclose(*values, rtol=1e-3, atol=1e-3):
            return f"{name} {values[0].tolist()} and {values[1].tolist()}"
    return ""


def _axes(axis: str) -> tuple[int, int, int]:
    """Return the file's axes that a slice's index, rows and columns run along."""
    depth = "xyz".index(axis)
    return depth, *sorted({0, 1, 2} - {depth}, reverse=True)


def _is_nifti(path: str) -> bool:
    return path.lower().endswith(NIFTI)


def _reason(error: Exception) -> str:
    """Return an error's text; ITK's RuntimeError has many lines, and none for a user."""
    return "" if isinstance(error, RuntimeError) else f": {str(error).rstrip('.')}"


# ---- NIfTI ----


def _nifti(path: str):
    nibabel = need("nibabel", "nibabel", printable(path))
    try:
        image = nibabel.load(path)
    except nibabel.filebasedimages.ImageFileError as error:
        raise ValueError(error) from error
    shape = image.shape
    channels = shape[3] if len(shape) == 4 else 1
    shape = (*shape, 1) if len(shape) == 2 else shape[:3] if len(shape) == 4 else shape
    slope, offset = image.dataobj.slope, image.dataobj.inter
    dtype = image.get_data_dtype().newbyteorder("=")
    if (slope, offset) != (1, 0):
        whole = dtype.kind in "iu" and dtype.itemsize < 4 and slope == int(slope) and offset == int(offset)
        dtype = np.dtype(np.int32 if whole else np.float32)
    return shape, channels, dtype, (*image.header.get_zooms(), 1)[:3], image.affine, image


def _read_nifti(info: Info, image, where: list) -> np.ndarray:
    piece = np.asarray(image.dataobj[tuple(where)[: len(image.shape)]])
    return piece.reshape(*piece.shape, *[1] * (4 - piece.ndim))


def _write_nifti(path: Path, volume: np.ndarray, image, info: Info) -> None:
    nibabel = need("nibabel", "nibabel", printable(path))
    if isinstance(image, nibabel.Nifti1Image):
        header, affine = image.header.copy(), image.affine
    else:
        header, affine = None, np.array(info.affine) if info.affine else np.eye(4)
    volume = volume[..., 0] if info.channels == 1 else volume
    new = nibabel.Nifti1Image(volume, affine, header, dtype=info.dtype)
    new.header.set_slope_inter(1, 0)
    new.header["cal_min"] = new.header["cal_max"] = 0  # they described the input's values
    with _folder_beside(path) as folder:
        nibabel.save(new, folder / path.name)


# ---- MetaImage and NRRD ----


def _itk(path: str):
    sitk = need("SimpleITK", "SimpleITK", printable(path))
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # they go to stderr, and name no file
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    size, spacing = reader.GetSize(), np.array(reader.GetSpacing())
    affine = np.eye(4)
    if len(size) == 3:
        affine[:3, :3] = np.array(reader.GetDirection()).reshape(3, 3) * spacing
        affine[:3, 3] = reader.GetOrigin()
    channels = reader.GetNumberOfComponents()
    pixel = sitk.Image([1, 1], reader.GetPixelID(), channels)
    return size, channels, sitk.GetArrayViewFromImage(pixel).dtype, spacing, affine, reader


def _read_itk(info: Info, reader, where: list) -> np.ndarray:
    sitk = need("SimpleITK", "SimpleITK", printable(info.path))
    reader.SetExtractIndex([piece.start for piece in where])
    reader.SetExtractSize([piece.stop - piece.start for piece in where])
    piece = sitk.GetArrayFromImage(reader.Execute())  # (z, y, x[, C])
    return piece.reshape(*piece.shape[:3], -1).transpose(2, 1, 0, 3)


def _write_itk(path: Path, volume: np.ndarray, reader, info: Info) -> None:
    sitk = need("SimpleITK", "SimpleITK", printable(path))
    array = volume.transpose(2, 1, 0, 3)  # (z, y, x, C)
    image = sitk.GetImageFromArray(array[..., 0] if info.channels == 1 else array, isVector=info.channels > 1)
    if info.affine:
        affine = np.array(info.affine)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(affine[:3, 3].tolist())
    if isinstance(reader, sitk.ImageFileReader):
        for key in reader.GetMetaDataKeys():
            image.SetMetaData(key, reader.GetMetaData(key))
    with _folder_beside(path) as folder:
        sitk.WriteImage(image, str(folder / path.name), useCompression=True)


@contextlib.contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """Yield a folder to write `path.name` in; its files then move beside `path`, the main one last."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".", suffix=".new") as folder:
        yield Path(folder)
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
            file.replace(path.parent / file.name)
