"""The images of a folder, and errors that describe a folder without images."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch.utils.data

from data import formats
from data.formats import pillow
from util.errors import UserError, printable
from util.runtime.search import Search

SUFFIXES = (*pillow.SUFFIXES, *formats.SUFFIXES)
# Plug-ins read this list and may append to it. `is_image_file` accepts any case.
IMG_EXTENSIONS = [case for suffix in SUFFIXES for case in (suffix, suffix.upper())]


def is_image_file(filename: str) -> bool:
    """Return whether a file's name ends like an image's."""
    return str(filename).lower().endswith(tuple(suffix.lower() for suffix in IMG_EXTENSIONS))


def make_dataset(dir: str | Path, max_dataset_size: float = math.inf) -> list[str]:
    """List the images in a folder and below it, sorted by path, the first `max_dataset_size` of them.

    Links to folders are followed, but not in circles; hidden files, hidden folders and broken links are skipped.
    UserError for a folder that is missing or cannot be listed; an empty one gives an empty list.
    """
    if not Path(dir).is_dir():
        raise NoImages(Path(dir))
    paths = []
    for root, folders, files in os.walk(Path(dir), followlinks=True, onerror=_cannot_list):
        above = {folder.resolve() for folder in (Path(root), *Path(root).parents)}
        folders[:] = [f for f in folders if not f.startswith(".") and Path(root, f).resolve() not in above]
        images = [Path(root, f) for f in files if not f.startswith(".") and is_image_file(f)]
        paths += [str(image) for image in images if image.is_file()]  # not a pipe or a broken link
    paths.sort()
    return paths[: int(min(max_dataset_size, len(paths)))]


def _cannot_list(error: OSError) -> None:
    raise UserError(f"cannot list {printable(error.filename)}: {error.strerror}.") from error


class DataNotFound(UserError):
    """The images that a dataset needs are not there; `open_dataset` adds what to type."""


class NoImages(DataNotFound):
    """A folder has no images, is a file or is missing; the message lists what is there."""

    def __init__(self, folder: Path):
        there = next(f for f in (folder, *folder.parents) if f.exists())
        if there.is_file():
            super().__init__(f"{printable(there)} is a file, not a folder.")
            return
        kinds = " ".join(suffix[1:] for suffix in SUFFIXES)
        state = "has no images" if folder.is_dir() else "is not there"
        super().__init__(f"{printable(folder)} {state} (looked for {kinds}). {what_is_there(there)}")


def find_images(folder: str | Path, max_dataset_size: float = math.inf) -> list[str]:
    """List the images of a folder as `make_dataset` does, but raise UserError if there are none."""
    paths = make_dataset(folder, max_dataset_size)
    if not paths:
        raise NoImages(Path(folder))
    return paths


def what_is_there(folder: str | Path, most: int = 8) -> str:
    """Describe the content of a folder, from a bounded look at it."""
    search, texts = Search(500, 0.5), []
    entries = search.entries(folder)
    for entry in entries[:most]:
        count = search.count(entry, is_image_file, 100) if entry.is_dir() else None
        number = f"{count} or more" if count and (count == 100 or search.is_over()) else count
        known = number or not search.is_over()  # else it was not looked at
        texts.append(printable(entry.name) + ("" if count is None else f"/ ({number} images)" if known else "/"))
    if len(entries) > most:
        texts.append(f"{len(entries) - most} more")
    name = "The current folder" if Path(folder) == Path() else printable(folder)
    return f"{name} holds: {', '.join(texts) or 'nothing'}."


default_loader = pillow.load  # the name that plug-ins import


class ImageFolder(torch.utils.data.Dataset):
    """All images of a folder, as a dataset for plug-ins; RuntimeError if there are none."""

    def __init__(self, root, transform=None, return_paths=False, loader=default_loader):
        self.root = root
        self.imgs = make_dataset(root)
        if not self.imgs:
            raise RuntimeError(f"{root} has no images. {what_is_there(root)}")
        self.transform = transform
        self.return_paths = return_paths
        self.loader = loader

    def __getitem__(self, index):
        """Return the transformed image, or (image, path) with `return_paths`."""
        path = self.imgs[index]
        image = self.loader(path)
        if self.transform is not None:
            image = self.transform(image)
        return (image, path) if self.return_paths else image

    def __len__(self):
        return len(self.imgs)
