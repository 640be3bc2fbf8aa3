"""The images of a folder, and errors that describe a folder without images."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch.utils.data

from data.formats import pillow
from util.errors import UserError, did_you_mean, printable

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp")
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
        raise UserError(f"{printable(dir)} is not there. {what_is_there(dir)}")
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


def find_images(folder: str | Path, max_dataset_size: float = math.inf, phase: str | None = None) -> list[str]:
    """List the images of a folder as `make_dataset` does; if there are none, raise UserError with the folder's content.

    With the `phase` of a data folder `<dataroot>/<phase>...` the error also names the options that would find images.
    """
    folder = Path(folder)
    exists = folder.is_dir()
    paths = make_dataset(folder, max_dataset_size) if exists else []
    if not paths:
        state = "has no images" if exists else "is not there"
        kinds = " ".join(suffix[1:] for suffix in SUFFIXES)
        there = what_is_there(folder if exists or not phase else folder.parent)
        advice = fitting_options(folder.parent, phase) if phase else ""
        raise UserError(f"{printable(folder)} {state} (looked for {kinds}). {there}{advice}")
    return paths


def what_is_there(folder: str | Path, most: int = 8) -> str:
    """Describe the content of a folder, or of the nearest folder above if it is missing."""
    folder = Path(folder)
    there = next(f for f in (folder, *folder.parents) if f.is_dir())
    entries = sorted(entry for entry in there.iterdir() if not entry.name.startswith("."))
    texts = [
        printable(entry.name) + (f"/ ({len(make_dataset(entry))} images)" if entry.is_dir() else "")
        for entry in entries[:most]
    ]
    if len(entries) > most:
        texts.append(f"{len(entries) - most} more")
    # The first part that is missing: `facade` of datasets/facade/train, where only datasets/ is.
    missing = (folder.parts[len(there.parts) :] or [""])[0]
    guess = did_you_mean(missing, [entry.name for entry in entries if entry.is_dir()])
    return f"{printable(there)} holds: {', '.join(texts) or 'nothing'}.{guess}"


def fitting_options(dataroot: Path, phase: str) -> str:
    """Return a sentence with the options that would read the images of the data folder."""
    names = (phase, f"{phase}A", f"{phase}B")
    paired, has_A, has_B = ((dataroot / name).is_dir() and bool(make_dataset(dataroot / name)) for name in names)
    if paired:
        return f" {dataroot / phase} looks like paired data: type --model pix2pix or --dataset_mode aligned."
    if has_A and has_B:
        return f" {phase}A and {phase}B look like unpaired data: type --model cycle_gan or --dataset_mode unaligned."
    if dataroot.name in names:
        return f" Type --dataroot {dataroot.parent}: {dataroot.name} is added to it."
    if dataroot.is_dir() and any(is_image_file(entry.name) for entry in dataroot.iterdir()):
        return f" For the images in {dataroot} itself type --model test or --dataset_mode single."
    return ""


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
