"""A history of generated images, from which D is trained."""

from __future__ import annotations

import random
from typing import NamedTuple

import torch


class Swap(NamedTuple):
    """What becomes of one image of a batch: it may be stored in `slot`, and an older one there may come back for it."""

    slot: int | None  # where it is stored; None: nowhere
    old: bool  # whether what is in `slot` comes back, or the image itself


class ImagePool:
    """Keep up to `pool_size` generated images and hand out old ones half of the time.

    D then sees a history of fakes rather than the newest alone, which steadies training (Shrivastava et al. 2017;
    CycleGAN paper, section 4). Size 0 hands back what it gets. `rng` is a source with `uniform` and `randint`.
    The images stay on the device that they come from.
    """

    def __init__(self, pool_size: int, rng=random):
        self.pool_size = pool_size
        self.rng = rng
        self.num_imgs = 0
        self.images: list[torch.Tensor] = []
        self.recording = None  # util.speed.cuda_graphs's stand-in for `query`, while a step is recorded

    def query(self, images: torch.Tensor) -> torch.Tensor:
        """Swap images (N, C, H, W) for the pool's: each comes back itself, or an older one that it replaces.

        Until the pool is full, each is stored and comes back itself.
        """
        if self.pool_size == 0:
            return images
        if self.recording:
            return self.recording(images.detach())
        swaps = [self.draw() for _ in images]
        return torch.cat(
            [self._swap(image[None], swap, len(swaps) == 1) for image, swap in zip(images.detach(), swaps, strict=True)]
        )

    def draw(self) -> Swap:
        """Draw what becomes of the next image."""
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
