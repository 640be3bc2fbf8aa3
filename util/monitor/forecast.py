"""The disk space that a run's checkpoints will need, compared with the free space before training. Sizes are bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils._pytree import tree_leaves

from util.errors import UserError, format_bytes, warn
from util.image_pool import ImagePool
from util.monitor.validation import watched_metric
from util.runtime import processes
from util.runtime.machine import free_space


class DiskForecast(NamedTuple):
    """Whether the checkpoints to come will fit."""

    level: str  # ok, warn (not all), or FAIL (not even one)
    text: str
    fix: str = ""  # what to type or do


class SetSize(NamedTuple):
    """The sizes of one checkpoint's files."""

    networks: int
    state: int  # moments, pools, counters
    slim: int = 3000  # the state file of an older numbered checkpoint

    @property
    def whole(self) -> int:
        return self.networks + self.state


def saved_size(values) -> int:
    """Return the size of the file that torch.save makes of nested `values`; tensors may be on the meta device."""
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    file = io.BytesIO()
    torch.save(_without_data(values), file)
    return file.tell() + sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _without_data(value):
    if isinstance(value, torch.Tensor):
        return torch.empty(0, dtype=value.dtype)
    if isinstance(value, dict):
        return {key: _without_data(item) for key, item in value.items()}
    return [_without_data(item) for item in value] if isinstance(value, (list, tuple)) else value


def set_size(model, crop_size: int) -> SetSize:
    """Return the sizes of a model's checkpoint: networks, Adam's moments, full image pools."""
    averages = [average.module for average in getattr(model, "averages", {}).values()]
    networks = sum(saved_size(dict(net.state_dict())) for net in [*model.networks().values(), *averages])
    groups = [group for optimizer in model.optimizers for group in optimizer.param_groups]
    moments = [[torch.empty(()), p, p] for group in groups for p in group["params"] if p.requires_grad]
    channels = max(model.opt.input_nc, model.opt.output_nc)
    image = torch.empty(1, channels, crop_size, crop_size, device="meta")
    pools = [value for value in vars(model).values() if isinstance(value, ImagePool)]
    images = sum(pool.pool_size for pool in pools) * processes.world_size()
    each = saved_size([image, image]) - saved_size([image])
    return SetSize(networks, SetSize._field_defaults["slim"] + saved_size([moments]) + images * each)


def count_sets(
    first_epoch: int, last_epoch: int, save_epoch_freq: int, images: int = 0, step: int = 1, every_iters: int = 0
) -> int:
    """Count the numbered checkpoints that the epochs from `first_epoch` on save.

    `every_iters` (--save_by_iter) adds those named iter_N: an epoch has `images` images, a step takes `step`.
    """
    epochs = last_epoch // save_epoch_freq - (first_epoch - 1) // save_epoch_freq + (last_epoch % save_epoch_freq > 0)
    steps = -(-images // step) * (last_epoch - first_epoch + 1)
    return epochs + (min(steps * step // every_iters, steps) if every_iters else 0)


def disk_at_end(one: SetSize, sets: int) -> int:
    """Return the size of all checkpoints after training, when `latest` is a second name of the last numbered one."""
    return sets * one.networks + (sets - 1) * one.slim + one.state


def disk_at_most(one: SetSize, sets: int) -> int:
    """Return their size while the last is written, beside the numbered ones and the former `latest`."""
    return 2 * one.whole + (disk_at_end(one, sets - 1) if sets > 1 else 0)


def compare_disk(
    folder: Path | str, one: SetSize, sets_by: Callable[[int], int], save_epoch_freq: int, best: bool = False
) -> DiskForecast:
    """Compare the checkpoints to come with the free space; `sets_by(n)` counts them for --save_epoch_freq n.

    With `best` there is one more, with its whole state.
    """
    elsewhere = "free some space, or --checkpoints_dir on another disk"
    try:
        free = free_space(folder)
    except UserError as error:
        return DiskForecast("FAIL", str(error), elsewhere)
    sets = sets_by(save_epoch_freq)
    need = disk_at_most(one, sets) + best * one.whole
    text = (
        f"{sets} numbered checkpoints ({format_bytes(one.networks)} each) and the latest training state "
        f"({format_bytes(one.state)}) need up to {format_bytes(need)}; {format_bytes(free)} free for {folder}"
    )
    if free < one.whole:
        return DiskForecast("FAIL", f"{text}: not even one fits", elsewhere)
    if free >= need:
        return DiskForecast("ok", text)
    fitting = (2**k * save_epoch_freq for k in range(1, 16))
    rarer = next((n for n in fitting if disk_at_most(one, sets_by(n)) + best * one.whole <= free), None)
    return DiskForecast("warn", text, (f"--save_epoch_freq {rarer}, or " if rarer else "") + elsewhere)


def forecast_disk(opt, model, images: int) -> DiskForecast:
    """Compare the checkpoints that a run has yet to save with the free space; an epoch has `images` images."""
    first, last = model.progress.epoch, opt.n_epochs + opt.n_epochs_decay
    every_iters, step = opt.save_latest_freq if opt.save_by_iter else 0, opt.batch_size * processes.world_size()
    return compare_disk(
        Path(opt.checkpoints_dir) / opt.name,
        set_size(model, opt.crop_size),
        lambda save_epoch_freq: count_sets(first, last, save_epoch_freq, images, step, every_iters),
        opt.save_epoch_freq,
        best=bool(watched_metric(opt)),
    )


def check_disk(opt, model, images: int) -> None:
    """Before training: raise UserError if not even one checkpoint fits on the disk, warn if not all do.

    Every process calls this; the main one, which will save, compares.
    """
    forecast = processes.from_main(forecast_disk(opt, model, images) if processes.is_main() else None)
    if forecast.level == "FAIL":
        raise UserError(f"{forecast.text}; {forecast.fix}")
    if forecast.level == "warn":
        warn(f"{forecast.text}; {forecast.fix}")
