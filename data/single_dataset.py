"""Images to translate, without targets."""

from __future__ import annotations

from data.base_dataset import BaseDataset, about, check_channels, get_transform
from data.formats import pillow
from data.image_folder import find_images


class SingleDataset(BaseDataset):
    """All images of the data folder itself, for `--model test`."""

    def __init__(self, opt):
        super().__init__(opt)
        self.A_paths = find_images(opt.dataroot, opt.max_dataset_size)
        # Whatever the direction, these images are what the network reads, with the channels of its input.
        check_channels(opt.input_nc, "--input_nc")
        self.grey = opt.input_nc == 1
        self.transform = get_transform(opt, grayscale=self.grey)
        self.image_count = len(self.A_paths)

    def __getitem__(self, index):
        """Return an image A (C, H, W) in [-1, 1] and its path."""
        path = self.A_paths[index]
        if self.byte_reader:
            return self.byte_reader.item({"A": self.byte_reader.image(index, path, self.grey)}, A_paths=path)
        A = pillow.load(path)
        with about(path):
            A = self.transform(A)
        return {"A": A, "A_paths": path}

    def __len__(self):
        return len(self.A_paths)
