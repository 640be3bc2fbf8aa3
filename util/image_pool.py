"""A history of generated images, from which D is trained."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch


class Swap(NamedTuple):
    """The draw for one image of a batch: it may be stored in `slot`, and an older one there may be returned for it."""

    slot: int | None  # where it is stored; None: nowhere
    old: bool  # whether the image in `slot` is returned, or the new image itself


class ImagePool:
    """Keep up to `pool_size` generated images and hand out old ones half of the time.

    D then sees a history of fakes rather than the newest alone, which steadies training (Shrivastava et al. 2017;
    CycleGAN paper, section 4). Size 0 returns its input. `rng` is a source with `uniform` and `randint`. The images
    stay on their device.
    """

    def __init__(self, pool_size: int, rng=random):
        self.pool_size = pool_size
        self.rng = rng
        self.num_imgs = 0
        self.images: list[torch.Tensor] = []
        self.swap_all: Callable[[torch.Tensor], torch.Tensor] | None = None  # answers `query` while a step is recorded

    def query(self, images: torch.Tensor) -> torch.Tensor:
        """Return for each of (N, C, H, W) itself or an older image, which it replaces in the pool.

        Until the pool is full, every image is stored and returned.
        """
        if self.pool_size == 0:
            return images
        images = images.detach()
        if self.swap_all:
            return self.swap_all(images)
        swaps = [self.draw() for _ in images]
        alone = len(swaps) == 1
        return torch.cat([self._swap(image[None], swap, alone) for image, swap in zip(images, swaps, strict=True)])

    @contextmanager
    def answered_by(self, swap_all: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
        """Answer queries by `swap_all(images)` while the body runs (util.speed.cuda_graphs)."""
        self.swap_all = swap_all
        try:
            yield
        finally:
            self.swap_all = None

    def draw(self) -> Swap:
        """Draw the swap of the next image."""
        if self.num_imgs < self.pool_size:
            self.num_imgs += 1
            return Swap(self.num_imgs - 1, old=False)
        if self.rng.uniform(0, 1) <= 0.5:
            return Swap(None, old=False)
        return Swap(self.rng.randint(0, self.pool_size - 1), old=True)

    def _swap(self, image: torch.Tensor, swap: Swap, alone: bool) -> torch.Tensor:
        own = image if alone else image.clone()  # a part of a batch would keep all of it in memory
        if swap.slot == len(self.images):
            self.images.append(own)
        elif swap.slot is not None:
            old, self.images[swap.slot] = self.images[swap.slot], own
            # Sizes vary with --preprocess none: an old image of another size can't stand in a batch with new ones.
            return old if alone or old.shape == image.shape else image
        return image

    def state_dict(self) -> dict:
        """Return the stored images, on the CPU, for a checkpoint."""
        return {"images": [image.cpu().clone() for image in self.images]}

    def load_state_dict(self, state: dict, device: torch.device | str = "cpu") -> None:
        """Take the stored images of a checkpoint, as many as fit."""
        self.images = [image.to(device) for image in state["images"][: self.pool_size]]
        self.num_imgs = len(self.images)
