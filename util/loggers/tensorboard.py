"""TensorBoard (`--use_tensorboard`)."""

from __future__ import annotations

import argparse
import atexit
import math
from pathlib import Path

import numpy as np

from util.errors import need
from util.loggers.base import Pictures, Sink, Step, plain_options, scalars


class TensorboardSink(Sink):
    """Write event files to <experiment>/tensorboard, under the names that Weights & Biases gets."""

    def __init__(self, opt: argparse.Namespace, folder: str | Path):
        """Import the package; raise UserError without it."""
        need("tensorboard", "tensorboard", "--use_tensorboard")
        self.tensorboard = need("torch.utils.tensorboard", "tensorboard", "--use_tensorboard")
        self.opt, self.folder = opt, Path(folder) / "tensorboard"
        self.done = 0  # images trained on when this run begins
        self._writer = None

    def cut(self, total_iters: float, epoch: float = math.inf) -> None:
        self.done = total_iters

    @property
    def writer(self):
        """The event file, opened by the first entry; TensorBoard hides earlier entries beyond the resumed point."""
        if self._writer is None:
            purge = self.done + 1 if self.done else None
            self._writer = self.tensorboard.SummaryWriter(str(self.folder), purge_step=purge, flush_secs=10)
            options = plain_options(self.opt)
            self._writer.add_text("options", "\n".join(f"    {k}: {v}" for k, v in options.items()), self.done)
            self._writer.file_writer.add_summary(hparams(options), self.done)
            atexit.register(self._writer.close)
        return self._writer

    def close(self, epochs: int = 0) -> None:
        self.writer.close()

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        for name, value in scalars(step, losses).items():
            self.writer.add_scalar(name, value, step.total_iters)

    def images(self, step: Step, pictures: Pictures, folder: str = "results") -> None:
        for label, images in pictures.items():
            self.writer.add_image(f"{folder}/{label}", side_by_side(images), step.total_iters, dataformats="HWC")

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"validation/{name}", value, step.total_iters)
        self.images(step, pictures, "validation")


def hparams(options: dict[str, object]):
    """Return the options for TensorBoard's HPARAMS tab.

    SummaryWriter.add_hparams would write them as another run, and booleans as numbers.
    """
    from tensorboard.plugins.hparams import summary_v2  # its `api` needs TensorFlow

    def text(value):  # the tab stays empty if a value is infinite
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    return summary_v2.hparams_pb({name: text(value) for name, value in options.items() if value is not None})


def side_by_side(images: list[np.ndarray]) -> np.ndarray:
    """Join pictures (H, W, 3) of any sizes into one row, padded with grey."""
    height = max(image.shape[0] for image in images)
    room = [((0, height - image.shape[0]), (0, 0), (0, 0)) for image in images]
    return np.hstack([np.pad(image, pad, constant_values=128) for image, pad in zip(images, room, strict=True)])
