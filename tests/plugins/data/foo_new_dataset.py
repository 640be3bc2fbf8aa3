# ruff: noqa
# fmt: off
"""Written as for the reference since August 2025; kept in its author's style."""
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from data.base_dataset import BaseDataset, get_transform
from data.image_folder import make_dataset


class FooNewDataset(BaseDataset):
    @staticmethod
    def modify_commandline_options(parser, is_train):
        parser.add_argument("--noise", type=float, default=0.1, help="standard deviation of the noise on A")
        return parser

    def __init__(self, opt):
        BaseDataset.__init__(self, opt)
        self.paths = make_dataset(str(Path(opt.dataroot) / opt.phase), opt.max_dataset_size)
        self.transform = get_transform(opt, grayscale=(opt.input_nc == 1))
        self.gray = get_transform(opt, convert=False)

    def __getitem__(self, index):
        path = self.paths[index]
        image = Image.open(path).convert("RGB")
        data_B = self.transform(image)
        noise = torch.from_numpy(np.random.randn(*data_B.shape).astype("float32"))
        return {"data_A": data_B + self.opt.noise * noise, "data_B": data_B, "path": path, "shape": np.array(self.gray(image)).shape}

    def __len__(self):
        return len(self.paths)
