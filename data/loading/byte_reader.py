"""Read images as bytes, for `--fast` and `--cache`; data/loading/prefetch.py turns them into floats on the device.

Every random draw is the one that data/transforms.py would make, in its order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from data import transforms
from data.base_dataset import naming
from data.loading.cache import ImageCache, create_cache
from data.loading.prefetch import FLIPS

DATASETS = ("aligned", "unaligned", "single")  # those with a `byte_item`

MOST_COPIED = 2**25  # pixels: a copy of a larger image would take too much memory, so Pillow resizes it


def create_reader(opt, dataset) -> ByteReader | None:
    """Return the ByteReader of a dataset; None without `--fast` and `--cache`, and for the datasets of plug-ins."""
    fast, cached = (getattr(opt, name, False) is True for name in ("fast", "cache"))
    if not (fast or cached):
        return None
    if opt.dataset_mode not in DATASETS:
        if cached:
            print(f"--cache: --dataset_mode {opt.dataset_mode} reads its images in its own way, and none is kept")
        return None
    if not all(side.is_photo for side in dataset.sides.values()):
        if cached:
            print("--cache: images that are no photos of 8 bits are read each time, and none is kept")
        return None
    # Images that are scaled, or not resized at all, vary in size.
    bytes_each = opt.load_size**2 * max(opt.input_nc, opt.output_nc) if "resize" in opt.preprocess else None
    cache = create_cache(dataset.image_count, bytes_each, int(opt.num_threads)) if cached else None
    return ByteReader(opt.preprocess, opt.load_size, opt.crop_size, not opt.no_flip, dataset.read_image, fast, cache)


class ByteReader:
    """Reads, resizes, caches and crops images as bytes. An item also says which of its images to mirror."""

    def __init__(
        self,
        preprocess: str,
        load_size: int,
        crop_size: int,
        flip: bool,
        load: Callable[[str], Image.Image],
        fast: bool,
        cache: ImageCache | None,
    ):
        transforms.check(preprocess, load_size, crop_size)
        self.sizes = (preprocess, load_size, crop_size)
        self.crop_size = crop_size if "crop" in preprocess else None
        self.flip, self.load, self.fast, self.cache = flip, load, fast, cache

    def image(self, key: int, path: str, grey: bool) -> tuple[torch.Tensor, bool]:
        """Return image number `key` as (C, H, W), randomly cropped, and whether to mirror it."""
        (pixels,), _ = self.read((key,), path, lambda: [self.load(path)], (grey,))
        with naming(path):
            return self.cut(pixels)

    def read(self, keys, path: str, load: Callable, greys) -> tuple[list[np.ndarray], tuple[int, int]]:
        """Return resized images (H, W, C) and their former (width, height): from the cache, or else from `load()`.

        `greys` says which get one channel. A UserError of resizing begins with `path`.
        """
        if self.cache:
            kept = [self.cache.get(key) for key in keys]
            if all(kept):
                return [pixels for pixels, _ in kept], kept[0][1]
        images = load()
        size = images[0].size
        with naming(path):
            resized = [self._resize(image, size, grey) for image, grey in zip(images, greys, strict=True)]
        if self.cache:
            for key, pixels in zip(keys, resized, strict=True):
                self.cache.put(key, pixels, size)
        return resized, size

    def _resize(self, image: Image.Image, size: tuple[int, int], grey: bool) -> np.ndarray:
        """Make an image grey, if asked to, and resize it as `--preprocess` says; (H, W, C)."""
        image = image.convert("L") if grey else image
        target = transforms.resized_size(*self.sizes, size)
        if image.size == target:
            pixels = np.array(image)
        elif self.fast:
            pixels = resize_fast(image, target)
        else:
            pixels = np.array(image.resize(target, Image.Resampling.BICUBIC))
        return pixels.reshape(*pixels.shape[:2], -1)

    def cut(self, pixels: np.ndarray, params: dict | None = None) -> tuple[torch.Tensor, bool]:
        """Crop resized pixels to a tensor (C, H, W); also return whether to mirror it.

        Crop and flip come from `params` or, without it, from torch's generator.
        """
        return transforms.cut(torch.from_numpy(pixels).permute(2, 0, 1), self.crop_size, self.flip, params)

    @staticmethod
    def item(images: dict[str, tuple[torch.Tensor, bool]], **paths: str) -> dict:
        """Return a dataset's item: images as `cut` returns them, {"A": (tensor, flip)}, and their paths."""
        tensors = {name: image for name, (image, _) in images.items()}
        return {**tensors, **paths, FLIPS: {name: flip for name, (_, flip) in images.items()}}


def resize_fast(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Resize to `size` (width, height) by Pillow's bicubic filter, but with torch's vector code; (H, W[, C]).

    Both compute in integers and round a little differently: bytes differ rarely, and by 2 at most.
    """
    # Pillow 13 resizes the height first where that shrinks more, torch always the width. Both clamp the result of the
    # first pass to 0..255, so another order gives other edges.
    height_first = image.height > size[1] and image.height * size[0] > image.width * size[1]
    if height_first or image.width * image.height > MOST_COPIED:
        return np.array(image.resize(size, Image.Resampling.BICUBIC))
    pixels = np.array(image)  # (H, W[, C])
    tensor = torch.from_numpy(pixels.reshape(1, *pixels.shape[:2], -1)).permute(0, 3, 1, 2)
    tensor = tensor.contiguous(memory_format=torch.channels_last)
    tensor = F.interpolate(tensor, size[::-1], mode="bicubic", antialias=True)  # (1, C, H, W)
    return tensor[0].permute(1, 2, 0).numpy()
