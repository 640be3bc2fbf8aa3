"""Checkpoints on disk: the networks and the training state of one experiment's folder.

A checkpoint is the files `{prefix}_net_{N}.pth` (bare state dicts on the CPU) and `{prefix}_state.pth` (everything else
that resuming needs). Every file is staged as `.new` and synced. Renaming the state file, which holds the SHA-256 of
each network file, commits the checkpoint: a reader takes the file whose hash matches, renamed or not. The folder is
synced before and after that rename, so a power cut never keeps a later step without the earlier ones. Each save first
completes an interrupted one. tests/faults/saves.py breaks saves at every operation.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn as nn

from util.checkpoint.atomic_files import discard_staged, hash_of, publish, sha256, stage, staged, sync_folder
from util.checkpoint.run_folder import has_checkpoint, previous
from util.checkpoint.safe_reader import read
from util.checkpoint.weights import cpu_state_dict, load_weights, unwrap
from util.errors import UserError, did_you_mean, warn
from util.runtime.search import Search

SLIM_BYTES = 100_000  # a state file without moments and pools is smaller than this


class SaveError(UserError):
    """A checkpoint could not be written. The earlier one is intact, and training may continue."""


def prefix_of(opt) -> str:
    """Return the prefix of the checkpoint that `--epoch` or `--load_iter` names."""
    return f"iter_{opt.load_iter}" if int(opt.load_iter) > 0 else str(opt.epoch)


def hash_if_exists(path: Path) -> str | None:
    """Return a file's SHA-256, None if there is no such file."""
    return sha256(path) if path.is_file() else None


class Checkpointer:
    """Write and read the checkpoints of one experiment's folder."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.last: tuple | None = None  # the last save: its progress, prefix and hashes

    def net_path(self, prefix: str, name: str) -> Path:
        """Return the path of a checkpoint's network `name`."""
        return self.folder / f"{prefix}_net_{name}.pth"

    def state_path(self, prefix: str) -> Path:
        """Return the path of a checkpoint's training state."""
        return self.folder / f"{prefix}_state.pth"

    # ---- saving ----

    def save(self, prefix: str, networks: dict[str, nn.Module], state: dict) -> None:
        """Save networks and state as one checkpoint, which appears whole or not at all.

        A second prefix for the same progress becomes hard links. Older numbered checkpoints keep their networks and
        counters but lose the bulk of their state (moments, pools). Raises SaveError where the system fails.
        """
        last, self.last = self.last, None  # after a failure nothing is taken for granted
        paths = {name: self.net_path(prefix, name) for name in networks}
        outcome = "can't be saved in {}: {}. The earlier checkpoint is intact"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.finish_interrupted_save(interrupted=last is None)
            hashes = self._commit(prefix, paths, networks, state, last)
            outcome = "was saved in {}, but not all files are renamed: {}. It loads; the next save renames them"
            self._publish_networks(paths.values())
        except OSError as error:
            raise SaveError(f"{prefix} {outcome.format(self.folder, error.strerror or error)}") from error
        self.last = (state["progress"], prefix, hashes)
        try:
            self._slim_older(prefix)
        except (OSError, UserError) as error:
            reason = getattr(error, "strerror", 0) or error
            warn(f"an older checkpoint in {self.folder} keeps its optimizer state: {reason}")

    def finish_interrupted_save(self, interrupted: bool = False) -> None:
        """Rename the staged networks of a committed checkpoint, and remove all other staged files.

        Only the one process that trains here may call this.
        """
        if not self.folder.is_dir():
            return
        names = [path.name for path in self.folder.iterdir()]  # glob may hide errors, and leftovers are removed below
        leftovers = {self.folder / name for name in names if re.search(r"_(net_.+|state)\.pth\.new$", name)}
        if leftovers or interrupted:
            sync_folder(self.folder)
        committed = []
        for prefix in (name.removesuffix("_state.pth") for name in names if leftovers and name.endswith("_state.pth")):
            with contextlib.suppress(UserError):  # a damaged state: its checkpoint is lost
                for name, digest in self._hashes(prefix, peek=False).items():
                    path = self.net_path(prefix, name)
                    if staged(path) in leftovers and hash_if_exists(staged(path)) == digest:
                        committed.append(path)
        if committed:
            self._publish_networks(committed)
        for path in leftovers:
            path.unlink(missing_ok=True)

    def _commit(self, prefix: str, paths: dict[str, Path], networks: dict, state: dict, last: tuple | None) -> dict:
        """Stage all files and rename the state file; return the networks' hashes."""
        state_path, complete = self.state_path(prefix), False
        try:
            hashes = self._stage_links(prefix, paths, networks, state, last)
            if hashes is None:
                hashes = {name: stage(path, _writer(cpu_state_dict(networks[name]))) for name, path in paths.items()}
                stage(state_path, _writer({**state, "networks": hashes}))
            sync_folder(self.folder)
            complete = True
            publish(state_path)  # from here on the checkpoint counts
        except BaseException:
            if not complete or staged(state_path).exists():  # NFS may report an error for a rename that it did
                discard_staged([*paths.values(), state_path])
            raise
        return hashes

    def _stage_links(self, prefix: str, paths: dict[str, Path], networks: dict, state: dict, last: tuple | None):
        """Stage hard links to the last save's files; return its hashes, None if something has changed since."""
        progress, old, hashes = last or (None, prefix, {})
        if progress != state["progress"] or old == prefix:
            return None
        # Progress alone does not tell: a plug-in's loop need not count it.
        if hashes != {name: hash_of(_writer(cpu_state_dict(net))) for name, net in networks.items()}:
            return None
        pairs = [(self.net_path(old, name), path) for name, path in paths.items()]
        try:
            for source, target in [*pairs, (self.state_path(old), self.state_path(prefix))]:
                os.link(source, staged(target))
        except OSError:  # a file system without hard links
            return None
        return hashes

    def _publish_networks(self, paths: Iterable[Path]) -> None:
        sync_folder(self.folder)  # network names without the commit would mix two checkpoints
        for path in paths:
            publish(path)
        sync_folder(self.folder)

    def _slim_older(self, newest: str) -> None:
        """Drop the bulk of the state of numbered checkpoints older than `newest`."""
        if not newest.removeprefix("iter_").isdigit():
            return
        for path in self.folder.glob("*_state.pth"):
            prefix = path.name.removesuffix("_state.pth")
            numbered = prefix.removeprefix("iter_").isdigit()
            if not numbered or prefix == newest or path.stat().st_size <= SLIM_BYTES:
                continue
            try:
                state = self.load_state(prefix)
            except UserError:  # damaged: loading it raises; training need not stop
                continue
            try:
                kept = {key: value for key, value in state.items() if key not in ("optimizers", "pools")}
                stage(path, _writer({**kept, "slim": True}))
                publish(path)
            except BaseException:
                discard_staged([path])
                raise

    # ---- loading ----

    def load_state(self, prefix: str, peek: bool = False) -> dict | None:
        """Return a checkpoint's training state, None if it has none (the reference's networks, or a download)."""
        path = self.state_path(prefix)
        if not os.path.lexists(path):
            return None
        advice = "To use the networks without it, delete it"
        try:
            state = read(path, peek)
        except UserError as error:
            raise UserError(f"{error}. {advice}") from error
        hashes = state.get("networks", {}) if isinstance(state, dict) else None
        if not isinstance(hashes, dict) or not all(isinstance(value, str) for value in hashes.values()):
            raise UserError(f"{path} is no training state of this program. {advice}")
        return state

    def existing_net_path(self, prefix: str, name: str) -> Path | None:
        """Return the file of network `name`, renamed or still staged; None if there is none."""
        path = self.net_path(prefix, name)
        return next((p for p in (path, staged(path)) if p.is_file()), None)

    def committed_net_path(self, prefix: str, name: str, hashes: dict[str, str]) -> Path:
        """Return the file of network `name` whose hash the state recorded; the usual path if no state did.

        Raises UserError when the file is missing, damaged or of another save.
        """
        path = self.net_path(prefix, name)
        if name not in hashes or hash_if_exists(path) == hashes[name]:
            return path
        if hash_if_exists(staged(path)) == hashes[name]:
            return staged(path)  # the save stopped between the commit and this file's rename
        state_path = self.state_path(prefix)
        if not path.is_file():
            raise UserError(f"{path} is missing, and {state_path.name} was saved with it; {self.describe_contents()}")
        raise UserError(
            f"{path} has other content than the file that {state_path.name} was saved with: it was damaged or "
            f"replaced. To use the network files as they are, delete {state_path}"
        )

    def load_networks(self, prefix: str, networks: dict[str, nn.Module], explain=None) -> None:
        """Load a checkpoint's networks in place, all of one save.

        `explain(name, net, state)` says why a file does not fit, or returns None.
        Raises UserError when a file is missing, damaged, of another save, or of another architecture.
        """
        for _ in range(5):
            hashes, error = self._hashes(prefix), None
            try:
                self._load_networks(prefix, networks, hashes, explain)
            except UserError as failed:
                error = failed
            if self._hashes(prefix) == hashes:
                break  # otherwise a training has saved meanwhile, and two saves may be mixed
        if error:
            raise error

    def _hashes(self, prefix: str, peek: bool = True) -> dict[str, str]:
        return (self.load_state(prefix, peek) or {}).get("networks", {})

    def _load_networks(self, prefix: str, networks: dict[str, nn.Module], hashes: dict[str, str], explain) -> None:
        if not hashes:
            warn_of_foreign_file(self.folder / prefix)
        for name, net in networks.items():
            path = self.committed_net_path(prefix, name, hashes)
            if not os.path.lexists(path):
                raise UserError(f"{path} does not exist; {self.describe_contents()}{self._hint(prefix, name)}")
            print(f"loading the model from {path}")
            load_weights(unwrap(net), read(path), path, explain and functools.partial(explain, name))

    def _hint(self, prefix: str, name: str) -> str:
        """Suggest a model for the networks that the folder holds instead."""
        if any(self.net_path(prefix, f"{name}{side}").is_file() for side in ("_A", "_B")):
            return ". They are a CycleGAN's: type --model cycle_gan, or --model test for one direction"
        if name in ("G_A", "G_B") and self.net_path(prefix, "G").is_file():
            return ". That is no CycleGAN's: type --model test, or --model pix2pix"
        return ". Averages are saved by training's --ema: leave --ema out" if name.endswith("_ema") else ""

    def describe_contents(self) -> str:
        """List the networks in the folder, for a message."""
        names = sorted(path.name for path in self.folder.glob("*_net_*.pth"))
        if not self.folder.is_dir():
            search = Search()
            others = [
                folder.name
                for folder in search.folders(self.folder.parent)
                if any("_net_" in file.name for file in search.entries(folder))
            ]
            hint = did_you_mean(self.folder.name, others)
            return f"there is no folder {self.folder}.{hint} Experiments: {', '.join(sorted(others)) or 'none'}"
        if not names:
            moved = previous(self.folder)
            more = f"; those of an earlier run are in {moved}: --name {moved.name}" if has_checkpoint(moved) else ""
            return f"{self.folder} holds no networks{more}"
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return f"{self.folder} holds {', '.join(names[:8])}{more}"

    def last_prefix(self) -> str | None:
        """Return the checkpoint to resume from: `latest`, else the one that has seen most images; None without one."""
        if any(self.folder.glob("latest_*.pth*")):
            return "latest"
        seen = {}
        for prefix in (path.name.removesuffix("_state.pth") for path in self.folder.glob("*_state.pth")):
            with contextlib.suppress(UserError, LookupError, TypeError):  # a damaged state
                state = self.load_state(prefix, peek=True)
                if not state.get("slim"):
                    seen[prefix] = int(state["progress"][2])
        return max(seen, key=seen.get, default=None)

    def newest_epoch(self) -> int | None:
        """Return the greatest epoch number among the saved networks."""
        epochs = [path.name.split("_net_")[0] for path in self.folder.glob("*_net_*.pth")]
        return max((int(epoch) for epoch in epochs if epoch.isdigit()), default=None)


def _writer(value):
    return functools.partial(torch.save, value)


@functools.cache
def warn_of_foreign_file(path: Path) -> None:
    """Warn once about a file from elsewhere where PyTorch's own safety has a hole (CVE-2026-24747)."""
    if torch.__version__ < "2.10":
        warn(f"{path} was not saved by this project; with PyTorch below 2.10, load only files that you trust")
