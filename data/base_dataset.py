"""The contract of every dataset, and transforms chosen by the options."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from types import FunctionType
from typing import TYPE_CHECKING

import torch.utils.data
from PIL import Image

from data import transforms
from data.formats import pillow
from util.errors import UserError, printable
from util.runtime.run_facts import run_facts

if TYPE_CHECKING:
    from torchvision.transforms import Compose


class BaseDataset(torch.utils.data.Dataset, ABC):
    """A dataset that `--dataset_mode` can name. It needs `__len__` and `__getitem__`; everything else is optional."""

    def __init__(self, opt):
        """Keep the options and the data folder."""
        self.opt = opt
        self.root = opt.dataroot

    @staticmethod
    def modify_commandline_options(parser, is_train):
        """Add this dataset's options to `parser`, change defaults, and return it."""
        return parser

    @staticmethod
    def is_paired() -> bool | None:
        """Return True if B is the target of A, False if A and B do not belong together, None if that is unknown."""
        return None

    def __init_subclass__(cls, **keywords):
        """Forget the parent's answer to `is_paired` where a subclass makes its own items and gives no answer."""
        super().__init_subclass__(**keywords)
        places = {name: [name in vars(c) for c in cls.__mro__].index(True) for name in ("__getitem__", "is_paired")}
        if places["__getitem__"] < places["is_paired"]:
            cls.is_paired = staticmethod(BaseDataset.is_paired)
        elif isinstance(vars(cls).get("is_paired"), FunctionType):  # takes self; options ask the class
            cls.is_paired = classmethod(vars(cls)["is_paired"])

    @property
    def as_before(self) -> bool:
        """Whether the run began in a version that did not apply EXIF's orientation; it then stays so."""
        return not run_facts(self.opt).saved.get("exif_orientation", True)

    def check_first(self, *lists: list[str]) -> None:
        """Raise UserError if the first images of a list have values that `read_image` cannot scale rightly."""
        for paths in lists:
            pillow.check_first(paths, self.as_before)

    def read_image(self, path: str) -> Image.Image:
        """Read an image as 8-bit RGB, as this run reads them."""
        return pillow.load(path, self.as_before)

    @abstractmethod
    def __len__(self):
        """Return the number of items."""

    @abstractmethod
    def __getitem__(self, index):
        """Return a dictionary of tensors (C, H, W) and paths. The loader seeds random draws for each item."""


def get_params(opt, size: tuple[int, int]) -> dict:
    """Draw one crop and one flip for images of `size` (width, height): {"crop_pos": (x, y), "flip": bool}."""
    return transforms.draw_params(opt.preprocess, opt.load_size, opt.crop_size, size)


def get_transform(opt, params=None, grayscale=False, method=Image.Resampling.BICUBIC, convert=True) -> Compose:
    """Build the transform that `--preprocess` asks for, with its own random crop and flip or those of `params`.

    It turns a PIL image into a float tensor (C, H, W) in [-1, 1], or without `convert` into a PIL image.
    """
    return transforms.build(
        opt.preprocess, opt.load_size, opt.crop_size, not opt.no_flip, params, grayscale, method, convert
    )


@contextlib.contextmanager
def naming(path: str):
    """Put the file's path in front of a UserError that the body raises."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{printable(path)}: {error}") from error
