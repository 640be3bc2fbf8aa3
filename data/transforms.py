"""Resizing, cropping and flipping: one random draw, applied alike to A and B. Sizes are (width, height), as in PIL."""

from __future__ import annotations

import math
import random
from functools import partial
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageOps
from torch.nn import functional as F

from util.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torchvision.transforms import Compose, InterpolationMode

# The values of --preprocess. `build` looks for the words resize, scale_width and crop in them.
PREPROCESS = {
    "resize_and_crop": "resize to a load_size square, then cut out a random crop_size square",
    "crop": "cut out a random crop_size square, without resizing",
    "scale_width": "resize to load_size wide, keeping the ratio (but at least crop_size high)",
    "scale_width_and_crop": "the same, then cut out a random crop_size square",
    "resize": "resize to a load_size square",
    "none": "keep every pixel: no resizing, no cropping",
}

MOST_PIXELS = 178_956_970  # of a resized image: as many as Pillow reads from a file


def check(preprocess: str, load_size: int, crop_size: int) -> None:
    """Raise UserError for an unknown `preprocess`, or for sizes that do not fit it."""
    if preprocess not in PREPROCESS:
        guess = did_you_mean(preprocess, PREPROCESS)
        raise UserError(f"--preprocess {preprocess} is unknown.{guess} Allowed: {', '.join(PREPROCESS)}.")
    most = math.isqrt(MOST_PIXELS) if "resize" in preprocess else MOST_PIXELS
    for name, side in (("crop_size", crop_size), ("load_size", load_size)):
        if side > most:
            raise UserError(f"--{name} {side}: at most {most} is possible.")
    resizes = "resize" in preprocess or "scale_width" in preprocess
    if resizes and "crop" in preprocess and load_size < crop_size:
        raise UserError(
            f"--load_size {load_size} is smaller than --crop_size {crop_size}: --preprocess {preprocess} resizes to "
            f"load_size and then crops to crop_size. Type --load_size {crop_size} or --crop_size {load_size}."
        )


def draw_params(preprocess: str, load_size: int, crop_size: int, size: tuple[int, int]) -> dict:
    """Draw where to crop an image of `size`, and whether to flip it, from Python's random: x, then y, then the flip.

    All three are always drawn, so that later draws do not depend on `preprocess`.
    """
    width, height = size
    if preprocess == "resize_and_crop":
        width = height = load_size
    elif preprocess == "scale_width_and_crop":
        width, height = load_size, load_size * height // width
    x = random.randint(0, max(0, width - crop_size))
    y = random.randint(0, max(0, height - crop_size))
    return {"crop_pos": (x, y), "flip": random.random() > 0.5}


def build(
    preprocess: str,
    load_size: int,
    crop_size: int,
    flip: bool = True,
    params: dict | None = None,
    grayscale: bool = False,
    method: InterpolationMode | Image.Resampling | int = Image.Resampling.BICUBIC,
    convert: bool = True,
) -> Compose:
    """Build a transform of PIL images: grey, resize, crop, flip, and (with `convert`) a float tensor in [-1, 1].

    Without `params` (see `draw_params`) crop and flip are drawn from torch's generator at each call. `method` is an
    interpolation mode of torchvision or PIL. All steps can be pickled, for workers that are spawned.
    """
    from torchvision import transforms as T  # slow to import, and not needed to parse options

    check(preprocess, load_size, crop_size)
    steps = [T.Grayscale(1)] if grayscale else []
    if "resize" in preprocess:
        steps.append(T.Resize([load_size, load_size], method))
    elif "scale_width" in preprocess:
        steps.append(partial(scale_width, load_size=load_size, crop_size=crop_size, method=method))
    if "crop" in preprocess:
        steps.append(partial(check_fits, crop_size=crop_size))
        steps.append(T.RandomCrop(crop_size) if params is None else partial(crop, params["crop_pos"], crop_size))
    if flip and params is None:
        steps.append(T.RandomHorizontalFlip())
    elif flip and params["flip"]:
        steps.append(ImageOps.mirror)
    if convert:
        steps += [T.ToTensor(), T.Normalize((0.5,), (0.5,))]
    return T.Compose(steps)


def transform_array(
    image: torch.Tensor,
    preprocess: str,
    load_size: int,
    crop_size: int,
    flip: bool = True,
    params: dict | None = None,
    nearest: bool = False,
) -> torch.Tensor:
    """Resize, crop and flip a float image (C, H, W) as `build` does with a photo; `nearest` resizes label maps.

    Values stay in [-1, 1], where bicubic filters would overshoot.
    """
    size = resized_size(preprocess, load_size, crop_size, image.shape[:0:-1])
    if size != tuple(image.shape[:0:-1]):
        mode = {"mode": "nearest-exact"} if nearest else {"mode": "bicubic", "antialias": True}
        image = F.interpolate(image[None], size[::-1], **mode)[0].clamp(-1, 1)
    image, flipped = cut(image, crop_size if "crop" in preprocess else None, flip, params)
    return image.flip(-1) if flipped else image


def cut(image: torch.Tensor, crop_size: int | None, flip: bool, params: dict | None) -> tuple[torch.Tensor, bool]:
    """Crop an image (C, H, W), and return it with whether to mirror it; both drawn from torch without `params`."""
    if crop_size:
        check_fits(image, crop_size)
        if params is None:
            from torchvision.transforms import RandomCrop  # slow to import, and not needed to parse options

            y, x, *_ = RandomCrop.get_params(image, (crop_size, crop_size))
        else:
            x, y = params["crop_pos"]
        image = image[:, y : y + crop_size, x : x + crop_size]
    return image, flip and (bool(torch.rand(1) < 0.5) if params is None else params["flip"])


def scale_width(image: Image.Image, load_size: int, crop_size: int, method) -> Image.Image:
    """Resize to `load_size` wide, keeping the ratio; a height below `crop_size` becomes that, as in the reference.

    The new height need not be a multiple of anything: generators pad their input.
    """
    size = resized_size("scale_width", load_size, crop_size, image.size)
    method = Image.Resampling[method.name] if hasattr(method, "name") else method  # torchvision's name or Pillow's
    return image if image.size == size else image.resize(size, method)


def resized_size(preprocess: str, load_size: int, crop_size: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of an image after resizing and before cropping; UserError if that is too large."""
    if "resize" in preprocess:
        return load_size, load_size
    if "scale_width" not in preprocess:
        return size
    width, height = size
    new_height = int(max(load_size * height / width, crop_size))
    if load_size * new_height > MOST_PIXELS:
        raise UserError(
            f"the image is {width}x{height}, a narrow strip: made {load_size} wide (--load_size) it would be "
            f"{new_height:,} high. Leave it out, or choose another --preprocess."
        )
    return load_size, new_height


def check_fits(image, crop_size: int):
    """Return the image if a `crop_size` square fits into it, else raise UserError."""
    width, height = image.size if isinstance(image, Image.Image) else image.shape[:-3:-1]
    if min(width, height) < crop_size:
        raise UserError(
            f"the image is {width}x{height}, smaller than --crop_size {crop_size}. "
            f"Type --preprocess resize_and_crop, or --crop_size {min(width, height)} or less."
        )
    return image


def crop(position: tuple[int, int], crop_size: int, image: Image.Image) -> Image.Image:
    """Cut out the `crop_size` square whose upper left corner is `position` (x, y)."""
    x, y = position
    return image.crop((x, y, x + crop_size, y + crop_size))
