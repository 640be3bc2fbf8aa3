"""State dicts of other years and of the reference project."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


def golden_state_dicts():
    """Yield title and [(key, shape), ...] of each listing, BN lines written out."""
    for block in (Path(__file__).resolve().parents[1] / "golden/state_dicts.txt").read_text().split("\n\n# ")[1:]:
        title, *lines = block.strip().splitlines()
        entries = []
        for line in lines:
            key, shape = line.split(" ", 1)
            if key.endswith(".[BN"):
                n = (int(shape.rstrip("]")),)
                stem = key.removesuffix("[BN")
                entries += [(stem + part, n) for part in ("weight", "bias", "running_mean", "running_var")]
                entries.append((stem + "num_batches_tracked", ()))
            else:
                entries.append((key, tuple(int(side) for side in shape.split("x"))))
        yield pytest.param(title, entries, id=title)


def with_old_statistics(net):
    """Return a state dict as PyTorch before 0.4 wrote it: instance norms had running statistics."""
    state, width = net.state_dict(), 0
    for name, module in net.named_modules():
        width = getattr(module, "out_channels", width)  # of the convolution in front of the norm
        if isinstance(module, torch.nn.InstanceNorm2d):
            state |= {f"{name}.running_mean": torch.ones(width), f"{name}.running_var": torch.ones(width)}
    return state
