"""Notes about image files: each kind is printed once in a run, also those of worker processes."""

from __future__ import annotations

from typing import NamedTuple

from tqdm import tqdm

from util.errors import printable


class Note(NamedTuple):
    """A change or a loss when a file was read; notes of one kind differ in their files only."""

    kind: str
    path: str
    text: str


_known: set[str] = set()  # kinds that were printed or collected
_collected: list[Note] | None = None  # of a worker process, which prints none itself


def say(*notes: Note) -> None:
    """Print each note unless one of its kind was printed before. A worker process keeps it for `collected`."""
    for note in notes:
        if note.kind not in _known:
            _known.add(note.kind)
            if _collected is not None:
                _collected.append(note)
            else:  # above a progress bar
                tqdm.write(f"{printable(note.path)} {note.text} (said once)")


def collect() -> None:
    """From now on keep this process's notes, for another process to print."""
    global _collected
    _collected = []


def collected() -> list[Note]:
    """Return the notes kept since the last call."""
    global _collected
    taken, _collected = _collected or [], None if _collected is None else []
    return taken
