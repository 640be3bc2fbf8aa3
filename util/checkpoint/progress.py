"""How far a run is: epoch, images, and the best epoch so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass
class Progress:
    """How far a run is. All counts are over all processes."""

    epoch: int = 1  # the epoch in training
    epoch_iter: int = 0  # images seen in this epoch
    total_iters: int = 0  # images seen since the first epoch
    step: int = 0  # images of the last step

    def advance(self, images: int, begins: bool = True) -> None:
        """Count a batch's images; the batch `begins` a step or continues one (`--grad_accum`)."""
        self.step = images + (0 if begins else self.step)
        self.epoch_iter += images
        self.total_iters += images

    def passed(self, every: int) -> bool:
        """Whether the last step reached or passed a multiple of `every` images, so that no batch size skips one."""
        return every > 0 and self.total_iters // every > (self.total_iters - self.step) // every

    def next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.epoch, self.epoch_iter = self.epoch + 1, 0


class Best(NamedTuple):
    """The best epoch so far (util.monitor.validation)."""

    metric: str
    value: float
    epoch: int
