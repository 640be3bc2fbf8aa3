"""The first batch of a run: a picture of it, and its items from which a network can learn nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from util.errors import printable, warn
from util.loggers.visuals import batch_sheet

FLAT = 1.5  # standard deviation, of 255 levels, below which an image is blank


def draw_first_batch(batch: object, folder: Path, say: Callable[[str], None]) -> None:
    """Save a picture of the network's first input, so that swapped domains are seen at once; warn of useless items."""
    if not isinstance(batch, dict):  # a user's own dataset
        return
    for line in find_useless_items(batch):
        warn(line)
    sheet = batch_sheet(batch)
    if sheet is not None:
        file = folder / "first_batch.png"
        sheet.save(file)
        say(f"the first batch, as the network sees it: {file}")


def find_useless_items(batch: dict) -> list[str]:
    """Return a warning for each item that teaches nothing: a blank image, or a pair whose A and B are equal."""
    warnings = []
    images = {k: v for k, v in batch.items() if isinstance(v, torch.Tensor) and v.is_floating_point() and v.dim() == 4}

    def name(key: str, i: int) -> str:
        paths = batch.get(f"{key}_paths", ())
        return printable(paths[i]) if i < len(paths) else f"{key}, item {i} of the first batch,"

    for key, value in images.items():
        deviation = value.detach().float().flatten(2).std(dim=2, correction=0).amax(dim=1) * 127.5  # (N,)
        flat = [name(key, i) for i, levels in enumerate(deviation.tolist()) if levels < FLAT]
        warnings += [f"{path} has a single colour ({key}): instance norm can't scale it" for path in flat]
    A, B = images.get("A"), images.get("B")
    if A is not None and B is not None and A.shape == B.shape:
        same = (A == B).flatten(1).all(dim=1).tolist()
        warnings += [f"{name('A', i)}: A and B are the same image" for i, equal in enumerate(same) if equal]
    return warnings
