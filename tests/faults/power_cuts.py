"""A model of the strictest disk: the folders that a power cut may leave when unsynced data are lost."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from faults.shim import Operation


class File:
    """A file's content as far as it was synced; None if not."""

    def __init__(self):
        self.synced: bytes | None = None


Folder = dict[str, File]  # by their names
Held = dict[str, tuple[int, bytes | None]]  # what a disk holds under each name: a number of the file, and its content


class Disk:
    """The contents that a disk may have after a power cut; only synced data are certain.

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


def lay_out(names: Held, folder: Path, half: bool) -> None:
    """Write the files of a folder after a power cut; two names of one file are hard links."""
    folder.mkdir()
    first = {}
    for name, (number, synced) in names.items():
        if number in first:
            os.link(first[number], folder / name)
            continue
        first[number] = folder / name
        first[number].write_bytes(bytes(1000) if synced is None and half else synced or b"")


def after(ops: Iterable[Operation], disk: Disk) -> Iterator[tuple[Held, bool, int]]:
    """Give out each folder that a power cut may leave, whether torn files have a half, and how many saves returned."""
    seen = set()
    for op in disk.follow(ops):
        for names in disk.after_power_cuts():
            held = {name: (id(file), file.synced) for name, file in names.items()}
            key = (op.returned, frozenset(held.items()))
            if key not in seen:
                seen.add(key)
                yield held, len(seen) % 2 == 1, op.returned
