"""pix2pix that colours black and white photographs: L -> ab in the Lab colour space (pix2pix paper, section 4)."""

from __future__ import annotations

import numpy as np
import torch

from models.pix2pix_model import Pix2PixModel


class ColorizationModel(Pix2PixModel):
    """pix2pix with other images: A is the lightness L, B the colours ab."""

    captured_inputs = Pix2PixModel.captured_inputs

    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        parser = Pix2PixModel.modify_commandline_options(parser, is_train)
        parser.set_defaults(dataset_mode="colorization")
        return parser

    def __init__(self, opt):
        Pix2PixModel.__init__(self, opt)
        self.visual_names = ["real_A", "real_B_rgb", "fake_B_rgb"]

    def lab2rgb(self, L, AB):
        """Turn L (N, 1, H, W) and ab (N, 2, H, W), both in [-1, 1], into the first image's RGB (H, W, 3), 0 to 255."""
        from skimage import color

        lab = torch.cat([(L[0] + 1) * 50, AB[0] * 110])  # (3, H, W)
        lab = lab.detach().float().cpu().numpy().astype(np.float64).transpose(1, 2, 0)
        return color.lab2rgb(lab) * 255

    def compute_visuals(self):
        self.real_B_rgb = self.lab2rgb(self.real_A, self.real_B)
        self.fake_B_rgb = self.lab2rgb(self.real_A, self.fake_B)
