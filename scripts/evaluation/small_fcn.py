"""A small fully convolutional network that learns to segment (Long et al. 2015), for data without a better one."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from util.checkpoint.weights import load_weights
from util.errors import UserError, printable


class SmallFCN(nn.Module):
    """Scores at four scales, added up. Takes images (N, 3, H, W) of any size; gives logits (N, classes, *size).

    It computes at `size` (height, width), rounded up to multiples of 8, which its state dict contains.
    """

    def __init__(self, classes: int, size: tuple[int, int], width: int = 16):
        super().__init__()
        self.register_buffer("size", torch.tensor([8 * math.ceil(side / 8) for side in size]))
        widths = [width * 2**i for i in range(4)]
        self.stages = nn.ModuleList(_stage(before, w) for before, w in zip([3, *widths], widths, strict=False))
        self.scores = nn.ModuleList(nn.Conv2d(w, classes, 1) for w in widths)

    @classmethod
    def from_state(cls, state, classes: int, path: Path) -> SmallFCN:
        """Make the network of a state dict; UserError if it is another network's, or has other classes."""
        size = state.get("size") if isinstance(state, dict) else None
        if not isinstance(size, torch.Tensor) or size.shape != (2,) or not 0 < size.min() <= size.max() < 2**16:
            text = "was not saved by --train_fcn. The weights of another network go with its name"
            raise UserError(f"{printable(path)} {text}: --segmenter fcn_resnet50 --weights {printable(path)}")
        net = cls(classes, tuple(size.tolist()))
        load_weights(net, state, path, explain=lambda *_: f"it does not have {classes} classes")
        return net

    def forward(self, x):
        return self.segment(F.interpolate(x, size=tuple(self.size.tolist()), mode="bilinear", antialias=True))

    def segment(self, x):
        """Return logits of the size of x, whose sides are multiples of 8: training takes crops."""
        scores = []
        for stage, score in zip(self.stages, self.scores, strict=True):
            x = stage(x)  # (N, 16 * 2^i, H / 2^i, W / 2^i)
            scores.append(score(x))
        return functools.reduce(lambda total, finer: finer + _double(total), reversed(scores))  # (N, classes, H, W)


def _double(x: torch.Tensor) -> torch.Tensor:
    """Repeat each pixel twice in both directions; unlike interpolate, its gradient is deterministic on a GPU."""
    n, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)


def _stage(channels: int, width: int) -> nn.Sequential:
    """Two convolutions; the first halves the size, except in the first stage."""
    layers = []
    for before, stride in ((channels, 1 if channels == 3 else 2), (width, 1)):
        layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def train_fcn(
    item: Callable[[int], tuple[torch.Tensor, torch.Tensor]],
    count: int,
    net: SmallFCN,
    ignore_label: int,
    steps: Collection[int],
    seed: int = 0,
) -> list[float]:
    """Train on `item(0)` to `item(count - 1)`, (x (3, H, W), labels (H, W)) of net.size; return the steps' losses.

    A batch has 4 crops of half the side, flipped at random; the learning rate falls from 0.005 to zero (power 0.9). All
    draws follow from the seed; the caller seeds the initial weights. `steps`: a range, or a progress bar around it.
    """
    device = next(net.parameters()).device
    optimizer = torch.optim.Adam(net.parameters(), 0.005)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - step / len(steps)) ** 0.9)
    draw, order, losses = torch.Generator().manual_seed(seed), [], []
    net.train()
    for _ in steps:
        while len(order) < 4:
            order += torch.randperm(count, generator=draw).tolist()
        batch = [_crop(*item(order.pop(0)), draw) for _ in range(4)]
        x, labels = (torch.stack(part).to(device) for part in zip(*batch, strict=True))
        logits = net.segment(x).permute(0, 2, 3, 1).flatten(0, 2)  # (pixels, classes): deterministic on CUDA
        # A sum, because a batch may have no pixel with a label.
        loss = F.cross_entropy(logits, labels.flatten(), ignore_index=ignore_label, reduction="sum")
        loss = loss / (labels != ignore_label).sum().clamp(min=1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    net.eval()
    return torch.stack(losses).tolist()


def _crop(x: torch.Tensor, labels: torch.Tensor, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Crop both alike to half of each side (at least 32 pixels, a multiple of 8), and flip both at random."""
    for dim in (-2, -1):
        side = min(x.shape[dim], max(32, 8 * math.ceil(x.shape[dim] / 16)))
        start = int(torch.randint(x.shape[dim] - side + 1, (), generator=draw))
        x, labels = x.narrow(dim, start, side), labels.narrow(dim, start, side)
    if torch.rand((), generator=draw) < 0.5:
        x, labels = x.flip(-1), labels.flip(-1)
    return x, labels
