"""Images to translate, without targets."""

from __future__ import annotations

from data.base_dataset import BaseDataset, naming
from data.image_folder import find_images
from data.sides import create_sides
from data.slices import as_slices, read_slices


class SingleDataset(BaseDataset):
    """All images of the data folder itself, for `--model test`."""

    def __init__(self, opt):
        super().__init__(opt)
        self.A_paths = as_slices(find_images(opt.dataroot, opt.max_dataset_size), read_slices(opt))
        # In either direction these images are the network's input.
        letter = "B" if opt.direction == "BtoA" else "A"
        self.sides = create_sides(self, {letter: self.A_paths})
        self.side = self.sides[letter]
        self.transform = self.side.transform
        self.image_count = len(self.A_paths)

    @staticmethod
    def is_paired():
        return False

    def __getitem__(self, index):
        """Return an image A (C, H, W) in [-1, 1] and its path."""
        path = self.A_paths[index]
        A = self.side.read(path)
        with naming(path):
            A = self.transform(A)
        return {"A": A, "A_paths": path}

    def byte_item(self, index, reader) -> dict:
        """Return the item as bytes, see ByteReader."""
        path = self.A_paths[index]
        return reader.item({"A": reader.image(index, path, self.side.channels == 1)}, A_paths=path)

    def __len__(self):
        return len(self.A_paths)
