"""A dataset to copy: sharp pictures and blurred ones.

Copy this file to data/NAME_dataset.py, call the class NAMEDataset (capitals and underscores don't matter), and type
`--dataset_mode NAME`. This one runs as it is, on the pictures of any `<phase>/` folder:

    python train.py --dataroot ./datasets/facades --name sharpen --model template --dataset_mode template
"""

from __future__ import annotations

from pathlib import Path

from torch.nn import functional as F

from data.base_dataset import BaseDataset, about, get_transform
from data.formats import pillow
from data.image_folder import find_images
from util.errors import UserError


class TemplateDataset(BaseDataset):
    """Pictures of `<phase>/` as B, and as A the same pictures blurred."""

    @staticmethod
    def modify_commandline_options(parser, is_train):
        """Add an option of your own, and change defaults: what the user types wins over both."""
        parser.add_argument("--new_dataset_option", type=float, default=1.0, help="blur: how many times A is shrunk")
        parser.set_defaults(max_dataset_size=10, new_dataset_option=2.0)
        return parser

    def __init__(self, opt):
        """List the files here; read them in __getitem__, which several processes call at once."""
        super().__init__(opt)  # keeps opt and self.root
        if not opt.new_dataset_option >= 1:  # say what could not work before training begins, and what would
            raise UserError(f"--new_dataset_option {opt.new_dataset_option}: at least 1 is needed.")
        if (opt.input_nc, opt.output_nc) != (3, 3):
            raise UserError("--dataset_mode template makes colour images: it needs --input_nc 3 --output_nc 3.")
        self.image_paths = find_images(Path(self.root, opt.phase), opt.max_dataset_size)
        self.transform = get_transform(opt)  # what --preprocess and --no_flip say, to a tensor in [-1, 1]

    def __getitem__(self, index):
        """Return one item: a dictionary of tensors (C, H, W), strings and numbers, of which batches are made.

        Draw at random as you like (random, numpy.random, torch): each item is seeded by (seed, epoch, index).
        """
        path = self.image_paths[index]
        B = pillow.load(path)
        with about(path):  # errors begin with the path
            B = self.transform(B)  # (3, H, W)
        height, width = B.shape[1:]
        small = [max(1, round(side / self.opt.new_dataset_option)) for side in (height, width)]
        A = F.interpolate(B[None], small, mode="bilinear", antialias=True)
        A = F.interpolate(A, (height, width), mode="bilinear")[0]
        item = {"data_A": A, "data_B": B, "path": path}  # name them as your model's set_input reads them
        return {**item, "A": A, "B": B, "A_paths": path, "B_paths": path}  # and so the shipped models do

    def __len__(self):
        """Return how many items there are."""
        return len(self.image_paths)
