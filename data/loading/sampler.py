"""The order of images: a function of seed and epoch, shared out over processes."""

from __future__ import annotations

import random
from collections.abc import Iterator

from torch.utils.data import Sampler

from util.runtime.step_part import StepPart


class EpochSampler(Sampler):
    """Batches of (epoch, index) for one of `world_size` processes.

    The global order knows neither processes nor batches. The k-th batch of all processes together takes the k-th
    `batch_size * world_size` images of it, and each process a consecutive part: one process with batch 4 and two
    with batch 2 see the same images. The epoch travels with the index because workers that persist hold an old copy
    of everything else.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        grad_accum: int = 1,
    ):
        self.length, self.batch_size, self.shuffle, self.seed = length, batch_size, shuffle, seed
        self.rank, self.world_size, self.grad_accum = rank, world_size, grad_accum
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

    def step_part(self, batch: int) -> StepPart:
        """Return how the batch number `batch` since `start` counts.

        Gradients weighted by the share and averaged over processes are the mean over images; so is their sum over the
        `grad_accum` batches of a step, weighted by images. The epoch's last step may have fewer batches.
        """
        begin, end, count = self._part(batch)
        first = batch - batch % self.grad_accum
        counts = [self._part(k)[2] for k in range(first, batch + 1)]
        return StepPart(
            share=(end - begin) * self.world_size / count,
            first=batch == first,
            last=batch + 1 in (first + self.grad_accum, len(self)),
            rescale=counts[-2] / count if batch > first else 1.0,
            weight=count / sum(counts),
        )

    def _part(self, batch: int) -> tuple[int, int, int]:
        """Return where this process's images of a batch begin and end in the order, and how many all processes have."""
        first = self.start + batch * self.batch_size * self.world_size
        count = min(self.batch_size * self.world_size, self.length - first)
        each, rest = divmod(count, self.world_size)  # a short last batch is spread out evenly
        begin = first + self.rank * each + min(self.rank, rest)
        return begin, begin + each + (self.rank < rest), count

    def __len__(self) -> int:
        """Return how many batches are left of this epoch."""
        return max(0, -(-(self.length - self.start) // (self.batch_size * self.world_size)))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, epoch = self.order(), self.epoch
        for batch in range(len(self)):
            begin, end, _ = self._part(batch)
            # A process without an image repeats its neighbour's, with share 0, so that it can take part.
            yield [(epoch, index) for index in order[begin:end] or order[begin - 1 : begin]]
