"""Networks and training state on disk.

A set of files `{prefix}_net_{N}.pth` (bare state dicts on the CPU) and `{prefix}_state.pth` (all else needed to go on).
Every file is written beside its name (`.new`), synced, and then renamed. Renaming the state file, which holds the
networks' SHA-256 sums, commits the set: a reader takes the file whose sum fits, renamed or not yet.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from util import runtime
from util.image_pool import ImagePool
from util.util import UserError, warn

SLIM_BYTES = 100_000  # a state file without moments and pools is smaller than this


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


# ---- one file ----


class _Hashing:
    """A file to write to, which sums up what it was given (not what the disk made of it)."""

    def __init__(self, file):
        self.file, self.sha = file, hashlib.sha256()

    def write(self, data):
        self.sha.update(data)
        return self.file.write(data)

    def flush(self):
        self.file.flush()


def _new(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _write_new(path: Path, value) -> str:
    """Write `value` beside `path`, synced to the disk; return its SHA-256."""
    with _new(path).open("wb") as file:
        hashing = _Hashing(file)
        torch.save(value, hashing)
        file.flush()
        os.fsync(file.fileno())
    return hashing.sha.hexdigest()


def _rename(path: Path) -> None:
    _new(path).replace(path)


def _sync_folder(folder: Path) -> None:
    """Make renames in the folder durable, where the system lets a folder be synced."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _digest(path: Path) -> str | None:
    """Return a file's SHA-256, None if there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        sha = hashlib.sha256()
        while block := file.read(1 << 20):
            sha.update(block)
        return sha.hexdigest()


def read(path: Path):
    """Load a file of tensors and plain values on the CPU, running none of its code.

    Raises UserError, naming the file, if it is damaged or holds anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"{path} can't be loaded as PyTorch weights: {reason}") from error


# ---- a set ----


def unwrap(net: nn.Module) -> nn.Module:
    """Return the network inside DistributedDataParallel, DataParallel or torch.compile."""
    while True:
        inner = getattr(net, "_orig_mod", None) or (net.module if "Parallel" in type(net).__name__ else None)
        if inner is None:
            return net
        net = inner


def weights(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict of a network, without wrappers, on the CPU."""
    state = unwrap(net).state_dict()
    for key, value in state.items():
        state[key] = value.detach().cpu()
    return state


class Checkpointer:
    """Write and read the sets of one experiment's folder."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.last: tuple | None = None  # what was saved last, and under which prefix

    def net_path(self, prefix: str, name: str) -> Path:
        """Return where network `name` of a set lies."""
        return self.folder / f"{prefix}_net_{name}.pth"

    def state_path(self, prefix: str) -> Path:
        """Return where the training state of a set lies."""
        return self.folder / f"{prefix}_state.pth"

    def save(self, prefix: str, networks: dict[str, nn.Module], state: dict) -> None:
        """Save networks and state as one set, which appears whole or not at all.

        A second prefix for the same progress becomes hard links. Older numbered sets keep their networks and counters
        but lose the bulk of their state (optimizer moments, pools).
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = [self.net_path(prefix, name) for name in networks]
        # The weights tell whether it is a second prefix: a user's own loop does not keep count in `progress`.
        sums = {name: _write_new(self.net_path(prefix, name), weights(net)) for name, net in networks.items()}
        key = (state["progress"], sums)
        if self.last and self.last[0] == key and self.last[1] != prefix:
            old = self.last[1]
            for path, name in zip(paths, networks, strict=True):
                _link_new(self.net_path(old, name), path)
            _link_new(self.state_path(old), self.state_path(prefix))
        else:
            _write_new(self.state_path(prefix), {**state, "networks": sums})
        _rename(self.state_path(prefix))  # the set is committed here
        for path in paths:
            _rename(path)
        _sync_folder(self.folder)
        self.last = (key, prefix)
        self._slim(prefix)

    def _slim(self, newest: str) -> None:
        """Drop the bulk of the state of numbered sets older than `newest`."""
        if not newest.removeprefix("iter_").isdigit():
            return
        for path in self.folder.glob("*_state.pth"):
            prefix = path.name.removesuffix("_state.pth")
            numbered = prefix.removeprefix("iter_").isdigit()
            if numbered and prefix != newest and path.stat().st_size > SLIM_BYTES:
                state = read(path)
                bulk = ("optimizers", "pools")
                _write_new(path, {**{k: v for k, v in state.items() if k not in bulk}, "slim": True})
                _rename(path)

    def load_state(self, prefix: str) -> dict | None:
        """Return the training state of a set, None if it has none (networks of the reference project or a download)."""
        path = self.state_path(prefix)
        return read(path) if path.is_file() else None

    def load_networks(self, prefix: str, networks: dict[str, nn.Module]) -> None:
        """Load a set's networks in place, the ones that belong together.

        Raises UserError when a file is missing, damaged, from another save, or of another architecture.
        """
        sums = (self.load_state(prefix) or {}).get("networks", {})
        for name, net in networks.items():
            path = self.net_path(prefix, name)
            if name in sums and _digest(path) != sums[name]:
                if _digest(_new(path)) != sums[name]:
                    self._complain(path, prefix, sums)
                path = _new(path)  # stopped between the commit and this file's renaming
            if not path.is_file():
                raise UserError(f"{path} does not exist; {self.contents()}")
            print(f"loading the model from {path}")
            load_weights(unwrap(net), read(path), path)

    def _complain(self, path: Path, prefix: str, sums: dict) -> None:
        what = "has other content than" if path.is_file() else "is missing beside"
        raise UserError(
            f"{path} {what} what {self.state_path(prefix).name} was saved with: it was damaged, replaced or deleted. "
            f"To use the network files as they are, delete {self.state_path(prefix)}"
        )

    def contents(self) -> str:
        """Say which networks lie in the folder."""
        names = sorted(path.name for path in self.folder.glob("*_net_*.pth"))
        if not names:
            return f"{self.folder} holds no networks" if self.folder.is_dir() else f"there is no folder {self.folder}"
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return f"{self.folder} holds {', '.join(names[:8])}{more}"

    def newest_epoch(self) -> int | None:
        """Return the greatest epoch number among the saved networks."""
        epochs = [path.name.split("_net_")[0] for path in self.folder.glob("*_net_*.pth")]
        return max((int(epoch) for epoch in epochs if epoch.isdigit()), default=None)


# ---- what a run needs to go on, besides its networks ----


def training_state(model) -> dict:
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
        "metric": _plain(model.metric),
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
    model.metric = state.get("metric", model.metric)
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
    if isinstance(value, np.generic):
        return value.item()
    return value


def _link_new(source: Path, target: Path) -> None:
    """Give a saved file a second name beside its target; a copy where the file system has no hard links."""
    _new(target).unlink(missing_ok=True)
    try:
        os.link(source, _new(target))
    except OSError:
        shutil.copyfile(source, _new(target))


# ---- weights into a network ----


def load_weights(net: nn.Module, state: dict, path: Path | str) -> None:
    """Load a state dict of any age into a network: `module.` prefixes and old instance norms' statistics are removed.

    Raises UserError when the architecture differs.
    """
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path} holds no state dict (names with tensors)")
    for prefix in ("module.", "_orig_mod."):
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    state = dict(state)  # and no _metadata, whose versions would have torch skip the counters of norms
    for name, module in net.named_modules():
        if type(module).__name__.startswith("InstanceNorm"):  # written before PyTorch 0.4
            for stat in ("running_mean", "running_var"):
                if getattr(module, stat, None) is None:
                    state.pop(f"{name}.{stat}", None)
            state.pop(f"{name}.num_batches_tracked", None)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(_explain_mismatch(net, state, path)) from error


def _explain_mismatch(net: nn.Module, state: dict, path: Path | str) -> str:
    mine = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in state.items()}
    lines = [f"{path} is of another architecture than the network it should fill:"]
    shapes = [f"{k}: {theirs[k]} in the file, {mine[k]} here" for k in mine if k in theirs and mine[k] != theirs[k]]
    for title, found in (
        ("of another shape", shapes),
        ("only in the file", [key for key in theirs if key not in mine]),
        ("only here", [key for key in mine if key not in theirs]),
    ):
        if found:
            lines.append(
                f"  {title}: {'; '.join(found[:3])}" + (f" and {len(found) - 3} more" if len(found) > 3 else "")
            )
    lines.append(
        "Give the flags that it was trained with: --netG, --netD, --norm, --ngf, --ndf, --input_nc, --output_nc, "
        "and --no_dropout if it has no dropout (CycleGAN's have none)"
    )
    return "\n".join(lines)
