"""The training state: everything besides the networks that resuming needs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from util.checkpoint.progress import Best, Progress
from util.errors import UserError, warn
from util.image_pool import ImagePool
from util.runtime import processes
from util.runtime.run_facts import run_facts

FORMAT = 1  # of the state; loading refuses a greater one


def get_training_state(model) -> dict:
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


def restore_training_state(model, prefix: str) -> dict:
    """Set a model's counters, optimizers and pools to those of a checkpoint; return the checkpoint's state.

    With `--epoch_count N` training continues as epoch N. This run's learning rates and betas win over the saved ones.
    Raises UserError when neither the checkpoint nor `--epoch_count` gives the epoch.
    """
    opt, given = model.opt, "epoch_count" in run_facts(model.opt).typed
    state = model.checkpoints.load_state(prefix)
    path = model.checkpoints.state_path(prefix)
    if state is None and not given:
        newest = model.checkpoints.newest_epoch()
        hint = f" (the newest numbered networks are of epoch {newest}: --epoch_count {newest + 1})" if newest else ""
        raise UserError(
            f"{path} does not exist, so the epoch to resume from is unknown. "
            f"Add --epoch_count N, the number of the first epoch to train{hint}"
        )
    if state is not None:
        _check(state, path)
    if state is None or state.get("slim"):
        warn(f"{prefix}: only weights were saved; the optimizers' moments and the image pools start empty")
    state = state or {"progress": [opt.epoch_count, 0, 0]}
    epoch, epoch_iter, total_iters = state["progress"]
    model.progress = Progress(opt.epoch_count, 0, total_iters) if given else Progress(epoch, epoch_iter, total_iters)
    opt.epoch_count = model.progress.epoch  # the schedulers start there
    if saved := state.get("optimizers"):
        _restore_optimizers(model.optimizers, saved, path)
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
# Checks of the values that would otherwise fail long after loading.
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
    """Raise UserError for a state that no run of this program saved."""
    if type(state.get("format")) is int and state["format"] > FORMAT:
        raise UserError(f"{path} was written by a newer version of this program; update the program to resume")
    wrong = [] if "progress" in state else ["progress"]
    for name in PARTS.keys() & state.keys():
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            if PARTS[name](state[name]):
                continue
        wrong.append(name)
    if wrong:
        raise UserError(
            f"{path} is no training state of this program: {', '.join(wrong)} can't be used. "
            "Delete it, and add --epoch_count N to resume with the weights alone"
        )


def _restore_optimizers(optimizers: list, saved: list[dict], path: Path) -> None:
    try:
        for optimizer, old in zip(optimizers, saved, strict=True):
            # This run's options win (lr, betas, fused, capturable); the moments come from the file.
            _check_moments(optimizer, old["state"])
            fresh = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": old["state"], "param_groups": fresh})
            _lay_out_moments(optimizer)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path} has other optimizers than this model ({error}); delete it to start new ones"
        ) from error


def _check_moments(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Raise an error if Adam's moments differ in shape from their parameters, which its steps do not check."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in state.items() if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)) else ():
        shapes = {values[name].shape for name in ("exp_avg", "exp_avg_sq")}
        if shapes != {parameters[index].shape} or not _is_number(values["step"]):
            raise ValueError(f"parameter {index} is {tuple(parameters[index].shape)} here")


def _lay_out_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give moments the memory layout of their parameters, which a fused optimizer on a CPU expects."""
    for p, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == p.shape and value.stride() != p.stride():
                values[name] = torch.empty_like(p, dtype=value.dtype, requires_grad=False).copy_(value)


def restore_plateau_schedulers(schedulers: list, saved: list[dict]) -> None:
    """Restore plateau schedulers; leave other schedulers alone, and all of them if the policy has changed."""
    if len(saved) == len(schedulers):
        for scheduler, old in zip(schedulers, saved, strict=True):
            if isinstance(scheduler, ReduceLROnPlateau) and len(old["lr"]) == len(scheduler.optimizer.param_groups):
                scheduler.load_state_dict({name: old["state"][name] for name in PLATEAU})
                for group, lr in zip(scheduler.optimizer.param_groups, old["lr"], strict=True):
                    group["lr"] = lr


def _pools(model) -> dict[str, ImagePool]:
    return {name: value for name, value in vars(model).items() if isinstance(value, ImagePool)}


def _restore_pools(pools: dict[str, ImagePool], saved: list[dict], device: torch.device) -> None:
    """Give each process its own pool back; another number of processes redistributes all images."""
    rank, size = processes.rank(), processes.world_size()
    for name, pool in pools.items():
        if len(saved) == size:
            mine = saved[rank].get(name, {"images": []})
        else:
            mine = {"images": [image for old in saved for image in old.get(name, {"images": []})["images"]][rank::size]}
        pool.load_state_dict(mine, device)


def _plain(value):
    """Copy a state dict into what `weights_only` loads: plain values, and CPU tensors with their own storage."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone().contiguous()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return value
