"""Learning-rate policies: each is a factor on the initial rate, as a function of the epoch e = 1, 2, ..."""

from __future__ import annotations

import math
import warnings

from torch.optim import lr_scheduler

from util.errors import UserError, table_entry


def linear(e: int, opt) -> float:
    """Stay at 1 for n_epochs, then fall to 1/(n_epochs_decay + 1) in the last epoch (CycleGAN paper, section 4)."""
    return 1.0 - max(0, e - opt.n_epochs) / (opt.n_epochs_decay + 1)


def step(e: int, opt) -> float:
    """Divide by 10 after every `lr_decay_iters` epochs."""
    return 0.1 ** ((e - 1) // opt.lr_decay_iters)


def cosine(e: int, opt) -> float:
    """Fall as half a cosine over the whole of training."""
    return 0.5 * (1 + math.cos(math.pi * (e - 1) / (opt.n_epochs + opt.n_epochs_decay)))


POLICIES = {"linear": linear, "step": step, "plateau": None, "cosine": cosine}


def get_scheduler(optimizer, opt):
    """Make the scheduler that `opt.lr_policy` names, at epoch `opt.epoch_count`; step it once an epoch.

    `plateau` divides by 5 when the model's metric has not fallen by 1% for 5 epochs; it is stepped with that metric.
    """
    factor, first = table_entry(POLICIES, opt.lr_policy, "lr_policy"), opt.epoch_count
    if not factor:
        return lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.2, threshold=0.01, patience=5)
    return lr_scheduler.LambdaLR(optimizer, lambda k: factor(first + k, opt))


def step_all(schedulers: list, metric: float | None) -> None:
    """Step every scheduler at the end of an epoch, `plateau` by the model's metric; print the learning rate."""
    if not schedulers:
        return
    plateau = isinstance(schedulers[0], lr_scheduler.ReduceLROnPlateau)
    if plateau and metric is None:
        raise UserError(
            "--lr_policy plateau waits for a metric to stop falling, and this model never sets self.metric; choose "
            "linear, step or cosine"
        )
    group = schedulers[0].optimizer.param_groups[0]
    old = group["lr"]
    with warnings.catch_warnings():
        # A run that was stopped after an epoch's last step resumes here, before its first optimizer step.
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        for scheduler in schedulers:
            scheduler.step(*[metric] * plateau)
    print(f"learning rate {old:.7f} -> {group['lr']:.7f}")
