"""Weights & Biases (`--use_wandb`)."""

from __future__ import annotations

import argparse
import os

from util.errors import need
from util.loggers.base import Pictures, Say, Sink, Step, plain_options, scalars


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
    """Whether W&B knows the user without asking."""
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except TypeError:  # before these arguments
        return bool(wandb.api.api_key)


class WandbSink(Sink):
    """Log to Weights & Biases: images as results/<label>, scores as validation/<metric>, in steps of images."""

    def __init__(self, opt: argparse.Namespace, say: Say):
        """Start the run; raise UserError without the package."""
        self.wandb = start_wandb(opt, say)
        self.wandb.define_metric("*", step_metric="total_iters")  # the charts' axis, whatever W&B's own step is

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        self._log(step, scalars(step, losses))

    def images(self, step: Step, pictures: Pictures) -> None:
        self._log(step, wandb_images(self.wandb, pictures))

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        named = {f"validation/{name}": value for name, value in values.items()}
        self._log(step, named | wandb_images(self.wandb, pictures, "validation"))

    def _log(self, step: Step, values: dict) -> None:
        """Log at step `total_iters`, or at the next step where a joined or resumed run is already beyond it.

        W&B drops entries whose step is earlier than its last one.
        """
        last = self.wandb.run.step
        at = step.total_iters if step.total_iters >= last else last + 1
        self.wandb.log({**values, "total_iters": step.total_iters}, step=at)


def wandb_images(wandb, pictures: Pictures, folder: str = "results") -> dict[str, list]:
    """Wrap pictures for W&B."""
    return {f"{folder}/{label}": [wandb.Image(image) for image in images] for label, images in pictures.items()}
