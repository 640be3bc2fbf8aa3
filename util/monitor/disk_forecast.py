"""Whether the disk has room for the checkpoints that a run has yet to save. Sizes are in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from util.errors import UserError, format_bytes, warn
from util.image_pool import ImagePool
from util.monitor.validation import watched_metric
from util.runtime import processes
from util.runtime.machine import free_space

ENTRY = 300  # torch.save's own bytes for each tensor
REDUCED_STATE = 3000  # the state file that older numbered checkpoints keep


class CheckpointSize(NamedTuple):
    """The size of one checkpoint."""

    networks: int
    state: int  # Adam's moments, image pools

    @property
    def total(self) -> int:
        return self.networks + self.state


class DiskForecast(NamedTuple):
    """The result: ok, warn (not all checkpoints fit), or FAIL (none does)."""

    level: str
    text: str
    advice: str = ""


def file_size(tensors: Iterable[torch.Tensor]) -> int:
    """Return the size of the file that torch.save makes of tensors, which may be on the meta device."""
    return sum(tensor.nbytes + ENTRY for tensor in tensors)


def checkpoint_size(model, crop_size: int) -> CheckpointSize:
    """Return the size of a model's checkpoint once its image pools are full."""
    nets = [*model.networks().values(), *(average.module for average in model.averages.values())]
    trained = [p for optimizer in model.optimizers for group in optimizer.param_groups for p in group["params"]]
    moments = [tensor for p in trained if p.requires_grad for tensor in (torch.empty(()), p, p)]
    image = torch.empty(max(model.opt.input_nc, model.opt.output_nc), crop_size, crop_size, device="meta")
    pools = [value.pool_size for value in vars(model).values() if isinstance(value, ImagePool)]
    state = REDUCED_STATE + file_size(moments) + sum(pools) * processes.world_size() * file_size([image])
    return CheckpointSize(sum(file_size(net.state_dict().values()) for net in nets), state)


def count_checkpoints(
    first_epoch: int, last_epoch: int, save_epoch_freq: int, images: int = 0, step: int = 1, every_iters: int = 0
) -> int:
    """Count the numbered checkpoints that the epochs from `first_epoch` on save.

    With `every_iters` (--save_by_iter) also those named iter_N: an epoch has `images` images, a step takes `step`.
    """
    epochs = last_epoch // save_epoch_freq - (first_epoch - 1) // save_epoch_freq + (last_epoch % save_epoch_freq > 0)
    steps = -(-images // step) * (last_epoch - first_epoch + 1)
    return epochs + (min(steps * step // every_iters, steps) if every_iters else 0)


def size_at_end(one: CheckpointSize, count: int) -> int:
    """Return the size of `count` numbered checkpoints after training: `latest` is then the last one's second name."""
    return count * one.networks + (count - 1) * REDUCED_STATE + one.state


def largest_size(one: CheckpointSize, count: int) -> int:
    """Return the size while the last checkpoint is written beside the earlier ones and the former `latest`."""
    return 2 * one.total + (size_at_end(one, count - 1) if count > 1 else 0)


def compare_disk(
    folder: Path | str, one: CheckpointSize, count: Callable[[int], int], save_epoch_freq: int, best: bool = False
) -> DiskForecast:
    """Compare the checkpoints to come with the free space; `count(n)` is their number for --save_epoch_freq n.

    With `best` there is one more checkpoint, with a full state.
    """
    elsewhere = "free some space, or --checkpoints_dir on another disk"
    try:
        free = free_space(folder)
    except UserError as error:
        return DiskForecast("FAIL", str(error), elsewhere)

    def needed(freq: int) -> int:
        return largest_size(one, count(freq)) + best * one.total

    text = (
        f"{count(save_epoch_freq)} numbered checkpoints ({format_bytes(one.networks)} each) and the latest training "
        f"state ({format_bytes(one.state)}) need up to {format_bytes(needed(save_epoch_freq))}; "
        f"{format_bytes(free)} free for {folder}"
    )
    if free < one.total:
        return DiskForecast("FAIL", f"{text}: not even one fits", elsewhere)
    if free >= needed(save_epoch_freq):
        return DiskForecast("ok", text)
    rarer = next((n for n in (2**k * save_epoch_freq for k in range(1, 16)) if needed(n) <= free), None)
    return DiskForecast("warn", text, (f"--save_epoch_freq {rarer}, or " if rarer else "") + elsewhere)


def forecast_disk(opt, model, images: int) -> DiskForecast:
    """Compare the checkpoints that training by `opt` has yet to save with the free space; an epoch has `images`."""
    first, last = model.progress.epoch, opt.n_epochs + opt.n_epochs_decay
    every_iters, step = opt.save_latest_freq if opt.save_by_iter else 0, opt.batch_size * processes.world_size()
    return compare_disk(
        Path(opt.checkpoints_dir) / opt.name,
        checkpoint_size(model, opt.crop_size),
        lambda save_epoch_freq: count_checkpoints(first, last, save_epoch_freq, images, step, every_iters),
        opt.save_epoch_freq,
        best=bool(watched_metric(opt)),
    )


def check_disk(opt, model, images: int) -> None:
    """Before training, raise UserError if not even one checkpoint fits on the disk, and warn if not all do.

    Every process calls this; the main one, which saves, examines the disk.
    """
    forecast = processes.from_main(forecast_disk(opt, model, images) if processes.is_main() else None)
    if forecast.level == "FAIL":
        raise UserError(f"{forecast.text}; {forecast.advice}")
    if forecast.level == "warn":
        warn(f"{forecast.text}; {forecast.advice}")
