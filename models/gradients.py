"""Gradients between the backward pass and the optimizer: frozen networks, sums over several batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from util.errors import UserError
from util.runtime.step_part import StepPart


@contextmanager
def frozen(nets: Iterable[nn.Module]) -> Iterator[None]:
    """Compute no gradients of these networks' parameters while the body runs."""
    parameters = [p for net in nets for p in net.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


def scale_gradients(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Multiply the gradients that an optimizer would apply; a factor of 1 costs nothing."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if factor != 1 and gradients:
        torch._foreach_mul_(gradients, factor)


def require_last(part: StepPart, model_name: str) -> None:
    """Raise UserError if a model steps an optimizer before the step's last batch (`--grad_accum`)."""
    if not part.last:
        raise UserError(
            f"--grad_accum: {model_name} steps its optimizers after every batch; let it compute gradients within "
            "`with self.update(optimizer, net):`, which steps when the batches are complete"
        )
