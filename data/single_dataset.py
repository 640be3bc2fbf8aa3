"""Images to translate, without targets."""

from __future__ import annotations

from data import image_io
from data.base_dataset import BaseDataset, about, get_transform, is_grey
from data.image_folder import find_images


class SingleDataset(BaseDataset):
    """All images of the data folder itself, for `--model test`."""

    def __init__(self, opt):
        super().__init__(opt)
        self.A_paths = find_images(opt.dataroot, opt.max_dataset_size)
        # Whatever the direction, these images are what the network reads.
        self.transform = get_transform(opt, grayscale=is_grey(opt.input_nc, "--input_nc"))

    def __getitem__(self, index):
        """Return an image A (C, H, W) in [-1, 1] and its path."""
        path = self.A_paths[index]
        with about(path):
            A = self.transform(image_io.load(path))
        return {"A": A, "A_paths": path}

    def __len__(self):
        return len(self.A_paths)
