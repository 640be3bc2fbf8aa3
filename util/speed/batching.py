"""Several test images in one pass of a network: which may share it, and whether each gets its own result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd


def in_batches(loaded: Iterable, size: int) -> Iterator[tuple[int, object]]:
    """Join up to `size` consecutive batches of one image each; yield the number of the first image, and the batch.

    Only batches whose tensors have equal shapes are joined. With `size` 1 any batch is yielded as it is.
    """
    waiting, first = [], 0
    for number, batch in enumerate(loaded):
        if waiting and form(batch) != form(waiting[0]):
            yield first, joined(waiting)
            waiting = []
        first = number if not waiting else first
        waiting.append(batch)
        if len(waiting) == size:  # at once: an error in the next image must not cost this one
            yield first, joined(waiting)
            waiting = []
    if waiting:
        yield first, joined(waiting)


def form(batch: object) -> object:
    """Return the keys, types and shapes that batches must share to be joined; an unequal object if they can't be."""
    if not isinstance(batch, dict):
        return object()
    forms = {}
    for key, value in batch.items():
        if isinstance(value, torch.Tensor) and value.dim():
            forms[key] = (value.dtype, value.shape[1:])
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            forms[key] = str
        else:
            return object()
    return forms


def joined(batches: list) -> object:
    """Join batches of one form: tensors along their first dimension, lists end to end."""
    return batches[0] if len(batches) == 1 else {key: _end_to_end([b[key] for b in batches]) for key in batches[0]}


def _end_to_end(values: list) -> object:
    if isinstance(values[0], list):
        return [item for value in values for item in value]
    whole = torch.cat(values)
    return whole.pin_memory() if values[0].is_pinned() else whole  # or the copy to the GPU would wait for the GPU


def batch_size(model, asked: int) -> int:
    """Return how many images `model` translates at a time: as many as asked, if each gets the result it gets alone."""
    reason = why_one_by_one(model.networks().values())
    overridden = sum("compute_visuals" in vars(kind) for kind in type(model).__mro__) > 1  # BaseModel's does nothing
    if overridden and not reason:
        reason = f"{type(model).__name__} computes the shown images for one image at a time"
    if reason and asked > 1:
        print(f"--batch_size {asked}: images are translated one by one, because {reason}")
    return 1 if reason else asked


def why_one_by_one(nets: Iterable[nn.Module]) -> str:
    """Say why images of a batch would not get the results that each gets alone; empty if they do."""
    for module in (module for net in nets for module in net.modules()):
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            return "a batch norm without running statistics takes them over the batch"
        if isinstance(module, _BatchNorm) and module.training:
            return "batch norm takes its statistics over the batch (--eval uses training's)"
        if isinstance(module, _DropoutNd) and module.training and module.p > 0:
            return "dropout, drawn for each image by its number, would be drawn for the batch (--eval turns it off)"
    return ""
