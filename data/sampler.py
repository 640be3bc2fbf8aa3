"""The order of images: a function of seed and epoch, shared out over processes."""

from __future__ import annotations

import random
from collections.abc import Iterator

from torch.utils.data import Sampler


class EpochSampler(Sampler):
    """Batches of (epoch, index) for one of `world_size` processes.

    The global order knows neither processes nor batches. The k-th step of all processes together takes the k-th
    `batch_size * world_size` images of it, and each process a consecutive part: one process with batch 4 and two with
    batch 2 see the same steps. The epoch travels with the index because workers that persist hold an old copy of
    everything else.
    """

    def __init__(self, length: int, batch_size: int, shuffle=True, seed: int = 0, rank: int = 0, world_size: int = 1):
        self.length, self.batch_size, self.shuffle, self.seed = length, batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, and after how many images of it (of all processes) to begin."""
        self.epoch, self.start = epoch, start

    def order(self) -> list[int]:
        """Return the indices of all images in this epoch's order."""
        order = list(range(self.length))
        if self.shuffle:
            random.Random(f"order, seed {self.seed}, epoch {self.epoch}").shuffle(order)
        return order

    def share(self, step: int) -> float:
        """Return this process's weight in a step: its images times `world_size` over all images of the step.

        1 but for a short last batch. Gradients weighted by it and averaged over processes are the mean over images.
        """
        begin, end, count = self._part(step)
        return (end - begin) * self.world_size / count

    def _part(self, step: int) -> tuple[int, int, int]:
        """Return where this process's images of a step begin and end in the order, and how many all processes have."""
        first = self.start + step * self.batch_size * self.world_size
        count = min(self.batch_size * self.world_size, self.length - first)
        each, rest = divmod(count, self.world_size)  # a short last batch is spread out evenly
        begin = first + self.rank * each + min(self.rank, rest)
        return begin, begin + each + (self.rank < rest), count

    def __len__(self) -> int:
        """Return how many steps are left of this epoch."""
        return max(0, -(-(self.length - self.start) // (self.batch_size * self.world_size)))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, epoch = self.order(), self.epoch
        for step in range(len(self)):
            begin, end, _ = self._part(step)
            # A process without an image repeats its neighbour's, with share 0, so that it can take part in the step.
            yield [(epoch, index) for index in order[begin:end] or order[begin - 1 : begin]]
