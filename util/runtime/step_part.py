"""The part of an optimizer step that one batch makes up."""

from __future__ import annotations

from typing import NamedTuple


class StepPart(NamedTuple):
    """How one batch counts: among the processes' batches, and among the batches of one step (`--grad_accum`).

    Gradients are summed in units of the newest batch, so that nothing is scaled while all batches have one size.
    """

    share: float = 1.0  # this process's images over an equal share of all; not 1 in a short last batch
    first: bool = True  # this batch begins an optimizer step
    last: bool = True  # this batch completes it
    rescale: float = 1.0  # factor for the sum so far: the images of the previous batch over this one's
    weight: float = 1.0  # factor that makes the sum a mean: the images of this batch over those of the step
