"""The dashboards that a user may have: visdom, Weights & Biases, TensorBoard. None can hold up or end a run.

Each gets the same under the same names: losses as they are called, the learning rate as `lr`, images as
results/<label>, what is measured as validation/<metric>, its images as validation/<label>. Steps are images trained on.
"""

from __future__ import annotations

import argparse
import atexit
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from util.errors import UserError, need
from util.loggers.visdom import VisdomSink  # noqa: F401 - one of them
from util.loggers.visuals import Pictures, Step

Say = Callable[[str], None]


class Guard:
    """Call a logger so that its failures cost one warning, and no run."""

    def __init__(self, name: str, say: Say):
        self.name, self.say = name, say
        self.warned = False

    def __call__(self, action: Callable, *args):
        """Return the action's result; None when it failed."""
        try:
            return action(*args)
        except UserError:
            raise
        except Exception as error:
            if not self.warned:
                self.say(f"warning: {self.name}: {type(error).__name__}: {error} (the run goes on)")
            self.warned = True
            return None


def plain_options(opt: argparse.Namespace) -> dict[str, object]:
    """Return the options as values that every logger takes."""
    plain = (bool, int, float, str, type(None))
    options = {key: value for key, value in sorted(vars(opt).items()) if key not in ("given", "typed", "differing")}
    return {key: value if isinstance(value, plain) else str(value) for key, value in options.items()}


# ---- Weights & Biases ----


def start_wandb(opt: argparse.Namespace, say: Say = print):
    """Start or join a W&B run and return the module; offline where there is no API key, without asking for one."""
    wandb = need("wandb", "wandb", "--use_wandb")
    if wandb.run is not None:
        return wandb
    mode = None
    if not os.environ.get("WANDB_MODE") and not has_wandb_key(wandb):
        mode = "offline"
        say("wandb: no API key is configured (`wandb login`): logging offline; `wandb sync` uploads it later")
    wandb.init(project=opt.wandb_project_name, name=opt.name, config=plain_options(opt), mode=mode)
    return wandb


def has_wandb_key(wandb) -> bool:
    """Whether W&B would not have to ask who the user is."""
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except TypeError:  # before these arguments
        return bool(wandb.api.api_key)


class WandbSink:
    """Log to Weights & Biases."""

    alive = True

    def __init__(self, opt: argparse.Namespace, say: Say):
        """Start the run; raise UserError without the package."""
        self.wandb = start_wandb(opt, say)
        self.wandb.define_metric("*", step_metric="total_iters")  # the charts' axis, wherever W&B's own steps stand

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        """Log one step's losses."""
        self._log(step, scalars(step, losses))

    def images(self, step: Step, pictures: Pictures) -> None:
        """Log one step's images."""
        self._log(step, wandb_images(self.wandb, pictures))

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        """Log metrics and images."""
        named = {f"validation/{name}": value for name, value in values.items()}
        self._log(step, named | wandb_images(self.wandb, pictures, "validation"))

    def _log(self, step: Step, values: dict) -> None:
        """Log at step `total_iters`; where a run that is joined or goes on is beyond that, at its next one.

        W&B would drop what comes with an earlier step than its last one.
        """
        last = self.wandb.run.step
        at = step.total_iters if step.total_iters >= last else last + 1
        self.wandb.log({**values, "total_iters": step.total_iters}, step=at)


def scalars(step: Step, losses: dict[str, float]) -> dict[str, float]:
    """Return the losses and, where it is known, the learning rate."""
    return losses | ({} if step.lr is None else {"lr": step.lr})


def wandb_images(wandb, pictures: Pictures, folder: str = "results") -> dict[str, list]:
    """Wrap pictures for W&B."""
    return {f"{folder}/{label}": [wandb.Image(image) for image in images] for label, images in pictures.items()}


# ---- TensorBoard ----


class TensorboardSink:
    """Write event files to <experiment>/tensorboard."""

    alive = True

    def __init__(self, opt: argparse.Namespace, folder: str | Path):
        """Import the package; raise UserError without it."""
        need("tensorboard", "tensorboard", "--use_tensorboard")
        self.tensorboard = need("torch.utils.tensorboard", "tensorboard", "--use_tensorboard")
        self.opt, self.folder = opt, Path(folder) / "tensorboard"
        self.done = 0  # images trained on when this run begins
        self._writer = None

    def cut(self, total_iters: int, epoch: int = 0) -> None:
        """Hide what an earlier run logged beyond `total_iters` images."""
        self.done = total_iters

    @property
    def writer(self):
        """The event file, begun with the first entry; what lies beyond where the run goes on is hidden."""
        if self._writer is None:
            purge = self.done + 1 if self.done else None
            self._writer = self.tensorboard.SummaryWriter(str(self.folder), purge_step=purge, flush_secs=10)
            options = plain_options(self.opt)
            self._writer.add_text("options", "\n".join(f"    {k}: {v}" for k, v in options.items()), self.done)
            self._writer.file_writer.add_summary(hparams(options), self.done)
            atexit.register(self._writer.close)
        return self._writer

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        """Log one step's losses."""
        for name, value in scalars(step, losses).items():
            self.writer.add_scalar(name, value, step.total_iters)

    def images(self, step: Step, pictures: Pictures, folder: str = "results") -> None:
        """Log one step's images."""
        for label, images in pictures.items():
            self.writer.add_image(f"{folder}/{label}", side_by_side(images), step.total_iters, dataformats="HWC")

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        """Log metrics and images."""
        for name, value in values.items():
            self.writer.add_scalar(f"validation/{name}", value, step.total_iters)
        self.images(step, pictures, "validation")


def hparams(options: dict[str, object]):
    """Return what TensorBoard's HPARAMS tab shows of a run, beside all its scalars.

    SummaryWriter.add_hparams would write it as another run, and truths as numbers.
    """
    from tensorboard.plugins.hparams import summary_v2  # its `api` needs TensorFlow

    def shown(value):  # the tab has no infinity, and falls silent over one
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    return summary_v2.hparams_pb({name: shown(value) for name, value in options.items() if value is not None})


def side_by_side(images: list[np.ndarray]) -> np.ndarray:
    """Return pictures (H, W, 3) of any sizes as one, the lower ones over grey."""
    height = max(image.shape[0] for image in images)
    room = [((0, height - image.shape[0]), (0, 0), (0, 0)) for image in images]
    return np.hstack([np.pad(image, pad, constant_values=128) for image, pad in zip(images, room, strict=True)])
