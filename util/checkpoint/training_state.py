"""What a run needs to go on, besides its networks: counters, optimizers, plateaus, image pools."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from util.checkpoint.checkpointer import SaveError
from util.errors import DataError, UserError, warn
from util.image_pool import ImagePool
from util.runtime import processes

FORMAT = 1  # of the state; a greater one is refused


@dataclass
class Progress:
    """How far training is. All counts are over all processes."""

    epoch: int = 1  # the epoch in training
    epoch_iter: int = 0  # its images trained on so far
    total_iters: int = 0  # images trained on since the first epoch
    step: int = 0  # images of the last step

    def advance(self, images: int, begins: bool = True) -> None:
        """Count the images of one batch, which begins a step of the optimizers or belongs to one (`--grad_accum`)."""
        self.step = images + (0 if begins else self.step)
        self.epoch_iter += images
        self.total_iters += images

    def passed(self, every: int) -> bool:
        """Whether the last step reached or passed a multiple of `every` images, so that no batch size skips one."""
        return every > 0 and self.total_iters // every > (self.total_iters - self.step) // every

    def next_epoch(self) -> None:
        """Stand at the beginning of the next epoch."""
        self.epoch, self.epoch_iter = self.epoch + 1, 0


class Best(NamedTuple):
    """The best epoch so far (util.monitor.validation)."""

    metric: str
    value: float
    epoch: int


def collect(model) -> dict:
    """Return counters, optimizers, plateaus and all processes' pools as plain values and CPU tensors.

    The learning rate needs no state: it follows from the epoch's number. Every process calls this.
    """
    progress = model.progress
    plateaus = [
        {"lr": [group["lr"] for group in s.optimizer.param_groups], "state": _plain(s.state_dict())}
        for s in model.schedulers
        if isinstance(s, ReduceLROnPlateau)
    ]
    return {
        "format": FORMAT,
        "progress": [progress.epoch, progress.epoch_iter, progress.total_iters],
        "optimizers": [_plain(optimizer.state_dict()) for optimizer in model.optimizers],
        "plateaus": plateaus,
        "metric": _plain(vars(model).get("metric")),
        "best": _plain(getattr(model, "best_so_far", None)),
        "scale": model.scale.state() if getattr(model, "scale", None) else None,
        "pools": processes.gather({name: pool.state_dict() for name, pool in _pools(model).items()}),
    }


def restore(model, prefix: str) -> dict:
    """Bring a model's counters, optimizers and pools to where a set was saved; return the set's state.

    With `--epoch_count N` training goes on as epoch N. The rates and betas of this run's flags win over the saved ones.
    Raises UserError when the set does not tell its epoch and no `--epoch_count` does.
    """
    opt, given = model.opt, "epoch_count" in getattr(model.opt, "given", ())
    state = model.checkpoints.load_state(prefix)
    if state is None and not given:
        newest = model.checkpoints.newest_epoch()
        raise UserError(
            f"{model.checkpoints.state_path(prefix)} does not exist, so nothing tells where training stopped. "
            f"Add --epoch_count N, the number of the first epoch to train"
            + (f" (the newest numbered networks are of epoch {newest}: --epoch_count {newest + 1})" if newest else "")
        )
    if state is not None:
        _check(state, model.checkpoints.state_path(prefix))
    if state is None or state.get("slim"):
        warn(f"{prefix}: only weights were saved; the optimizers' moments and the image pools start afresh")
    state = state or {"progress": [opt.epoch_count, 0, 0]}
    epoch, epoch_iter, total_iters = state["progress"]
    model.progress = Progress(opt.epoch_count, 0, total_iters) if given else Progress(epoch, epoch_iter, total_iters)
    opt.epoch_count = model.progress.epoch  # where the learning rate stands
    if saved := state.get("optimizers"):
        _restore_optimizers(model.optimizers, saved, model.checkpoints.state_path(prefix))
    if pools := state.get("pools"):
        _restore_pools(_pools(model), pools, model.device)
    if state.get("metric") is not None:
        model.metric = state["metric"]
    if state.get("best"):
        model.best_so_far = Best(*state["best"])
    if getattr(model, "scale", None) and state.get("scale"):
        model.scale.restore(state["scale"])
    return state


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, torch.Tensor) and value.numel() == 1)


def _is_count(value) -> bool:
    return type(value) is int and value >= 0


def _is_plateau(value) -> bool:
    *numbers, rates = (value["state"][name] for name in PLATEAU)
    return _listed(_is_number, numbers + rates + value["lr"])


def _is_pool(value) -> bool:
    images = value["images"]
    return _listed(lambda image: image.ndim == 4 and image.is_floating_point(), images)


def _is_best(metric, value, epoch) -> bool:
    return isinstance(metric, str) and _is_number(value) and _is_count(epoch)


def _listed(fits, value) -> bool:
    """Whether a value is a list of things that fit."""
    return isinstance(value, list) and all(map(fits, value))


PLATEAU = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")  # what changes in its scheduler
# What `collect` writes, as far as it could otherwise go wrong long after it was loaded.
PARTS = {
    "progress": lambda value: _listed(_is_count, value) and len(value) == 3 and value[0] > 0,
    "optimizers": lambda value: _listed(lambda saved: all(isinstance(v, dict) for v in saved["state"].values()), value),
    "plateaus": lambda value: _listed(_is_plateau, value),
    "metric": lambda value: value is None or _is_number(value),
    "best": lambda value: value is None or _is_best(*value),
    "scale": lambda value: value is None or (_listed(_is_number, value) and len(value) == 2),
    "slim": lambda value: type(value) is bool,
    "pools": lambda value: _listed(lambda pools: all(map(_is_pool, pools.values())), value),
}


def _check(state: dict, path: Path) -> None:
    """Refuse a state that no run of this program saved."""
    if type(state.get("format")) is int and state["format"] > FORMAT:
        raise UserError(f"{path} was written by a newer version of this program; update it to go on with this training")
    wrong = [] if "progress" in state else ["progress"]
    for name in PARTS.keys() & state.keys():
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            if PARTS[name](state[name]):
                continue
        wrong.append(name)
    if wrong:
        raise UserError(
            f"{path} is no training state of this program: {', '.join(wrong)} can't be made sense of. "
            "Delete it, and add --epoch_count N to go on with the weights alone"
        )


def _restore_optimizers(optimizers: list, saved: list[dict], path: Path) -> None:
    try:
        for optimizer, old in zip(optimizers, saved, strict=True):
            # A new run's flags (lr, betas, fused, capturable) win; the moments are the old run's.
            _check_moments(optimizer, old["state"])
            fresh = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": old["state"], "param_groups": fresh})
            _lay_out_moments(optimizer)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path} has other optimizers than this model ({error}); delete it to start new ones"
        ) from error


def _check_moments(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Raise an error if Adam's moments are not of their parameters' shapes, which its steps take for granted."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in state.items() if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)) else ():
        shapes = {values[name].shape for name in ("exp_avg", "exp_avg_sq")}
        if shapes != {parameters[index].shape} or not _is_number(values["step"]):
            raise ValueError(f"parameter {index} is {tuple(parameters[index].shape)} here")


def _lay_out_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give moments the memory layout of their parameters; a fused optimizer on a CPU takes that for granted."""
    for p, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == p.shape and value.stride() != p.stride():
                values[name] = torch.empty_like(p, dtype=value.dtype, requires_grad=False).copy_(value)


def restore_plateaus(schedulers: list, saved: list[dict]) -> None:
    """Bring plateau schedulers to where they were; others, and a policy that has changed since, are left alone."""
    if len(saved) == len(schedulers):
        for scheduler, old in zip(schedulers, saved, strict=True):
            if isinstance(scheduler, ReduceLROnPlateau) and len(old["lr"]) == len(scheduler.optimizer.param_groups):
                scheduler.load_state_dict({name: old["state"][name] for name in PLATEAU})
                for group, lr in zip(scheduler.optimizer.param_groups, old["lr"], strict=True):
                    group["lr"] = lr


def _pools(model) -> dict[str, ImagePool]:
    return {name: value for name, value in vars(model).items() if isinstance(value, ImagePool)}


def _restore_pools(pools: dict[str, ImagePool], saved: list[dict], device: torch.device) -> None:
    """Give each process its own pool back; another number of processes deals all images out anew."""
    rank, size = processes.rank(), processes.world_size()
    for name, pool in pools.items():
        if len(saved) == size:
            mine = saved[rank].get(name, {"images": []})
        else:
            mine = {"images": [image for old in saved for image in old.get(name, {"images": []})["images"]][rank::size]}
        pool.load_state_dict(mine, device)


def _plain(value):
    """Turn a state dict into what `weights_only` loads: plain values, and tensors on the CPU with their own storage."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone().contiguous()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return value


class Saver:
    """Save a model while it trains. A save that fails is told and training goes on; the next one may succeed.

    `with Saver(model) as save:` ... `save("latest")`. At the end a failure that no later save has made good is raised.
    If an image can't be read, what was trained until then is saved.
    """

    def __init__(self, model, before: Callable[[], None] = lambda: None):
        """Save `model`; `before` is called first, to have on disk what would not come again."""
        self.model, self.before = model, before
        self.failed: SaveError | None = None  # the last save's error
        self.done: tuple | None = None  # what was saved last

    def __call__(self, prefix: str | int) -> None:
        """Save networks and training state under a prefix, once for the same progress; every process calls this."""
        this = (prefix, self.model.progress.epoch, self.model.progress.total_iters)
        if this == self.done:
            return
        self.before()
        try:
            self.model.save_networks(prefix)
            self.failed, self.done = None, this
        except SaveError as error:
            self.failed = error
            warn(f"{error}. Training goes on, and the next save will try again")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind and issubclass(kind, DataError) and processes.world_size() == 1 and self.model.step_part.last:
            self("latest")
            if not self.failed:
                warn("training was saved as it is; with the data mended, --continue_train goes on from here")
        if self.failed and kind in (None, SystemExit):
            raise self.failed
