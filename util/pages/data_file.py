"""data.js: what a page shows, a line of JavaScript each, appended while open pages read it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from util.checkpoint.atomic_files import replacing

ROOM = 64 * 2**10  # bytes of a file, behind which the next one begins: an open page reads only the newest again
MARKS = ("begin", "next")  # the first line of every file, and the last one of all but the newest
Line = tuple[str, list]  # the function that a line calls, and its arguments


def as_line(call: str, *values: object) -> str:
    """Write one call of data.js; no name in it can end the script that it is part of."""
    arguments = ", ".join(json.dumps(value).replace("<", "\\u003c") for value in values)
    return f"{call}({arguments});\n"


def as_text(lines: list[Line]) -> bytes:
    """Write lines as `PageData.append` leaves them."""
    return b"//" + b"".join(b"\n" + as_line(call, *values).encode() + b"//" for call, values in lines)


def parse(text: bytes) -> Iterator[Line]:
    """Yield the whole lines."""
    for line in text.decode("utf-8", "replace").split("\n")[:-1]:
        call, _, arguments = line.partition("(")
        if call.isidentifier() and arguments.endswith(");"):
            try:
                yield call, json.loads(f"[{arguments[:-2]}]")
            except json.JSONDecodeError:  # half a line
                continue


class PageData:
    """`data.js` and, as it grows, `data-001.js`, `data-002.js` ... in a folder.

    A script that ends within a line does nothing at all. So a file ends with `//`, and a line is part of that comment
    until it is whole: `// call(...); //`. Then the blanks at its ends become ends of lines, the last one first.
    Whatever a killed run leaves, browsers run all lines before it.
    """

    def __init__(self, folder: str | Path, room: int = ROOM):
        """Go on with what is in `folder`."""
        self.folder, self.room = Path(folder), room
        self.head: list = []  # what `begin` says in files to come
        self.number = max(len(self._files()) - 1, 0)  # of the file that is written to

    def path(self, number: int) -> Path:
        """Return the file of a number."""
        return self.folder / (f"data-{number:03d}.js" if number else "data.js")

    def read(self) -> list[Line]:
        """Return all whole lines."""
        return [line for text in self._files() for line in parse(text)]

    def begin(self, *head: object) -> None:
        """Begin anew, with an empty file; `head` names what is to come, so that open pages notice."""
        self.head = [*head]
        self._replace(0, [("begin", self.head)])

    def keep(self, wanted: Callable[[Line], bool]) -> None:
        """Drop the other lines, and halves; what stands in front of them is left as it is."""
        texts = self._files()
        files = [[line for line in parse(text) if line[0] in MARKS or wanted(line)] for text in texts]
        for number, (text, lines) in enumerate(zip(texts, files, strict=True)):
            if as_text(lines) != text:
                later = [line for file in files[number + 1 :] for line in file if line[0] not in MARKS]
                self._replace(number, [line for line in lines if line[0] != "next"] + later)
                return

    def append(self, call: str, *values: object) -> None:
        """Add a line; after an error the files are as they were."""
        if self.path(self.number).stat().st_size > self.room:
            self._write(self.path(self.number), "next")
            self._replace(self.number + 1, [("begin", self.head)])
        self._write(self.path(self.number), call, *values)

    def _files(self) -> list[bytes]:
        texts = []
        while (path := self.path(len(texts))).exists():
            texts.append(path.read_bytes())
        return texts

    def _replace(self, number: int, lines: list[Line]) -> None:
        """Let a file hold these lines, and be the last one."""
        for later in range(len(self._files()) - 1, number, -1):
            self.path(later).unlink()
        with replacing(self.path(number)) as new:
            new.write_bytes(as_text(lines))
        self.number = number

    def _write(self, path: Path, call: str, *values: object) -> None:
        line = as_line(call, *values).rstrip().encode()
        with path.open("r+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if file.write(b" %b //" % line) < len(line) + 4:  # what may fail for lack of room
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            for blank in (end + 1 + len(line), end):
                file.seek(blank)
                file.write(b"\n")
