"""Find a dataset by its name, and create it with its loader.

`--dataset_mode foo_bar` names the class FooBarDataset (in any case) of data/foo_bar_dataset.py: a subclass of
BaseDataset with `__len__` and `__getitem__`. Nothing else has to be changed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from util.runtime.plugins import find_class

if TYPE_CHECKING:
    from data.base_dataset import BaseDataset
    from data.loading.loader import CustomDatasetDataLoader

BUILT_IN = ("aligned", "unaligned", "single", "colorization", "template")


def __getattr__(name: str):
    """Import a class that plug-ins ask for. It needs torch, which scripts that only read images do without."""
    modules = {"BaseDataset": "data.base_dataset", "CustomDatasetDataLoader": "data.loading.loader"}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(modules[name]), name)


def find_dataset_using_name(dataset_name: str, is_train: bool = False) -> type[BaseDataset]:
    """Return the class that `--dataset_mode dataset_name` names."""
    from data.base_dataset import BaseDataset

    return find_class("data", dataset_name, BaseDataset, is_train)


def get_option_setter(dataset_name: str, is_train: bool = False):
    """Return the function by which a dataset adds its options."""
    return find_dataset_using_name(dataset_name, is_train).modify_commandline_options


def create_dataset(opt, shared: bool = True) -> CustomDatasetDataLoader:
    """Create the dataset that `opt.dataset_mode` names, and its loader.

    The processes of torchrun share the images, or without `shared` each loads all of them.
    """
    from data.loading.loader import CustomDatasetDataLoader

    return CustomDatasetDataLoader(opt, shared)
