"""Options for tests of the data package, as the command line would give them."""

from __future__ import annotations

import math
from argparse import Namespace

import numpy as np
import torch

from data import create_dataset


def data_options(dataroot, dataset_mode="aligned", **changes) -> Namespace:
    """Return the options that datasets and loaders read: small sizes, no workers, `changes` on top."""
    options = {
        "dataroot": str(dataroot),
        "dataset_mode": dataset_mode,
        "isTrain": True,
        "phase": "train",
        "direction": "AtoB",
        "input_nc": 3,
        "output_nc": 3,
        "preprocess": "resize_and_crop",
        "load_size": 40,
        "crop_size": 32,
        "no_flip": False,
        "serial_batches": False,
        "batch_size": 1,
        "num_threads": 0,
        "max_dataset_size": math.inf,
        "value_range": None,
        "labels": None,
        "slices": "",
        "stack_A": "",
        "seed": 0,
        "device": torch.device("cpu"),
        "new_dataset_option": 2.0,
    }
    return Namespace(**{**options, **changes})


def epochs(opt, count=2):
    """Return the batches of the first epochs."""
    return load(create_dataset(opt), count)


def load(loader, count=2):
    """Return the batches of a loader's first epochs."""
    batches = []
    for epoch in range(count):
        loader.set_epoch(epoch)
        batches += list(loader)
    return batches


def to_floats(pixels) -> torch.Tensor:
    """Turn bytes (H, W[, C]) into (C, H, W) in [-1, 1]."""
    pixels = np.atleast_3d(np.asarray(pixels)).astype(np.float32)
    return torch.from_numpy((pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.5)
