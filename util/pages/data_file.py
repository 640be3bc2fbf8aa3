"""data.js: the data of a page, one line of JavaScript each, which open pages load again and again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from util.checkpoint.atomic_files import write_whole

ROOM = 64 * 2**10  # bytes of a file after which the next one begins: an open page loads only the newest again
MARKS = ("begin", "next")  # the first line of every file, and the last one of all but the newest
Line = tuple[str, list]  # a function of the page's script, and its arguments


def as_line(call: str, *values: object) -> str:
    """Write one call; no name in it can end the script that it is part of."""
    arguments = ", ".join(json.dumps(value).replace("<", "\\u003c") for value in values)
    return f"{call}({arguments});\n"


def parse(text: str) -> Iterator[Line]:
    """Yield the complete lines."""
    for line in text.split("\n")[:-1]:
        call, _, arguments = line.partition("(")
        if call.isidentifier() and arguments.endswith(");"):
            try:
                yield call, json.loads(f"[{arguments[:-2]}]")
            except json.JSONDecodeError:  # an incomplete line of an older version
                continue


class PageData:
    """`data.js` and, as it grows, `data-001.js`, `data-002.js` ... in a folder.

    Every write replaces the newest file as a whole. A browser would run nothing of a script with half a line.
    """

    def __init__(self, folder: str | Path, room: int = ROOM):
        """Continue with the files in `folder`."""
        self.folder, self.room = Path(folder), room
        self.head: list = []  # the arguments of `begin` in files to come
        files = self._files()
        self.number = max(len(files) - 1, 0)  # of the newest file
        self.newest = _as_text(parse(files[-1])) if files else ""

    def path(self, number: int) -> Path:
        """Return the file with a number."""
        return self.folder / (f"data-{number:03d}.js" if number else "data.js")

    def read(self) -> list[Line]:
        """Return all complete lines."""
        return [line for text in self._files() for line in parse(text)]

    def begin(self, *head: object) -> None:
        """Begin again with an empty file; open pages notice another `head`."""
        self.head = [*head]
        self._replace_from(0, as_line("begin", *head))

    def keep(self, wanted: Callable[[Line], bool]) -> None:
        """Drop the other lines; files before the first dropped line stay as they are."""
        files = [list(parse(text)) for text in self._files()]
        for number, lines in enumerate(files):
            if not all(line[0] in MARKS or wanted(line) for line in lines):
                later = [line for file in files[number:] for line in file if line[0] not in MARKS and wanted(line)]
                self._replace_from(number, _as_text([lines[0], *later]))
                return

    def append(self, *lines: str) -> None:
        """Add lines of `as_line`; after an error the same call may be repeated."""
        if len(self.newest) > self.room:
            self._write(self.number, self.newest + as_line("next"))
            self._write(self.number + 1, as_line("begin", *self.head) + "".join(lines))
        else:
            self._write(self.number, self.newest + "".join(lines))

    def _files(self) -> list[str]:
        texts = []
        while (path := self.path(len(texts))).exists():
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
        return texts

    def _replace_from(self, number: int, text: str) -> None:
        for later in range(len(self._files()) - 1, number, -1):
            self.path(later).unlink()
        self._write(number, text)

    def _write(self, number: int, text: str) -> None:
        write_whole(self.path(number), text)
        self.number, self.newest = number, text


def _as_text(lines: Iterator[Line] | list[Line]) -> str:
    return "".join(as_line(call, *values) for call, values in lines)
