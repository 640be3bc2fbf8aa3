"""DICOM slices and series with pydicom: values with rescale slope and intercept, as Hounsfield units in CT."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data.formats.info import Box, Info
from util.checkpoint.atomic_files import replacing
from util.errors import UserError, list_names, need, printable

SUFFIXES = (".dcm",)
# Tags that describe the input's stored values; the result has its own.
STALE = (
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "LossyImageCompressionMethod",
    "LossyImageCompressionRatio",
)


def inspect(path: str) -> Info:
    """Describe a DICOM file of one or more frames; for a folder, the series of its files in order of their places."""
    files = _series(Path(path)) if Path(path).is_dir() else [_header(path)]
    try:
        return _describe(path, files)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise UserError(f"its tags are damaged: {str(error).rstrip('.')}.") from error


def _describe(path: str, files: list) -> Info:
    first = files[0]
    if "Rows" not in first or not ("PixelRepresentation" in first or "FloatPixelData" in first):
        raise UserError("it holds no image.")
    slope, intercept = float(first.get("RescaleSlope", 1)), float(first.get("RescaleIntercept", 0))
    dtype = _stored_dtype(first)
    notes = []
    if (slope, intercept) != (1, 0):
        whole = slope == int(slope) and intercept == int(intercept) and dtype.itemsize < 4
        dtype = np.dtype((np.int16 if _fits(first, slope, intercept) else np.int32) if whole else np.float32)
    if first.get("PhotometricInterpretation") == "MONOCHROME1":
        notes.append(("white as zero", "is MONOCHROME1: its values are kept, so low ones are bright for a viewer"))
    if first.get("PhotometricInterpretation") == "PALETTE COLOR":
        notes.append(("palette", "has a palette, whose numbers are read"))
    frames = len(files) if len(files) > 1 else int(first.get("NumberOfFrames", 1))
    between = _gap(files) or float(first.get("SpacingBetweenSlices", first.get("SliceThickness", 0)) or 0)
    return Info(
        path,
        "dicom",
        frames,
        first.Rows,
        first.Columns,
        first.get("SamplesPerPixel", 1),
        dtype,
        unit="HU" if first.get("RescaleType", first.get("Modality")) in ("HU", "CT") else first.get("Units", ""),
        spacing=(between, *(float(value) for value in first.get("PixelSpacing", (0, 0)))),
        affine=_affine(files, between),
        notes=tuple(notes),
        header=files,
    )


def read(info: Info, index: int = 0, box: Box | None = None) -> np.ndarray:
    """Read a slice or a piece of it, (H, W, C), in the unit of the modality."""
    pydicom = need("pydicom", "pydicom", printable(info.path))
    box = info.box(box)
    header = info.header[index] if len(info.header) > 1 else info.header[0]
    try:
        frame = None if len(info.header) > 1 else index
        pixels = pydicom.pixels.pixel_array(header.filename, index=frame if info.slices > 1 else None)
    except Exception as error:  # decoders raise nearly anything
        hint = " Type pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg." if "plugin" in str(error) else ""
        raise UserError(f"its pixels cannot be decoded: {str(error).splitlines()[0].rstrip('.')}.{hint}") from error
    pixels = pixels.reshape(info.height, info.width, info.channels)
    pixels = pixels[box.top : box.bottom, box.left : box.right]
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    if (slope, intercept) != (1, 0):
        pixels = pixels * np.float64(slope) + intercept
    return np.ascontiguousarray(pixels, info.dtype)


def write(path: str | Path, slices: Iterable[np.ndarray], info: Info) -> None:
    """Write slices (D, H, W, C) with the tags of `info.header`: a file, or for a series a folder of files.

    Results are new objects: they get their own identifiers, and say that they are derived from others.
    """
    need("pydicom", "pydicom", printable(path))
    from pydicom.uid import generate_uid

    headers, series, path = info.header, generate_uid(), Path(path)
    if len(headers) == 1:
        _write_file(path, np.stack(list(slices)), headers[0], info, series)
        return
    for header, pixels in zip(headers, slices, strict=True):
        _write_file(path / Path(header.filename).name, pixels[None], header, info, series)


# ---- one file ----


def _header(path: str):
    pydicom = need("pydicom", "pydicom", printable(path))
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except (
        pydicom.errors.InvalidDicomError,
        EOFError,
        OSError,
        ValueError,
        AttributeError,
        NotImplementedError,
    ) as error:
        raise UserError(f"it is damaged, or no DICOM file: {str(error).rstrip('.')}.") from error


def _stored_dtype(header) -> np.dtype:
    if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
        return np.dtype(np.float32 if "FloatPixelData" in header else np.float64)
    return np.dtype(f"{'i' if header.get('PixelRepresentation') else 'u'}{max(8, header.BitsAllocated) // 8}")


def _fits(header, slope: float, intercept: float) -> bool:
    """Whether all values that the file can store are 16-bit integers after scaling."""
    bits, signed = header.BitsStored, header.PixelRepresentation
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return all(-(2**15) <= end * slope + intercept < 2**15 for end in ends)


def _write_file(path: Path, pixels: np.ndarray, header, info: Info, series: str) -> None:
    """Write frames (D, H, W, C) as one file."""
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    new = header.copy()
    list(new.iterall())  # decodes all tags, which may be in another byte order
    new.set_original_encoding(False, True)
    for name in STALE:
        if name in new:
            delattr(new, name)
    new.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    new.SOPInstanceUID = new.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    new.SeriesInstanceUID = series
    new.ImageType = ["DERIVED", "SECONDARY", *list(new.get("ImageType", ["", ""]))[2:]]
    new.DerivationDescription = "translated by a neural network"
    pixels, stored, slope, intercept = _as_stored(pixels, info.dtype)
    new.RescaleSlope, new.RescaleIntercept = f"{slope:.10g}", f"{intercept:.10g}"
    new.Rows, new.Columns, new.SamplesPerPixel = pixels.shape[1], pixels.shape[2], pixels.shape[3]
    new.PhotometricInterpretation = "RGB" if pixels.shape[3] == 3 else "MONOCHROME2"
    if pixels.shape[3] > 1:
        new.PlanarConfiguration = 0
    if pixels.shape[0] > 1:
        new.NumberOfFrames = pixels.shape[0]
    new.BitsAllocated = new.BitsStored = 8 * stored.itemsize
    new.HighBit, new.PixelRepresentation = new.BitsStored - 1, int(stored.kind == "i")
    data = pixels.astype(stored.newbyteorder("<")).tobytes()
    new.PixelData = data + b"\0" * (len(data) % 2)
    new["PixelData"].VR = "OB" if stored.itemsize == 1 else "OW"
    with replacing(path) as file:
        new.save_as(file, enforce_file_format=True)


def _as_stored(pixels: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.dtype, float, float]:
    """Return integers, their type, slope and intercept: exact for integers; floats get 65,536 levels."""
    low, high = float(pixels.min()), float(pixels.max())
    if dtype.itemsize <= 2 and dtype.kind != "f":
        return pixels, dtype, 1, 0
    if dtype.kind != "f":
        if high - low > 65535:
            return pixels, dtype, 1, 0
        return pixels - int(low), np.dtype(np.uint16), 1, low
    slope, intercept = float(f"{max((high - low) / 65535, 1e-9):.10g}"), float(f"{low:.10g}")
    return np.rint((pixels - intercept) / slope).clip(0, 65535), np.dtype(np.uint16), slope, intercept


# ---- series ----


def _series(folder: Path) -> list:
    """Return the headers of a folder's files, sorted by their place along the slices' normal."""
    headers = [_header(str(path)) for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]
    if not headers:
        raise UserError("it holds no .dcm file.")
    series = {str(header.get("SeriesInstanceUID", "")) for header in headers}
    shapes = {(header.get("Rows"), header.get("Columns")) for header in headers}
    if len(series) > 1 or len(shapes) > 1:
        names = list_names(Path(header.filename).name for header in headers)
        raise UserError(
            f"its files are {len(series)} series of {len(shapes)} sizes ({names}); put each into its folder."
        )
    normal = _normal(headers[0])
    if normal is not None and all("ImagePositionPatient" in header for header in headers):
        return sorted(headers, key=lambda header: float(np.dot(normal, np.array(header.ImagePositionPatient, float))))
    return sorted(headers, key=lambda header: int(header.get("InstanceNumber", 0) or 0))


def _normal(header) -> np.ndarray | None:
    if "ImageOrientationPatient" not in header:
        return None
    rows, columns = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    return np.cross(rows, columns)


def _gap(files: list) -> float:
    """Return the distance between slices from their places; 0 where these are unknown."""
    if len(files) < 2 or any("ImagePositionPatient" not in header for header in files[:2]):
        return 0.0
    places = [np.array(header.ImagePositionPatient, float) for header in files[:2]]
    return float(np.linalg.norm(places[1] - places[0]))


def _affine(files: list, between: float) -> tuple:
    """Return the matrix from (slice, row, column) to the patient's millimetres; empty where tags are missing."""
    first = files[0]
    if any(name not in first for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")):
        return ()
    along_row, along_column = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    matrix = np.eye(4)
    matrix[:3, 0] = np.cross(along_row, along_column) * between
    matrix[:3, 1] = along_column * float(first.PixelSpacing[0])
    matrix[:3, 2] = along_row * float(first.PixelSpacing[1])
    matrix[:3, 3] = np.array(first.ImagePositionPatient, float)
    return tuple(tuple(row) for row in matrix.tolist())
