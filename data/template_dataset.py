"""A dataset to copy: sharp pictures and blurred ones.

Copy this file to data/NAME_dataset.py, call the class NAMEDataset (capitals and underscores don't matter), and type
`--dataset_mode NAME`. This one runs as it is, on the pictures of any `<phase>/` folder:

    python train.py --dataroot ./datasets/facades --name sharpen --model template --dataset_mode template
"""

from __future__ import annotations

from pathlib import Path

from torch.nn import functional as F

from data.base_dataset import BaseDataset, get_transform, naming
from data.image_folder import find_images
from util.errors import UserError


class TemplateDataset(BaseDataset):
    """Pictures of `<phase>/` as B, and as A the same pictures blurred."""

    @staticmethod
    def modify_commandline_options(parser, is_train):
        """Add an option, and change defaults; both lose against what the user types."""
        parser.add_argument("--new_dataset_option", type=float, default=1.0, help="blur: A is shrunk by this factor")
        parser.set_defaults(max_dataset_size=10, new_dataset_option=2.0)
        return parser

    @staticmethod
    def is_paired():
        """Return True if B is the target of A, or False if the two are independent collections.

        Without this method the project does not know, and measures no pairs unless a metric of pairs is named.
        """
        return True

    def __init__(self, opt):
        """List the files here; read them in __getitem__, which several workers call at once."""
        super().__init__(opt)  # keeps opt and self.root
        if not opt.new_dataset_option >= 1:  # refuse before training what cannot work
            raise UserError(f"--new_dataset_option {opt.new_dataset_option}: at least 1 is needed.")
        if (opt.input_nc, opt.output_nc) != (3, 3):
            raise UserError("--dataset_mode template makes colour images: it needs --input_nc 3 --output_nc 3.")
        self.image_paths = find_images(Path(self.root, opt.phase), opt.max_dataset_size)
        self.check_first(self.image_paths)
        self.transform = get_transform(opt)  # --preprocess, --no_flip, then a tensor in [-1, 1]

    def __getitem__(self, index):
        """Return one item: a dictionary of tensors (C, H, W), strings and numbers, from which batches are made.

        Random draws (random, numpy.random, torch) are seeded for each item by (seed, epoch, index).
        """
        path = self.image_paths[index]
        B = self.read_image(path)
        with naming(path):  # errors begin with the path
            B = self.transform(B)  # (3, H, W)
        height, width = B.shape[1:]
        small = [max(1, round(side / self.opt.new_dataset_option)) for side in (height, width)]
        A = F.interpolate(B[None], small, mode="bilinear", antialias=True)
        A = F.interpolate(A, (height, width), mode="bilinear")[0]
        item = {"data_A": A, "data_B": B, "path": path}  # the names that your model's set_input reads
        return {**item, "A": A, "B": B, "A_paths": path, "B_paths": path}  # and those of the built-in models

    def __len__(self):
        """Return the number of items."""
        return len(self.image_paths)
