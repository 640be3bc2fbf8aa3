"""Two collections of images without pairs."""

from __future__ import annotations

import random
from pathlib import Path

from data.base_dataset import BaseDataset, about, check_channels, get_transform
from data.formats import pillow
from data.image_folder import find_images


class UnalignedDataset(BaseDataset):
    """Images of domain A in `<phase>A/` and of domain B in `<phase>B/`, each cropped and flipped on its own."""

    def __init__(self, opt):
        super().__init__(opt)
        self.dir_A, self.dir_B = (str(Path(opt.dataroot, opt.phase + side)) for side in ("A", "B"))
        self.A_paths = find_images(self.dir_A, opt.max_dataset_size, opt.phase)
        self.B_paths = find_images(self.dir_B, opt.max_dataset_size, opt.phase)
        self.A_size = len(self.A_paths)
        self.B_size = len(self.B_paths)
        check_channels(opt.input_nc, "--input_nc")
        check_channels(opt.output_nc, "--output_nc")
        # The model swaps A and B for BtoA, so the channels of its input belong to the dataset's B then.
        swap = opt.direction == "BtoA"
        self.grey_A = (opt.output_nc if swap else opt.input_nc) == 1
        self.grey_B = (opt.input_nc if swap else opt.output_nc) == 1
        self.transform_A = get_transform(opt, grayscale=self.grey_A)
        self.transform_B = get_transform(opt, grayscale=self.grey_B)
        self.image_count = self.A_size + self.B_size

    def __getitem__(self, index):
        """Return an A and a B (C, H, W) in [-1, 1] and their paths; B is a random one, unless `--serial_batches`."""
        index_A, index_B = index % self.A_size, index % self.B_size
        if not self.opt.serial_batches:  # so that no A always meets the same B
            index_B = random.randint(0, self.B_size - 1)
        A_path, B_path = self.A_paths[index_A], self.B_paths[index_B]
        if self.byte_reader:
            A = self.byte_reader.image(index_A, A_path, self.grey_A)
            B = self.byte_reader.image(self.A_size + index_B, B_path, self.grey_B)
            return self.byte_reader.item({"A": A, "B": B}, A_paths=A_path, B_paths=B_path)
        A, B = pillow.load(A_path), pillow.load(B_path)
        with about(A_path):
            A = self.transform_A(A)
        with about(B_path):
            B = self.transform_B(B)
        return {"A": A, "B": B, "A_paths": A_path, "B_paths": B_path}

    def __len__(self):
        """Return the size of the larger domain; the smaller one is gone through more than once."""
        return max(self.A_size, self.B_size)
