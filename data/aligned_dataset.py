"""Paired images."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data import formats, transforms
from data.base_dataset import BaseDataset, get_params, naming
from data.formats import pillow
from data.formats.notes import Note, say
from data.image_folder import DataNotFound, find_images, make_dataset
from data.sides import create_sides, size_of
from data.slices import as_slices, pairs_as_slices, read_slices
from util.errors import UserError, printable


class AlignedDataset(BaseDataset):
    """Pairs of A and B: side by side in the files of `<phase>/` (A is the left half), or as two folders.

    Without images in `<phase>/`, A is read from `<phase>A/` and B from `<phase>B/`, matched by name. The two images of
    a pair are cropped and flipped alike.
    """

    B_paths = None  # of two folders only; AB_paths then lists A's files

    def __init__(self, opt):
        super().__init__(opt)
        transforms.check(opt.preprocess, opt.load_size, opt.crop_size)
        self.dir_AB, self.dir_A, self.dir_B = (str(Path(opt.dataroot, opt.phase + side)) for side in ("", "A", "B"))
        in_two = Path(self.dir_A).is_dir() and Path(self.dir_B).is_dir()
        if in_two and not (Path(self.dir_AB).is_dir() and make_dataset(self.dir_AB, 1)):
            pairs = pairs_as_slices(match_names(self.dir_A, self.dir_B), read_slices(opt))
            pairs = pairs[: int(min(opt.max_dataset_size, len(pairs)))]
            self.AB_paths, self.B_paths = [A for A, _ in pairs], [B for _, B in pairs]
        else:
            self.AB_paths = as_slices(find_images(self.dir_AB, opt.max_dataset_size), read_slices(opt))
        nc = (opt.output_nc, opt.input_nc) if opt.direction == "BtoA" else (opt.input_nc, opt.output_nc)
        self.input_nc, self.output_nc = nc  # of A and of B; a subclass may set them itself
        self.input_nc, self.output_nc = (self.sides[letter].channels for letter in "AB")
        self.image_count = 2 * len(self.AB_paths)

    @cached_property
    def sides(self):
        """How A and B are read."""
        files = {"A": self.AB_paths, "B": self.B_paths or self.AB_paths}
        return create_sides(self, files, (self.input_nc, self.output_nc))

    @staticmethod
    def is_paired():
        return True

    def __getitem__(self, index):
        """Return A and B (C, H, W) in [-1, 1] and their paths, which are equal for a side-by-side file."""
        A_path, B_path = self.paths(index)
        A, B = self._load(A_path, B_path)
        params = get_params(self.opt, size_of(A))
        with naming(A_path):
            A, B = self.sides["A"].transform(A, params), self.sides["B"].transform(B, params)
        return {"A": A, "B": B, "A_paths": A_path, "B_paths": B_path}

    def byte_item(self, index, reader) -> dict:
        """Return the item as bytes, see ByteReader."""
        A_path, B_path = self.paths(index)
        greys = (self.sides["A"].channels == 1, self.sides["B"].channels == 1)
        load = partial(self._load, A_path, B_path)
        (A, B), size = reader.read((2 * index, 2 * index + 1), A_path, load, greys)
        params = get_params(self.opt, size)
        with naming(A_path):
            images = {"A": reader.cut(A, params), "B": reader.cut(B, params)}
        return reader.item(images, A_paths=A_path, B_paths=B_path)

    def paths(self, index: int) -> tuple[str, str]:
        """Return the files of A and B."""
        A_path = self.AB_paths[index]
        return A_path, self.B_paths[index] if self.B_paths else A_path

    def _load(self, A_path: str, B_path: str) -> tuple:
        A, B = self.sides["A"], self.sides["B"]
        resized = "resize" in self.opt.preprocess
        if A.is_photo and B.is_photo:
            if self.B_paths:
                return pillow.load_pair(A_path, B_path, self.as_before)
            return split(self.read_image(A_path), A_path, resized)
        images = A.read(A_path), B.read(B_path)
        if not self.B_paths:
            return split(images[0], A_path, resized)[0], split(images[1], A_path, resized)[1]
        pillow.check_sizes(*((path, size_of(image)) for path, image in zip((A_path, B_path), images, strict=True)))
        return images

    def __len__(self):
        return len(self.AB_paths)


def split(image: Image.Image | torch.Tensor, path: str, resized: bool) -> tuple:
    """Cut a side-by-side image into its halves A and B. If they are `resized` later, B may be wider."""
    width, height = size_of(image)
    half = width // 2
    if not half:
        raise UserError(f"{printable(path)} is {width}x{height}: too narrow for two images side by side.")
    if width < 1.2 * height:
        text = f"is {width}x{height} and is cut in half: left A, right B. docs/datasets.md has the layouts of pairs;"
        say(Note("not side by side", path, f"{text} test.py translates single pictures with --model test."))
    right = width
    if width % 2 and not resized:
        # Halves of two widths cannot be compared pixel by pixel; resizing makes them equal, as in the reference.
        say(Note("odd width", path, f"is {width} pixels wide, an odd number: the last column is dropped."))
        right = 2 * half
    if isinstance(image, torch.Tensor):
        return image[..., :half], image[..., half:right]
    return image.crop((0, 0, half, height)), image.crop((half, 0, right, height))


def continues_across(image: Image.Image, x: int) -> bool | None:
    """Return whether an RGB picture continues across its column `x`, or two lie side by side there.

    True if the columns on both sides of `x` differ no more than their neighbours do. None where that says nothing: in
    areas of one colour, or where distant columns differ as little as neighbours.
    """
    if x < 24 or image.width - x < 24:
        return None
    strip = np.asarray(image.crop((x - 24, 0, x + 24, image.height))).astype(np.float32)  # (h, 48, 3)
    near = np.abs(np.diff(strip, axis=1)).mean(axis=(0, 2))  # (47,): of neighbouring columns; 23 is across x
    far = np.abs(strip[:, 16:] - strip[:, :-16]).mean(axis=(0, 2))  # (32,): 16 apart; 8 to 23 are across x
    far = np.median(np.delete(far, slice(8, 24)))
    # JPEG's blocks are 8 columns wide, and columns may differ more where one ends than within.
    beside = max(np.median(np.delete(near, 23)), np.median(near[[7, 15, 31, 39]]))
    if far < 4 or beside > 0.5 * far:
        return None
    return bool(near[23] <= 1.5 * beside)


def looks_side_by_side(path: str, by_shape: bool) -> bool | None:
    """Whether a file seems to show two pictures side by side; None if that can't be seen.

    With `by_shape` an image that is twice as wide as high does.
    """
    try:
        image = pillow.load(path)
    except UserError:  # whoever loads it for use reports that
        return None
    if by_shape and image.width == 2 * image.height:
        return True
    across = continues_across(image, image.width // 2) if image.width >= 1.2 * image.height else True
    return None if across is None else not across


def match_names(dir_A: str, dir_B: str) -> list[tuple[str, str]]:
    """Pair the images of two folders by their paths without extension; print those without a partner."""
    A, B = images_by_name(dir_A), images_by_name(dir_B)
    both = sorted(A.keys() & B.keys())
    unmatched = "; ".join(
        f"{len(rest)} in {printable(folder)}: {printable(', '.join(rest[:5]))}{', ...' if len(rest) > 5 else ''}"
        for folder, rest in ((dir_A, sorted(A.keys() - B.keys())), (dir_B, sorted(B.keys() - A.keys())))
        if rest
    )
    if not both:
        raise DataNotFound(
            f"no image of {printable(dir_A)} has a partner of the same name in {printable(dir_B)} ({unmatched})."
        )
    print(f"{len(both)} pairs of equal names, such as {printable(A[both[0]])} and {printable(B[both[0]])}")
    if unmatched:
        print(f"left out, having no partner of the same name: {unmatched}")
    return [(A[name], B[name]) for name in both]


def images_by_name(folder: str) -> dict[str, str]:
    """Map each image's path inside `folder`, without its extension, to its full path."""
    images = {}
    for path in find_images(folder):
        name = str(Path(path).relative_to(folder).with_name(formats.stem(path)))
        if name in images:
            raise UserError(
                f"{printable(images[name])} and {printable(path)} have one name, so neither can be matched with its "
                "partner."
            )
        images[name] = path
    return images
