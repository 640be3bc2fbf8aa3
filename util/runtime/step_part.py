"""The part of an optimizer step that one batch makes up."""

from __future__ import annotations

from typing import NamedTuple


class StepPart(NamedTuple):
    """Where a batch stands: beside the other processes' batches, and among those that make one step (`--grad_accum`).

    Gradients are summed up in units of the newest batch, so that nothing is scaled while batches are of one size.
    """

    share: float = 1.0  # this process's images over an equal share of all; not 1 in a short last batch
    first: bool = True  # begins a step of the optimizers
    last: bool = True  # completes it
    rescale: float = 1.0  # the sum so far is to be multiplied by this: the images of the batch before over this one's
    weight: float = 1.0  # makes the sum a mean: the images of this batch over those of the step
