"""Images to translate, without targets."""

from __future__ import annotations

from data.base_dataset import BaseDataset, check_channels, get_transform, naming
from data.image_folder import find_images


class SingleDataset(BaseDataset):
    """All images of the data folder itself, for `--model test`."""

    def __init__(self, opt):
        super().__init__(opt)
        self.A_paths = find_images(opt.dataroot, opt.max_dataset_size)
        self.check_first(self.A_paths)
        # In either direction these images are the network's input.
        check_channels(opt.input_nc, "--input_nc")
        self.grey = opt.input_nc == 1
        self.transform = get_transform(opt, grayscale=self.grey)
        self.image_count = len(self.A_paths)

    @staticmethod
    def is_paired():
        return False

    def __getitem__(self, index):
        """Return an image A (C, H, W) in [-1, 1] and its path."""
        path = self.A_paths[index]
        A = self.read_image(path)
        with naming(path):
            A = self.transform(A)
        return {"A": A, "A_paths": path}

    def byte_item(self, index, reader) -> dict:
        """Return the item as bytes, see ByteReader."""
        path = self.A_paths[index]
        return reader.item({"A": reader.image(index, path, self.grey)}, A_paths=path)

    def __len__(self):
        return len(self.A_paths)
