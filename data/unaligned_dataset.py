"""Two collections of images without pairs."""

from __future__ import annotations

import random
from pathlib import Path

from data.base_dataset import BaseDataset, naming
from data.image_folder import find_images
from data.sides import create_sides
from data.slices import as_slices, read_slices


class UnalignedDataset(BaseDataset):
    """Images of domain A in `<phase>A/` and of domain B in `<phase>B/`, each cropped and flipped on its own."""

    def __init__(self, opt):
        super().__init__(opt)
        self.dir_A, self.dir_B = (str(Path(opt.dataroot, opt.phase + side)) for side in ("A", "B"))
        slices = read_slices(opt)
        self.A_paths, self.B_paths = (
            as_slices(find_images(folder, opt.max_dataset_size), slices) for folder in (self.dir_A, self.dir_B)
        )
        self.A_size = len(self.A_paths)
        self.B_size = len(self.B_paths)
        self.sides = create_sides(self, {"A": self.A_paths, "B": self.B_paths})
        self.transform_A, self.transform_B = (self.sides[letter].transform for letter in "AB")
        self.image_count = self.A_size + self.B_size

    @staticmethod
    def is_paired():
        return False

    def indices(self, index: int) -> tuple[int, int]:
        """Return the indices of the item's A and B; B is random unless `--serial_batches`, so that partners vary."""
        return index % self.A_size, (
            index % self.B_size if self.opt.serial_batches else random.randint(0, self.B_size - 1)
        )

    def __getitem__(self, index):
        """Return an A and a B (C, H, W) in [-1, 1] and their paths."""
        index_A, index_B = self.indices(index)
        A_path, B_path = self.A_paths[index_A], self.B_paths[index_B]
        A, B = self.sides["A"].read(A_path), self.sides["B"].read(B_path)
        with naming(A_path):
            A = self.transform_A(A)
        with naming(B_path):
            B = self.transform_B(B)
        return {"A": A, "B": B, "A_paths": A_path, "B_paths": B_path}

    def byte_item(self, index, reader) -> dict:
        """Return the item as bytes, see ByteReader."""
        index_A, index_B = self.indices(index)
        A_path, B_path = self.A_paths[index_A], self.B_paths[index_B]
        A = reader.image(index_A, A_path, self.sides["A"].channels == 1)
        B = reader.image(self.A_size + index_B, B_path, self.sides["B"].channels == 1)
        return reader.item({"A": A, "B": B}, A_paths=A_path, B_paths=B_path)

    def __len__(self):
        """Return the size of the larger domain; images of the smaller one appear more than once."""
        return max(self.A_size, self.B_size)
