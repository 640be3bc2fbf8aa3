"""Averages of the generators' weights over the steps (`--ema`)."""

from __future__ import annotations

import copy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from util.checkpoint.weights import unwrap
from util.errors import warn


class AveragedNetwork:
    """A copy of a network whose weights w follow the network's: w <- decay * w + (1 - decay) * network's.

    The average starts with the weights after the first step. PyTorch's AveragedModel counts steps in a tensor and waits
    for the device to read it, which a captured step can't do.
    """

    def __init__(self, net: torch.nn.Module, decay: float):
        self.module = copy.deepcopy(net)
        self.mix = get_ema_multi_avg_fn(decay)
        self.started = False

    @torch.no_grad()
    def update(self, net: torch.nn.Module) -> None:
        """Follow the network; its buffers (running statistics) are copied."""
        mine, theirs = list(self.module.parameters()), list(net.parameters())
        if self.started:
            self.mix(mine, theirs, None)
        else:
            torch._foreach_copy_(mine, theirs)
        self.started = True
        for own, other in zip(self.module.buffers(), net.buffers(), strict=True):
            own.copy_(other)


def update_after_steps(averages: dict[str, AveragedNetwork], networks: dict, optimizer: torch.optim.Optimizer) -> None:
    """Update the averages of the networks that an optimizer trains after each of its steps."""
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    pairs = [(averaged, unwrap(networks[name])) for name, averaged in averages.items()]
    pairs = [(averaged, net) for averaged, net in pairs if any(id(p) in trained for p in net.parameters())]

    def update(*_):
        for averaged, net in pairs:
            averaged.update(net)

    optimizer.register_step_post_hook(update)


def load_averages(averages: dict[str, AveragedNetwork], checkpoints, prefix: str) -> None:
    """Resume from the saved averages; without them the averages start with the weights as they are."""
    modules = {f"{name}_ema": average.module for name, average in averages.items()}
    missing = [name for name in modules if not checkpoints.net_path(prefix, name).is_file()]
    if missing:
        warn(f"{prefix}: no averages were saved ({', '.join(missing)}); they start with the weights as they are")
    else:
        checkpoints.load_networks(prefix, modules)
    for average in averages.values():
        average.started = True
