"""Photos, split into lightness and colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from data.base_dataset import BaseDataset, get_transform, naming
from data.image_folder import find_images
from util.errors import UserError


class ColorizationDataset(BaseDataset):
    """Colour photos of `<phase>/` in Lab space: A is the lightness L, B the colours ab."""

    @staticmethod
    def modify_commandline_options(parser, is_train):
        """One channel in (L), two out (ab)."""
        parser.set_defaults(input_nc=1, output_nc=2, direction="AtoB")
        return parser

    @staticmethod
    def is_paired():
        return True

    def __init__(self, opt):
        super().__init__(opt)
        got = (opt.input_nc, opt.output_nc, opt.direction)
        if got != (1, 2, "AtoB"):
            raise UserError(
                "--dataset_mode colorization goes from L to ab: it needs --input_nc 1 --output_nc 2 --direction AtoB, "
                f"not {got[0]}, {got[1]} and {got[2]}."
            )
        try:
            from skimage.color import rgb2lab
        except ImportError as error:
            raise UserError(f"colorization needs scikit-image ({error}): type pip install scikit-image.") from error
        self.rgb2lab = rgb2lab
        self.dir = str(Path(opt.dataroot, opt.phase))
        self.AB_paths = find_images(self.dir, opt.max_dataset_size)
        self.check_first(self.AB_paths)
        self.transform = get_transform(opt, convert=False)

    def __getitem__(self, index):
        """Return A = L/50 - 1 (1, H, W), B = ab/110 (2, H, W), both about [-1, 1], and the path twice."""
        path = self.AB_paths[index]
        image = self.read_image(path)
        with naming(path):
            image = self.transform(image)
        lab = self.rgb2lab(np.array(image)).astype(np.float32)  # (H, W, 3): L 0..100, a and b about -110..110
        lab = torch.from_numpy(lab.transpose(2, 0, 1).copy())
        return {"A": lab[:1] / 50 - 1, "B": lab[1:] / 110, "A_paths": path, "B_paths": path}

    def __len__(self):
        return len(self.AB_paths)
