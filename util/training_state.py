"""What a run needs to go on, besides its networks: counters, optimizers, plateaus, image pools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from util import runtime
from util.image_pool import ImagePool
from util.util import UserError, warn


@dataclass
class Progress:
    """How far training is. All counts are over all processes."""

    epoch: int = 1  # the epoch in training
    epoch_iter: int = 0  # its images trained on so far
    total_iters: int = 0  # images trained on since the first epoch
    step: int = 0  # images of the last step

    def advance(self, images: int) -> None:
        """Count one training step."""
        self.step = images
        self.epoch_iter += images
        self.total_iters += images

    def passed(self, every: int) -> bool:
        """Whether the last step reached or passed a multiple of `every` images, so that no batch size skips one."""
        return every > 0 and self.total_iters // every > (self.total_iters - self.step) // every

    def next_epoch(self) -> None:
        """Stand at the beginning of the next epoch."""
        self.epoch, self.epoch_iter = self.epoch + 1, 0


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
        "format": 1,
        "progress": [progress.epoch, progress.epoch_iter, progress.total_iters],
        "optimizers": [_plain(optimizer.state_dict()) for optimizer in model.optimizers],
        "plateaus": plateaus,
        "metric": _plain(vars(model).get("metric")),
        "pools": runtime.gather({name: pool.state_dict() for name, pool in _pools(model).items()}),
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
    return state


def _restore_optimizers(optimizers: list, saved: list[dict], path: Path) -> None:
    try:
        for optimizer, old in zip(optimizers, saved, strict=True):
            # A new run's flags (lr, betas, fused, capturable) win; the moments are the old run's.
            fresh = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": old["state"], "param_groups": fresh})
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{path} has other optimizers than this model ({error}); delete it to start new ones"
        ) from error


def restore_plateaus(schedulers: list, saved: list[dict]) -> None:
    """Bring plateau schedulers to where they were; others, and a policy that has changed since, are left alone."""
    if len(saved) == len(schedulers):
        for scheduler, old in zip(schedulers, saved, strict=True):
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.load_state_dict(old["state"])
                for group, lr in zip(scheduler.optimizer.param_groups, old["lr"], strict=True):
                    group["lr"] = lr


def _pools(model) -> dict[str, ImagePool]:
    return {name: value for name, value in vars(model).items() if isinstance(value, ImagePool)}


def _restore_pools(pools: dict[str, ImagePool], saved: list[dict], device: torch.device) -> None:
    """Give each process its own pool back; another number of processes deals all images out anew."""
    rank, size = runtime.rank(), runtime.world_size()
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
