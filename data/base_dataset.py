"""What every dataset shares: the contract, and transforms chosen by the options."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod

import torch.utils.data
from PIL import Image

from data import transforms
from util.errors import UserError, printable


class BaseDataset(torch.utils.data.Dataset, ABC):
    """A dataset that `--dataset_mode` can name. It needs `__len__` and `__getitem__`; everything else is optional."""

    byte_reader = None  # the loader gives one to built-in data sets, for --fast and --cache

    def __init__(self, opt):
        """Keep the options and the data folder."""
        self.opt = opt
        self.root = opt.dataroot

    @staticmethod
    def modify_commandline_options(parser, is_train):
        """Add this dataset's options to `parser`, change defaults, and return it."""
        return parser

    @abstractmethod
    def __len__(self):
        """Return how many items there are."""

    @abstractmethod
    def __getitem__(self, index):
        """Return a dictionary of tensors (C, H, W) and paths. Random draws are seeded for each item from outside."""


def get_params(opt, size: tuple[int, int]) -> dict:
    """Draw one crop and one flip for images of `size` (width, height): {"crop_pos": (x, y), "flip": bool}."""
    return transforms.draw_params(opt.preprocess, opt.load_size, opt.crop_size, size)


def get_transform(opt, params=None, grayscale=False, method=Image.Resampling.BICUBIC, convert=True):
    """Build the torchvision Compose for `--preprocess`, with its own random crop and flip or those of `params`.

    PIL image to float tensor (C, H, W) in [-1, 1], or to PIL image without `convert`.
    """
    return transforms.build(
        opt.preprocess, opt.load_size, opt.crop_size, not opt.no_flip, params, grayscale, method, convert
    )


def check_channels(channels: int, option: str) -> None:
    """Raise UserError for a number of channels that images are not loaded with."""
    if channels not in (1, 3):
        raise UserError(
            f"{option} {channels}: images are loaded as 8-bit RGB (3) or grey (1). "
            "Other channels need a dataset of your own: copy data/template_dataset.py."
        )


@contextlib.contextmanager
def about(path: str):
    """Begin a UserError raised in the body with the file that it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{printable(path)}: {error}") from error
