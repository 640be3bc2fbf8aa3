"""Networks and training state on disk.

A set of files `{prefix}_net_{N}.pth` (bare state dicts on the CPU) and `{prefix}_state.pth` (all else needed to go on).
Every file is written beside its name (`.new`), synced, and then renamed. Renaming the state file, which holds the
networks' SHA-256 sums, commits the set: a reader takes the file whose sum fits, renamed or not yet. The folder is
synced before and after that renaming, so that no power cut leaves a later step without the earlier ones, and each save
first completes what a killed one left. tests/faults/saves.py breaks saves at every operation.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn as nn

from util.checkpoint.atomic_files import sha256
from util.checkpoint.safe_reader import read
from util.checkpoint.weights import load_weights
from util.errors import UserError, did_you_mean, warn

SLIM_BYTES = 100_000  # a state file without moments and pools is smaller than this


class SaveError(UserError):
    """A checkpoint could not be written; there still is a whole one, and training may go on."""


# ---- one file ----


class _Hashing:
    """A file to write to, which sums up what it was given (not what the disk made of it).

    It keeps its error for later: raised within torch's writer, it would come out as another one.
    """

    def __init__(self, file):
        self.file, self.sha, self.size, self.error = file, hashlib.sha256(), 0, None

    def write(self, data):
        self.sha.update(data)
        self.size += len(data)
        try:
            if not self.error:
                self.file.write(data)
        except OSError as error:
            self.error = error
        return len(data)

    def flush(self):
        pass


def _new(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _write_new(path: Path, value) -> str:
    """Write `value` beside `path`, synced to the disk; return its SHA-256."""
    _new(path).unlink(missing_ok=True)  # never written over: it may be a hard link to a file that counts
    with _new(path).open("xb") as file:
        hashing = _Hashing(file)
        torch.save(value, hashing)
        if hashing.error:
            raise hashing.error
        file.flush()
        os.fsync(file.fileno())
        if (size := os.fstat(file.fileno()).st_size) != hashing.size:
            raise OSError(errno.EIO, f"the disk took {hashing.size:,} bytes and kept {size:,}")
    return hashing.sha.hexdigest()


def _sum(value) -> str:
    """Return the SHA-256 that the file of `value` would have."""
    with Path(os.devnull).open("wb") as file:
        hashing = _Hashing(file)
        torch.save(value, hashing)
    return hashing.sha.hexdigest()


def _rename(path: Path) -> None:
    _new(path).replace(path)
    if _new(path).exists():  # both were links to one file: renaming did nothing
        _new(path).unlink()


def _remove_new(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            _new(path).unlink()


def _sync_folder(folder: Path) -> None:
    """Make new names and renames in the folder durable, where the system lets a folder be synced."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # how file systems say that they can't
                raise
        finally:
            os.close(handle)


def _digest(path: Path) -> str | None:
    """Return a file's SHA-256, None if there is no such file."""
    return sha256(path) if path.is_file() else None


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
            state[key] = value.detach().cpu().contiguous()  # whatever the layout on the device
    return state


def prefix_of(opt) -> str:
    """Return the prefix of the set that `--epoch` or `--load_iter` names."""
    return f"iter_{opt.load_iter}" if int(opt.load_iter) > 0 else str(opt.epoch)


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
        but lose the bulk of their state (optimizer moments, pools). Raises SaveError when the system refuses.
        """
        last, self.last = self.last, None  # after a failure nothing is taken for granted
        paths = {name: self.net_path(prefix, name) for name in networks}
        told = "can't be saved in {}: {}. What was saved before is intact"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.complete_earlier(interrupted=last is None)
            sums = self._commit(prefix, paths, networks, state, last)
            told = "was saved in {}, but not all of its files are renamed: {}. It loads as it is; the next save does it"
            self._rename_networks(paths.values())
        except OSError as error:
            raise SaveError(f"{prefix} {told.format(self.folder, error.strerror or error)}") from error
        self.last = (state["progress"], prefix, sums)
        try:
            self._slim(prefix)
        except (OSError, UserError) as error:
            warn(f"an older set in {self.folder} keeps its optimizers' state: {getattr(error, 'strerror', 0) or error}")

    def complete_earlier(self, interrupted: bool = False) -> None:
        """Rename the networks that a killed or failed save left of a set that counts; remove what else it left.

        For the one process that trains here.
        """
        if not self.folder.is_dir():
            return
        names = [path.name for path in self.folder.iterdir()]  # glob may hide errors, and what is left is removed below
        left = {self.folder / name for name in names if re.search(r"_(net_.+|state)\.pth\.new$", name)}
        if left or interrupted:
            _sync_folder(self.folder)
        ours = []
        for prefix in (name.removesuffix("_state.pth") for name in names if left and name.endswith("_state.pth")):
            with contextlib.suppress(UserError):  # a damaged state: its set is lost
                for name, digest in (self.load_state(prefix) or {}).get("networks", {}).items():
                    path = self.net_path(prefix, name)
                    ours += [path] if _new(path) in left and _digest(_new(path)) == digest else []
        if ours:
            self._rename_networks(ours)
        for path in left:
            path.unlink(missing_ok=True)

    def _commit(self, prefix: str, paths: dict[str, Path], networks: dict, state: dict, last: tuple | None) -> dict:
        """Write a set beside and rename its state; return the networks' sums."""
        complete = False
        try:
            sums = self._link_new(prefix, paths, networks, state, last)
            if sums is None:
                sums = {name: _write_new(path, weights(networks[name])) for name, path in paths.items()}
                _write_new(self.state_path(prefix), {**state, "networks": sums})
            _sync_folder(self.folder)
            complete = True
            _rename(self.state_path(prefix))  # the set counts from here on
        except BaseException:
            if not complete or _new(self.state_path(prefix)).exists():  # NFS may report an error of what was done
                _remove_new([*paths.values(), self.state_path(prefix)])
            raise
        return sums

    def _link_new(self, prefix: str, paths: dict[str, Path], networks: dict, state: dict, last: tuple | None):
        """Give the files of the last save a second name beside; return its sums, None if this is another save."""
        # The weights tell, too: a user's own loop need not count progress.
        progress, old, sums = last or (None, prefix, {})
        if progress != state["progress"] or old == prefix:
            return None
        if sums != {name: _sum(weights(net)) for name, net in networks.items()}:
            return None
        pairs = [(self.net_path(old, name), path) for name, path in paths.items()]
        try:
            for source, target in [*pairs, (self.state_path(old), self.state_path(prefix))]:
                os.link(source, _new(target))
        except OSError:  # a file system without hard links
            return None
        return sums

    def _rename_networks(self, paths: Iterable[Path]) -> None:
        _sync_folder(self.folder)  # their names without the commit would be a mixed set
        for path in paths:
            _rename(path)
        _sync_folder(self.folder)

    def _slim(self, newest: str) -> None:
        """Drop the bulk of the state of numbered sets older than `newest`."""
        if not newest.removeprefix("iter_").isdigit():
            return
        for path in self.folder.glob("*_state.pth"):
            prefix = path.name.removesuffix("_state.pth")
            numbered = prefix.removeprefix("iter_").isdigit()
            if numbered and prefix != newest and path.stat().st_size > SLIM_BYTES:
                bulk = ("optimizers", "pools")
                try:
                    state = self.load_state(prefix)
                except UserError:  # damaged; who loads it is told, and training need not end for it
                    continue
                try:
                    _write_new(path, {**{k: v for k, v in state.items() if k not in bulk}, "slim": True})
                    _rename(path)
                except BaseException:
                    _remove_new([path])
                    raise

    def load_state(self, prefix: str, peek: bool = False) -> dict | None:
        """Return the training state of a set, None if it has none (networks of the reference project or a download)."""
        path = self.state_path(prefix)
        if not os.path.lexists(path):
            return None
        advice = "To use the networks without it, delete it"
        try:
            state = read(path, peek)
        except UserError as error:
            raise UserError(f"{error}. {advice}") from error
        sums = state.get("networks", {}) if isinstance(state, dict) else None
        if not isinstance(sums, dict) or not all(isinstance(value, str) for value in sums.values()):
            raise UserError(f"{path} is no training state of this program. {advice}")
        return state

    def there(self, prefix: str, name: str) -> Path | None:
        """Return the file of network `name` if there is one, be it not yet renamed."""
        path = self.net_path(prefix, name)
        return next((p for p in (path, _new(path)) if p.is_file()), None)

    def find(self, prefix: str, name: str, sums: dict[str, str]) -> Path:
        """Return the file of network `name` that a set's state was saved with; the usual path if no state tells.

        Raises UserError when it is missing, damaged or from another save.
        """
        path = self.net_path(prefix, name)
        if name in sums and _digest(path) != sums[name]:
            if _digest(_new(path)) != sums[name]:
                self._complain(path, prefix, sums)
            return _new(path)  # stopped between the commit and this file's renaming
        return path

    def load_networks(self, prefix: str, networks: dict[str, nn.Module], explain=None) -> None:
        """Load a set's networks in place, the ones that belong together.

        `explain(name, net, state)` says what is wrong with a file that does not fit, or returns None.
        Raises UserError when a file is missing, damaged, from another save, or of another architecture.
        """
        for _ in range(5):
            sums, error = self._sums(prefix), None
            try:
                self._load_networks(prefix, networks, sums, explain)
            except UserError as failed:
                error = failed
            if self._sums(prefix) == sums:
                break  # else a training has saved meanwhile: what was loaded may be of two saves
        if error:
            raise error

    def _sums(self, prefix: str) -> dict[str, str]:
        return (self.load_state(prefix, peek=True) or {}).get("networks", {})

    def _load_networks(self, prefix: str, networks: dict[str, nn.Module], sums: dict[str, str], explain) -> None:
        if not sums:
            warn_of_foreign(self.folder / prefix)
        for name, net in networks.items():
            path = self.find(prefix, name, sums)
            if not os.path.lexists(path):
                raise UserError(f"{path} does not exist; {self.contents()}{self._hint(prefix, name)}")
            print(f"loading the model from {path}")
            load_weights(unwrap(net), read(path), path, explain and functools.partial(explain, name))

    def _complain(self, path: Path, prefix: str, sums: dict) -> None:
        if not path.is_file():
            raise UserError(
                f"{path} is missing, and {self.state_path(prefix).name} was saved with it; {self.contents()}"
            )
        raise UserError(
            f"{path} has other content than what {self.state_path(prefix).name} was saved with: it was damaged or "
            f"replaced. To use the network files as they are, delete {self.state_path(prefix)}"
        )

    def _hint(self, prefix: str, name: str) -> str:
        """Say what the networks are that lie there instead."""
        if any(self.net_path(prefix, f"{name}{side}").is_file() for side in ("_A", "_B")):
            return ". They are a CycleGAN's: type --model cycle_gan, or --model test for one direction"
        if name in ("G_A", "G_B") and self.net_path(prefix, "G").is_file():
            return ". That is no CycleGAN's: type --model test, or --model pix2pix"
        return ". Averages are saved by training's --ema: leave --ema out" if name.endswith("_ema") else ""

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


@functools.cache
def warn_of_foreign(what: Path) -> None:
    """Say once that a file has come from elsewhere, where PyTorch's own safety has a hole (CVE-2026-24747)."""
    if torch.__version__ < "2.10":
        warn(f"{what} was not saved by this project; with PyTorch below 2.10, load only files that you trust")
