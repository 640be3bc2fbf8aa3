"""Results of test.py as files with the values, type and geometry of the data, beside the pictures of the page."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from data import formats
from data.formats.info import Info
from data.sides import Side, describe
from data.slices import locate
from util.runtime.run_facts import run_facts


class Outputs:
    """Write the images of sides that are no photos of 8 bits; for others nothing is left to do."""

    def __init__(self, folder: Path, opt, dataset):
        self.folder, self.direction = folder, opt.direction
        self.sides = dict(getattr(dataset, "sides", {}))
        for letter, saved in run_facts(opt).saved.get("sides", {}).items():
            if letter not in self.sides:  # the target of images without one
                self.sides[letter] = Side(letter, opt, None, saved)
        self.volumes: dict[str, tuple] = {}  # label -> (file, slices, numbers of those that have come)
        self.deep = any(not side.is_photo for side in self.sides.values())

    def viewable(self, visuals: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return visuals (N, C, H, W) for the page: label maps as colours, of several slices the middle one."""
        return {label: self._viewable(label, images) for label, images in visuals.items()} if self.deep else visuals

    def _viewable(self, label: str, images: torch.Tensor) -> torch.Tensor:
        side = self.sides.get(self.letters(label)[0])
        if side is None or side.is_photo or not isinstance(images, torch.Tensor):
            return images
        if side.labels:
            colors = torch.tensor(side.labels.palette(), device=images.device)
            return ((colors[images.argmax(dim=1)] + 0.5) / 127.5 - 1).permute(0, 3, 1, 2)  # pages truncate
        return side.middle_slice(images)

    def write(self, visuals: dict[str, torch.Tensor], batch: dict, names: list[str]) -> None:
        """Write a batch's images as `<name>_<label>` with a suffix that holds them, and volumes once they are whole."""
        for label, images in visuals.items() if self.deep else ():
            letter, source = self.letters(label)
            side = self.sides.get(letter)
            if side is None or side.is_photo or not isinstance(images, torch.Tensor):
                continue
            paths = batch.get(f"{source}_paths", batch["A_paths"])
            for image, path, name in zip(images, paths, names, strict=False):
                values, info = side.to_values(image), describe(path)
                info = like(info, values, side)
                if info.slices > 1:
                    self._add_slice(label, path, values, info)
                else:
                    formats.write(self.folder / f"{name}_{label}{suffix_for(path, info)}", values[None], info)

    def _add_slice(self, label: str, path: str, values: np.ndarray, info: Info) -> None:
        """Keep a slice of a volume on disk; write the volume when its last one has come."""
        file, _, index = locate(path)
        if self.volumes.get(label, ("",))[0] != file:
            self.folder.mkdir(parents=True, exist_ok=True)
            shape = (info.slices, *values.shape)
            room = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - closed with the array
            self.volumes[label] = (file, np.memmap(room, values.dtype, "w+", shape=shape), set())
        _, volume, known = self.volumes[label]
        volume[index] = values
        known.add(index)
        if len(known) == info.slices:
            target = self.folder / f"{formats.stem(file)}_{label}{suffix_for(file, info)}"
            formats.write(target, volume, info)
            del self.volumes[label]

    def letters(self, label: str) -> tuple[str, str]:
        """Return the dataset's side of a visual, such as fake_B, and the side of the image that it was made from.

        A model of one direction has real and fake.
        """
        swap = {"A": "B", "B": "A"}
        own = {"real": "A", "fake": "B"}.get(label, label[-1:])
        own = swap.get(own, "") if self.direction == "BtoA" else own
        return own, swap.get(own, "") if label.startswith("fake") else own


def like(info: Info, values: np.ndarray, side: Side) -> Info:
    """Return the facts of a result, (H, W, C), of an image: its geometry holds if its size is the image's."""
    height, width, channels = values.shape
    result = info.with_values(height=height, width=width, channels=channels, dtype=values.dtype, alpha=side.alpha)
    if (height, width) == (info.height, info.width):
        return result
    return result.with_values(spacing=(), affine=(), header=info.header if info.format == "dicom" else None)


def suffix_for(path: str, info: Info) -> str:
    """Return the suffix of a result: the image's own where that kind of file can hold it, else .tif."""
    suffix = Path(path).suffix.lower()
    if info.format == "dicom" and info.channels in (1, 3):
        return ".dcm" if len(info.header) == 1 else ""  # a series is a folder
    if info.format == "volumes":
        return next(known for known in formats.SUFFIXES if path.lower().endswith(known))
    if info.format == "arrays":
        return suffix
    return (
        ".png"
        if info.dtype in (np.uint8, np.uint16) and (info.channels in (1, 3) or info.alpha) and suffix != ".tif"
        else ".tif"
    )
