"""Bounded looks into folders, for messages that say what is there instead of what was asked for."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path


class Search:
    """Reads at most 1,000 entries in at most one second, all folders together: a path may lead to a slow drive."""

    def __init__(self, entries: int = 1000, seconds: float = 1.0):
        self.left, self.end = entries, time.monotonic() + seconds

    def is_over(self) -> bool:
        """Whether nothing more may be read."""
        return self.left <= 0 or time.monotonic() > self.end

    def entries(self, folder: str | Path) -> list[Path]:
        """Return the visible entries of a folder, sorted, as far as they may be read; none if it cannot be listed."""
        return sorted(self._read(folder))

    def _read(self, folder: str | Path) -> Iterator[Path]:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if self.is_over():
                    return
                self.left -= 1
                if not entry.name.startswith("."):
                    yield Path(folder, entry.name)

    def folders(self, folder: str | Path) -> list[Path]:
        """Return the visible folders in a folder."""
        return [entry for entry in self.entries(folder) if entry.is_dir()]

    def count(self, folder: str | Path, wanted: Callable[[str], bool], most: int) -> int:
        """Count the files below a folder whose names are wanted, up to `most`; those near the top come first."""
        found, waiting = 0, deque([Path(folder)])
        while waiting and found < most:
            for entry in self._read(waiting.popleft()):
                if entry.is_dir():
                    waiting.append(entry)
                elif wanted(entry.name):
                    found += 1
        return min(found, most)
