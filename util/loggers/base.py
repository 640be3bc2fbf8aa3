"""The base class of all loggers, for losses, images and validation scores; their failures never stop a run."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from util.errors import UserError
from util.runtime.run_facts import run_facts

Say = Callable[[str], None]
Pictures = dict[str, list[np.ndarray]]  # label -> one uint8 array (H, W, 3) per item of the batch


class Step(NamedTuple):
    """The point of a run at which something is logged."""

    epoch: int
    total_iters: int  # images trained on since the first epoch
    x: float  # epochs done, with the fraction of the current one
    lr: float | None = None  # the learning rate, where it is known


class Sink:
    """A logger. Subclasses override the methods that concern them; `alive` is False once a sink can't log any more."""

    alive = True

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        """Log the losses of one step."""

    def images(self, step: Step, pictures: Pictures) -> None:
        """Log the images of one step."""

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        """Log scores on the split `val`, and the same few images every time."""

    def cut(self, total_iters: float, epoch: float = math.inf) -> None:
        """Discard entries beyond `total_iters` images, and validations of `epoch` and later: they will come again."""

    def flush(self) -> None:
        """Wait until everything is on disk."""

    def close(self, epochs: int = 0) -> None:
        """Write or send everything left, at the end of a run that completed `epochs` epochs."""


class Guard:
    """Call a logger so that its failures cost one warning and never the run."""

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
                self.say(f"warning: {self.name}: {type(error).__name__}: {error} (the run continues)")
            self.warned = True
            return None


def plain_options(opt: argparse.Namespace) -> dict[str, object]:
    """Return the options as values that every logger takes."""
    plain = (bool, int, float, str, type(None))
    options = {**vars(opt), "speed": run_facts(opt).speed}
    return {key: value if isinstance(value, plain) else str(value) for key, value in sorted(options.items())}


def scalars(step: Step, losses: dict[str, float]) -> dict[str, float]:
    """Return the losses and, where it is known, the learning rate as `lr`."""
    return losses | ({} if step.lr is None else {"lr": step.lr})
