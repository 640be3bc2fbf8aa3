"""What a power cut leaves: by a model of the strictest disk, and by a copy of a mounted image, unsynced data lost."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from faults.shim import Operation

MOUNTS = ("commit=600", "commit=600,noauto_da_alloc", "commit=600,noauto_da_alloc,data=writeback")  # of ext4

# ---- by a model ----


class File:
    """A file's content as far as it was synced; None if not."""

    def __init__(self):
        self.synced: bytes | None = None


Folder = dict[str, File]  # by their names


class Disk:
    """What a disk may hold after a power cut, where nothing is certain but what was synced.

    Of the changes to a folder since its last sync, any subset may have arrived, in their order; of a file that was not
    synced, nothing or half.
    """

    def __init__(self, folder: Path):
        self.folder, self.now, self.disk, self.pending = folder, {}, {}, []
        for path in folder.iterdir():
            self.now[path.name] = self.disk[path.name] = file = File()
            file.synced = path.read_bytes()

    def follow(self, ops: Iterable[Operation]) -> Iterator[Operation]:
        """Give out operations, noting each when the next is about to begin."""
        last = None
        for op in ops:
            if last:
                self.did(last)
            last = op
            yield op

    def did(self, op: Operation) -> None:
        """Note an operation that has just been done."""
        name, target = op.path.name, op.target.name
        file = self.now.get(name)
        if op.kind == "open" and file is None and op.path.exists():
            self._change("add", name, File())
        elif op.kind in ("open", "write", "truncate") and file:
            file.synced = None
        elif op.kind == "sync" and op.path == self.folder:
            self.disk, self.pending = dict(self.now), []
        elif op.kind == "sync":
            file.synced = op.path.read_bytes()
        elif op.kind == "link" and op.target.exists():
            self._change("add", target, file)
        elif op.kind == "unlink" and file:
            self._change("drop", name, file)
        elif op.kind == "rename" and file and file is not self.now.get(target):
            self._change("move", name, file, target)

    def _change(self, *change) -> None:
        self.pending.append(change)
        apply(self.now, change)

    def after_power_cuts(self) -> Iterator[Folder]:
        """Give out the folders that a power cut may leave."""
        subsets = itertools.product((True, False), repeat=len(self.pending))
        if len(self.pending) > 9:
            draw = random.Random(len(self.pending))
            subsets = ([draw.random() < 0.5 for _ in self.pending] for _ in range(200))
        for chosen in subsets:
            names = dict(self.disk)
            for change in itertools.compress(self.pending, chosen):
                apply(names, change)
            yield names


def apply(names: Folder, change: tuple) -> None:
    """Apply a change of a folder: add, drop or move a name."""
    what, name, file, *target = change
    if what != "add" and names.get(name) is file:
        del names[name]
    if what != "drop":
        names[target[0] if target else name] = file


def lay_out(names: Folder, folder: Path, half: bool) -> None:
    """Write the files of a folder after a power cut; two names of one file are hard links."""
    folder.mkdir()
    first = {}
    for name, file in names.items():
        if file in first:
            os.link(first[file], folder / name)
            continue
        first[file] = folder / name
        first[file].write_bytes(bytes(1000) if file.synced is None and half else file.synced or b"")


def after(ops: Iterable[Operation], disk: Disk) -> Iterator[tuple[Folder, bool, int]]:
    """Give out each folder that a power cut may leave, whether torn files have a half, and how many saves returned."""
    seen = set()
    for op in disk.follow(ops):
        for names in disk.after_power_cuts():
            held = {name: frozen(file, file.synced) for name, file in names.items()}
            key = (op.returned, frozenset(held.items()))
            if key not in seen:
                seen.add(key)
                yield held, len(seen) % 2 == 1, op.returned


@functools.cache
def frozen(file: File, synced: bytes | None) -> File:
    """Return a copy of a file that stays as it is; the same copy for the same file."""
    copy = File()
    copy.synced = synced
    return copy


# ---- by a mounted image ----


@contextlib.contextmanager
def mounted(image: Path, place: Path, options: str) -> Iterator[None]:
    """Mount an image for the time of a with statement."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", f"loop,{options}", str(image), str(place)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def can_mount() -> str:
    """Say why no image can be mounted here, nothing if one can."""
    if os.geteuid() != 0:
        return "not root: no image can be mounted"
    if not (shutil.which("mkfs.ext4") and shutil.which("mount")):
        return "there is no mkfs.ext4 or mount"
    # Mounts of our own, which end with this process, however it ends.
    if ctypes.CDLL(None, use_errno=True).unshare(0x20000):  # CLONE_NEWNS
        return f"no mounts of our own: {os.strerror(ctypes.get_errno())}"
    if subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False).returncode:
        return "mounts can't be made private"
    with tempfile.TemporaryDirectory(prefix="saves") as folder:
        image = Path(folder) / "image"
        image.write_bytes(bytes(4 << 20))
        try:
            subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, capture_output=True)
            with mounted(image, Path(folder) / "disk", MOUNTS[-1]):
                return ""
        except subprocess.CalledProcessError as error:
            return f"no image can be mounted: {error.stderr.decode().strip()}"
