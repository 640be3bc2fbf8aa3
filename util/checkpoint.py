"""Networks and training state on disk.

A set of files `{prefix}_net_{N}.pth` (bare state dicts on the CPU) and `{prefix}_state.pth` (all else needed to go on).
Every file is written beside its name (`.new`), synced, and then renamed. Renaming the state file, which holds the
networks' SHA-256 sums, commits the set: a reader takes the file whose sum fits, renamed or not yet.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
from pathlib import Path

import torch
import torch.nn as nn

from util.util import UserError, did_you_mean, warn

SLIM_BYTES = 100_000  # a state file without moments and pools is smaller than this


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


def _sum(value) -> str:
    """Return the SHA-256 that the file of `value` would have."""
    hashing = _Hashing(io.BytesIO())
    torch.save(value, hashing)
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


def read(path: Path, peek: bool = False):
    """Load a file of tensors and plain values on the CPU, running none of its code.

    `peek` leaves the tensors on the disk until they are used. Raises UserError, naming the file and saying what it
    seems to be, if it is damaged or holds anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=peek or None)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # torch raises many kinds, whose texts advise to load without the safety
        with path.open("rb") as file:
            head = file.read(64).lstrip()
        if not head:
            reason = "it is empty"
        elif head.startswith(b"<"):
            reason = "it is a web page, not a network; download it again"
        elif isinstance(error, pickle.UnpicklingError) and "Unsupported" in str(error):
            reason = (
                "it holds more than tensors and plain values, which is not loaded for safety; save net.state_dict()"
            )
        else:
            reason = "it is damaged, cut short, or no PyTorch file"
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
        if isinstance(value, torch.Tensor):  # a network of the user's own may keep other things
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
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._save(prefix, networks, state)
        except OSError as error:
            for path in self.folder.glob(f"{prefix}_*.new"):
                path.unlink(missing_ok=True)
            raise UserError(
                f"{prefix} can't be saved in {self.folder}: {error.strerror or error}. What was saved before is intact"
            ) from error

    def _save(self, prefix: str, networks: dict[str, nn.Module], state: dict) -> None:
        paths = {name: self.net_path(prefix, name) for name in networks}
        # The weights tell whether this is a second name for the last set: a user's own loop need not count progress.
        same = self.last and self.last[0] == state["progress"] and self.last[1] != prefix
        if same and self.last[2] == {name: _sum(weights(net)) for name, net in networks.items()}:
            _, old, sums = self.last
            for name, path in paths.items():
                _link_new(self.net_path(old, name), path)
            _link_new(self.state_path(old), self.state_path(prefix))
        else:
            sums = {name: _write_new(path, weights(networks[name])) for name, path in paths.items()}
            _write_new(self.state_path(prefix), {**state, "networks": sums})
        _rename(self.state_path(prefix))  # the set is committed here
        for path in paths.values():
            _rename(path)
        _sync_folder(self.folder)
        self.last = (state["progress"], prefix, sums)
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

    def load_state(self, prefix: str, peek: bool = False) -> dict | None:
        """Return the training state of a set, None if it has none (networks of the reference project or a download)."""
        path = self.state_path(prefix)
        return read(path, peek) if path.is_file() else None

    def load_networks(self, prefix: str, networks: dict[str, nn.Module]) -> None:
        """Load a set's networks in place, the ones that belong together.

        Raises UserError when a file is missing, damaged, from another save, or of another architecture.
        """
        sums = (self.load_state(prefix, peek=True) or {}).get("networks", {})
        if not sums and torch.__version__ < "2.10":  # CVE-2026-24747
            warn(f"{prefix} was not saved by this project; with PyTorch below 2.10, load only files that you trust")
        for name, net in networks.items():
            path = self.net_path(prefix, name)
            if name in sums and _digest(path) != sums[name]:
                if _digest(_new(path)) != sums[name]:
                    self._complain(path, prefix, sums)
                path = _new(path)  # stopped between the commit and this file's renaming
            if not path.is_file():
                sides = [side for side in ("_A", "_B") if self.net_path(prefix, name + side).is_file()]
                hint = f". Add --model_suffix {' or '.join(sides)} to choose a direction" if sides else ""
                raise UserError(f"{path} does not exist; {self.contents()}{hint}")
            print(f"loading the model from {path}")
            load_weights(unwrap(net), read(path), path)

    def _complain(self, path: Path, prefix: str, sums: dict) -> None:
        if not path.is_file():
            raise UserError(
                f"{path} is missing, and {self.state_path(prefix).name} was saved with it; {self.contents()}"
            )
        raise UserError(
            f"{path} has other content than what {self.state_path(prefix).name} was saved with: it was damaged or "
            f"replaced. To use the network files as they are, delete {self.state_path(prefix)}"
        )

    def contents(self) -> str:
        """Say which networks lie in the folder."""
        names = sorted(path.name for path in self.folder.glob("*_net_*.pth"))
        if not self.folder.is_dir():
            others = [path.name for path in self.folder.parent.glob("*/") if any(path.glob("*_net_*.pth"))]
            hint = did_you_mean(self.folder.name, others)
            return f"there is no folder {self.folder}.{hint} Experiments: {', '.join(sorted(others)) or 'none'}"
        if not names:
            return f"{self.folder} holds no networks"
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return f"{self.folder} holds {', '.join(names[:8])}{more}"

    def newest_epoch(self) -> int | None:
        """Return the greatest epoch number among the saved networks."""
        epochs = [path.name.split("_net_")[0] for path in self.folder.glob("*_net_*.pth")]
        return max((int(epoch) for epoch in epochs if epoch.isdigit()), default=None)


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
    values = list(state.values()) if isinstance(state, dict) else []
    if any(isinstance(v, dict) for v in values) or not any(isinstance(v, torch.Tensor) for v in values):
        inside = f"; it holds {', '.join(map(str, list(state)[:5]))}" if values else ""
        raise UserError(f"{path} holds no state dict (names with tensors){inside}")
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
    mine = {key: tuple(getattr(value, "shape", ())) for key, value in net.state_dict().items()}
    theirs = {key: tuple(getattr(value, "shape", ())) for key, value in state.items()}
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
