"""The names of the reference's util.util: tensors to images, folders, statistics, torchrun."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from util.runtime import processes
from util.runtime.device import choose_device


def tensor2im(input_image, imtype=np.uint8):
    """Convert the first image of a batch to an array (H, W, C) of `imtype`, 0 to 255.

    A tensor (N, C, H, W) in [-1, 1] is clamped and truncated; one channel becomes three. An array is only cast;
    any other value is returned as it is.
    """
    if isinstance(input_image, np.ndarray):
        return input_image.astype(imtype)
    if not isinstance(input_image, torch.Tensor):
        return input_image
    image = input_image.detach()[0].float().cpu()  # (C, H, W)
    if image.shape[0] == 1:
        image = image.expand(3, -1, -1)
    image = (image + 1) / 2 * 255
    return image.clamp(0, 255).permute(1, 2, 0).numpy().astype(imtype)


def save_image(image_numpy, image_path, aspect_ratio=1.0):
    """Write an array (H, W, C) or (H, W) as an image; `aspect_ratio` r > 1 makes it taller, < 1 wider."""
    image = Image.fromarray(np.squeeze(image_numpy, axis=2) if image_numpy.shape[2:] == (1,) else image_numpy)
    if aspect_ratio > 1.0:
        image = image.resize((image.width, int(image.height * aspect_ratio)), Image.Resampling.BICUBIC)
    elif aspect_ratio < 1.0:
        image = image.resize((int(image.width / aspect_ratio), image.height), Image.Resampling.BICUBIC)
    image.save(image_path)


def diagnose_network(net, name="network"):
    """Print the mean absolute gradient over the parameters of `net`."""
    grads = [p.grad.abs().mean() for p in net.parameters() if p.grad is not None]
    print(name)
    print(float(torch.stack(grads).mean()) if grads else 0.0)


def print_numpy(x, val=True, shp=False):
    """Print shape and statistics of an array."""
    x = np.asarray(x, dtype=np.float64)
    if shp:
        print("shape,", x.shape)
    if val:
        x = x.flatten()
        print(
            f"mean = {x.mean():3.3f}, min = {x.min():3.3f}, max = {x.max():3.3f}, "
            f"median = {np.median(x):3.3f}, std={x.std():3.3f}"
        )


def mkdirs(paths):
    """Make one folder or a list of them, parents included."""
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        mkdir(path)


def mkdir(path):
    """Make a folder, parents included; one that exists is fine."""
    Path(path).mkdir(parents=True, exist_ok=True)


def init_ddp():
    """Start torchrun's process group and return this process's device."""
    processes.start_processes()
    return choose_device()


def cleanup_ddp():
    """End torchrun's process group, if there is one."""
    processes.stop_processes()
