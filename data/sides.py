"""Sides A and B of a dataset: their files as images for the network, and results as values of such files.

Photos of 8 bits go through Pillow, as in the reference, to the bit. All other images are read by data/formats and
become floats. A side is read so if an option names it, or if its first file is no such photo.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data import formats, transforms
from data.formats import pillow
from data.formats.info import Info
from data.formats.notes import Note, say
from data.formats.values import MOST_CLASSES, RangeError
from data.slices import describe_volume, locate, read_neighbours, read_slices, slice_path
from data.value_ranges import Labels, ValueRange, measure_percentiles, read_labels, read_value_ranges
from util.errors import UserError, printable
from util.runtime.run_facts import run_facts, save_fact

FIRST = 16  # files whose values are looked at before a run begins
LEAST = 1 / 8  # of an integer type's range that these use
PHOTO_CHANNELS = {"1": 1, "L": 1, "P": 3, "LA": 2, "PA": 4, "RGB": 3, "RGBA": 4}  # by Pillow's mode; others: 3
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


class Side:
    """How the images of one side are read.

    `dtype`, `low`, `high`, `channels` and `alpha` are those of the files, or of the training run's files: results are
    written so.
    """

    def __init__(self, letter: str, opt, dataset, saved: dict, channels: int | None = None):
        self.letter, self.opt, self.dataset = letter, opt, dataset
        self.option = "input_nc" if (letter == "A") == (opt.direction != "BtoA") else "output_nc"
        # Options that a notebook made itself lack those that the reference does not have.
        value_range, labels, stack = (getattr(opt, name, None) for name in ("value_range", "labels", "stack_A"))
        ranges = read_value_ranges(value_range or ())
        self.range = ranges.get(letter, ValueRange())
        self.labels: Labels | None = read_labels(labels or ()).get(letter)
        folders = [Path(folder) for folder in (stack or "").split(",") if folder and letter == "A"]
        self.folders = [folder / opt.phase if (folder / opt.phase).is_dir() else folder for folder in folders]
        self.is_photo = not (letter in ranges or self.labels or self.folders or saved or getattr(opt, self.option) == 4)
        self.channels = channels or getattr(opt, self.option)
        slices = read_slices(opt)
        # With pairs, the network sees neighbours of the input's slice, and draws one slice.
        is_target = dataset and dataset.is_paired() and self.option == "output_nc"
        self.neighbours = 1 if slices is None or is_target else slices.count
        self.saved = saved
        self.dtype, self.alpha = np.dtype(saved.get("dtype", "uint8")), saved.get("alpha", False)
        # Percentiles are measured once: a run's validation split and its later processes take the numbers found.
        if saved.get("low") is not None and (self.range.percentiles or "value_range" not in run_facts(opt).typed):
            self.range = ValueRange(saved["low"], saved["high"])

    def begin(self, paths: list[str]) -> None:
        """Look at the first files: their kind, type and channels, and the percentiles of their values."""
        first = self.first_whole(paths)
        # Runs of earlier versions keep reading deep images as 8 bits.
        plain = first is None or is_photo(first) or self.dataset.as_before
        self.is_photo = self.is_photo and self.channels in (1, 3) and plain
        if self.is_photo:
            self.dataset.check_first(paths)
            return
        if first is None:
            self.values(paths[0])  # raises its error
        self.dtype = first.dtype if not self.saved else self.dtype
        found = sum(self._channels(describe(path)) for path in self.files(paths[0]))
        self.alpha = first.alpha and found == first.channels
        wanted = self.labels.count if self.labels else found
        opt = self.opt
        binding = (
            self.option in run_facts(opt).typed
            or not getattr(opt, "isTrain", True)
            or getattr(opt, "continue_train", False)
        )
        if binding and (wanted, self.channels) == (1, 3):
            wanted = 3  # grey becomes three equal channels, as photos do
        if binding and self.channels != wanted:
            reason = (
                f"type --{self.option} {wanted}, or leave it out."
                if getattr(opt, "isTrain", True)
                else "the network was made so."
            )
            raise UserError(
                f"{printable(paths[0])} has {wanted} channels, and --{self.option} {self.channels} is expected: "
                + reason
            )
        self.channels = wanted
        if self.range.percentiles:
            low, high = measure_percentiles(map(self.values, paths[:FIRST]), self.range.low, self.range.high)
            self.range = ValueRange(low, high)
        if first.bits and np.isnan(self.range.low):
            self.range = ValueRange(0, 2**first.bits - 1)
        if not self.labels and not self.saved and np.isnan(self.range.low):
            self.check_range(paths)

    @staticmethod
    def first_whole(paths: list[str]) -> Info | None:
        """Return the facts of the first file that can be read; None if the first ones are broken.

        Their errors come when they are loaded.
        """
        for path in paths[:FIRST]:
            with contextlib.suppress(UserError):
                info = describe(path)
                break
        else:
            return None
        check_slice(path, info)
        return info

    def check_range(self, paths: list[str]) -> None:
        """Raise RangeError for floats without a range, and for integers that use less than 1/8 of their type's."""
        if self.dtype.itemsize == 1:
            return
        values = [self.values(path) for path in paths[:FIRST]]
        low, high = float(min(map(np.nanmin, values))), float(max(map(np.nanmax, values)))
        problem, classes = "and nothing says which of them are black and white", ""
        if self.dtype.kind != "f":
            limits = np.iinfo(self.dtype)
            if high - low >= LEAST * (float(limits.max) - limits.min):
                return
            problem = f"less than 1/8 of the range from {limits.min} to {limits.max}"
            if 0 <= low < high < MOST_CLASSES and values[0].shape[2] == 1:
                classes = f"\nIf they are class numbers, type: --labels {self.letter}={int(high) + 1}"
            low, high = (0, 2 ** int(high).bit_length() - 1) if low >= 0 else (low, high)
        if not low < high:  # equal, or no number at all
            low, high = (low, low + 1) if np.isfinite(low) else (0, 1)
        found = f"the first {len(values)} files hold" if len(values) > 1 else "it holds"
        ends = f"{min(map(np.nanmin, values)):.6g} to {max(map(np.nanmax, values)):.6g}"
        typed = "".join(f"{word} " for word in self.opt.value_range or ())
        raise RangeError(
            f"{printable(paths[0])}: {found} {self.dtype} from {ends}, {problem}.\n"
            "Type the values that become black and white: "
            f"--value_range {typed}{self.letter}={low:.6g},{high:.6g}{classes}",
            paths,
        )

    def facts(self) -> dict[str, object]:
        """Return what later commands need to write results as values of this side."""
        low, high = (None if np.isnan(end) else end for end in (self.range.low, self.range.high))
        return {"dtype": self.dtype.name, "low": low, "high": high, "alpha": self.alpha}

    # ---- reading ----

    def files(self, path: str) -> list[str]:
        """Return the files whose channels are stacked: `path`, and those of its name in other folders."""
        place, found = locate(path), [path]
        name = formats.stem(place.file)
        for folder in self.folders:
            same = [str(file) for file in sorted(folder.glob(f"{name}.*")) if formats.stem(file) == name]
            if len(same) != 1:
                raise UserError(f"--stack_A: {folder} has {len(same)} files of the name of {printable(path)}.")
            found.append(same[0] if place.file == path else slice_path(same[0], place.axis, place.index))
        return found

    def values(self, path: str) -> np.ndarray:
        """Read the values of an image, (H, W, C), as its file has them."""
        parts = [self._part(file) for file in self.files(path)]
        if len({part.shape[:2] for part in parts}) > 1:
            sizes = ", ".join(f"{part.shape[1]}x{part.shape[0]}" for part in parts)
            raise UserError(f"{printable(path)}: the images that are stacked have different sizes: {sizes}.")
        return np.concatenate(parts, axis=2) if len(parts) > 1 else parts[0]

    def _part(self, path: str) -> np.ndarray:
        info = describe(path)
        check_slice(path, info)
        if info.format != "pillow":
            say(*(Note(kind, path, text) for kind, text in info.notes))
            values = read_neighbours(info, locate(path).index, self.neighbours)
            return values if self.neighbours > 1 else values[..., : self._channels(info)]
        with pillow.explained(path):
            picture = pillow.decode(path)
            say(*picture.notes)
            image = picture.image
            if not (self.labels and not self.labels.colors and image.mode == "P"):  # else: class numbers
                image = image.convert(MODES[self._channels(info)])
        pixels = np.asarray(image)
        return pixels.reshape(*pixels.shape[:2], -1)

    def _channels(self, info: Info) -> int:
        """Return how many channels of a file are read: without its opacity, unless the options ask for that."""
        if self.labels and not self.labels.colors and info.header == "P":
            return 1
        asked = getattr(self.opt, self.option)
        if self.neighbours > 1:
            return info.channels * self.neighbours
        return info.channels - (info.alpha and not self.folders and asked != info.channels)

    def read(self, path: str) -> Image.Image | torch.Tensor:
        """Read an image: a photo as 8-bit RGB, others as a float tensor (C, H, W) in [-1, 1]."""
        if self.is_photo:
            return self.dataset.read_image(path)
        values = self.values(path)
        try:
            image = self.labels.to_network(values) if self.labels else self._scaled(values, path)
        except UserError as error:
            raise UserError(f"{printable(path)}: {error}") from error
        if (image.shape[2], self.channels) == (1, 3):
            image = image.repeat(3, axis=2)
        if image.shape[2] != self.channels:
            raise UserError(
                f"{printable(path)} has {image.shape[2]} channels, and the first image of side {self.letter} has "
                f"{self.channels} (--{self.option})."
            )
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

    def _scaled(self, values: np.ndarray, path: str) -> np.ndarray:
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            say(Note("not numbers", path, "has values that are no numbers, which are read as the lowest one"))
            values = np.nan_to_num(values, nan=self.range.low, posinf=self.range.high, neginf=self.range.low)
        if values.dtype != self.dtype and not self.folders and not np.isnan(self.range.low):
            ends = f"{self.range.low:.6g} is black and {self.range.high:.6g} white for all"
            say(Note("other type", path, f"holds {values.dtype}, and side {self.letter} {self.dtype}: {ends}"))
        return self.range.to_network(values)

    def transform(self, image: Image.Image | torch.Tensor, params: dict | None = None) -> torch.Tensor:
        """Resize, crop and flip as the options say; (C, H, W) in [-1, 1]."""
        opt = self.opt
        sizes = (opt.preprocess, opt.load_size, opt.crop_size, not opt.no_flip, params)
        if isinstance(image, Image.Image):
            return transforms.build(*sizes, grayscale=self.channels == 1)(image)
        return transforms.transform_array(image, *sizes, nearest=self.labels is not None)

    # ---- writing ----

    def middle_slice(self, images: torch.Tensor) -> torch.Tensor:
        """Return the channels of the middle one of neighbouring slices, (N, C, H, W)."""
        count = images.shape[1] // self.neighbours
        return images[:, self.neighbours // 2 * count :][:, :count] if self.neighbours > 1 else images

    def to_values(self, image: torch.Tensor) -> np.ndarray:
        """Turn an image (C, H, W) in [-1, 1] into values (H, W, C) of a file of this side."""
        array = self.middle_slice(image[None])[0].detach().float().cpu().numpy().transpose(1, 2, 0)
        return self.labels.to_values(array) if self.labels else self.range.to_values(array, self.dtype)


def size_of(image: Image.Image | torch.Tensor) -> tuple[int, int]:
    """Return the width and height of an image that `Side.read` returned."""
    return image.size if isinstance(image, Image.Image) else tuple(image.shape[:0:-1])


def is_photo(info: Info) -> bool:
    """Whether a file is an image of 8 bits and up to three channels, beside opacity."""
    is_plain = info.dtype == np.uint8 and info.channels - info.alpha in (1, 3)
    return info.format == "pillow" or (info.format == "tiff" and is_plain)


def describe(path: str) -> Info:
    """Return the facts of any image file, or of the volume that a slice's path names."""
    file, axis, _ = locate(path)
    info = describe_volume(file, axis, whole=file != path)
    if info is None:
        header = pillow.read_header(path)
        channels, alpha = PHOTO_CHANNELS.get(header.mode, 3), header.mode in ("LA", "PA", "RGBA")
        dtype = np.dtype(np.uint8)
        return Info(path, "pillow", 1, header.height, header.width, channels, dtype, alpha, header=header.mode)
    return info


def check_slice(path: str, info: Info) -> None:
    """Raise UserError for a whole volume where a slice of it is meant; of pages of photos the first one is read."""
    if info.slices > 1 and locate(path).file == path and not is_photo(info):
        raise UserError(f"{printable(path)} is a volume of {info.slices} slices: type --slices 1 to use each of them.")


def create_sides(dataset, files: dict[str, list[str]], channels: tuple[int | None, ...] = (None, None)) -> dict:
    """Create the sides of a dataset for its files: side -> paths; none of the lists is empty.

    The files decide the channels of sides that are no photos: `opt.input_nc` and `opt.output_nc` become these numbers,
    and the network is then made for them.
    """
    opt, sides = dataset.opt, {}
    saved = run_facts(opt).saved.get("sides", {})
    for (letter, paths), count in zip(files.items(), channels, strict=False):
        side = sides[letter] = Side(letter, opt, dataset, saved.get(letter, {}), count)
        side.begin(paths)
        if not side.is_photo:
            setattr(opt, side.option, side.channels)
            if getattr(opt, "isTrain", False):
                save_fact(opt, "sides", {**run_facts(opt).saved.get("sides", {}), letter: side.facts()})
    return sides
