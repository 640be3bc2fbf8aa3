"""The results page: written as it goes, whole after every save, in the time and memory of the new rows alone."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import dominate
from dominate import tags
from dominate.util import raw

from util.loggers.visuals import clip

PAGES = Path(__file__).with_name("assets")  # what browsers get
ROWS = "<!--rows-->"  # where the rows go in the written document


def shown(name: object) -> str:
    """Make any name printable: bytes that are no UTF-8 become question marks."""
    return str(name).encode("utf-8", "replace").decode()


def unbroken(command: str) -> Iterator[object]:
    """Yield a command line's elements: lines break between options, not within them."""
    first, *others = shown(command).split(" --")
    yield tags.span(first)
    for option in others:
        yield from (" ", tags.span(f"--{option}"))


def image_url(name: str) -> str:
    """Return the address of an image of the page, whatever characters its name holds."""
    return "images/" + quote(str(name), errors="surrogateescape")


def style(*names: str) -> tags.style:
    """Return the pages' common style, with sheets of a page's own."""
    return tags.style(raw("".join((PAGES / f"{name}.css").read_text(encoding="utf-8") for name in ("page", *names))))


def script(*names: str) -> list[tags.script]:
    """Return scripts of the pages."""
    return [tags.script(raw((PAGES / f"{name}.js").read_text(encoding="utf-8"))) for name in names]


class HTML:
    """A page of image rows in `web_dir`/index.html, with its images in `web_dir`/images.

    `save()` appends what was added since the last save. Rows that are saved leave the memory.
    """

    def __init__(self, web_dir: str | Path, title: str, refresh: int = 0, sheets: tuple[str, ...] = ()):
        """Make both folders; `refresh` > 0 makes browsers reload the page every so many seconds.

        `sheets`: names of styles in util/pages/ beside the common one.
        """
        self.title = title
        self.web_dir = str(web_dir)
        self.img_dir = str(Path(web_dir) / "images")
        Path(self.img_dir).mkdir(parents=True, exist_ok=True)
        self.doc = dominate.document(title=shown(title))
        self.doc["lang"] = "en"
        with self.doc.head:
            tags.meta(charset="utf-8")
            tags.meta(name="viewport", content="width=device-width, initial-scale=1")
            if refresh > 0:
                tags.meta(http_equiv="refresh", content=str(refresh))
            style(*sheets)
        self.doc.header.add(tags.h1(shown(title)))
        self.t: tags.table | None = None  # the row added last
        # Hash of a row's name, without case -> hash of the path it shows: 0.2 kB a row, all that grows with the page.
        # Were two names to share a hash, the second would be numbered.
        self._owners: dict[int, int] = {}
        self._tail = b""
        self._end = 0  # where the tail begins in the file; 0: nothing is written yet

    def get_image_dir(self) -> str:
        """Return the folder that the page's images belong in."""
        return self.img_dir

    def unique_name(self, path: str | Path) -> str:
        """Name the row of an image file: its stem; where that is taken, folders come in front and a number behind."""
        path = Path(path)
        folders = [part for part in path.parts[:-1] if part not in (path.anchor, ".", "..")]
        owner = hash(str(path))
        for depth in range(len(folders) + 1):
            name = clip("_".join([*folders[len(folders) - depth :], path.stem]))
            if self._owners.get(hash(name.casefold()), owner) == owner:
                break
        numbered, count = name, 1
        while hash(numbered.casefold()) in self._owners:
            count += 1
            numbered = f"{name}_{count}"
        self._owners[hash(numbered.casefold())] = owner
        return numbered

    def add_header(self, text: str) -> None:
        """Add a heading."""
        self.doc.add(tags.h3(shown(text)))

    def add_images(self, ims: list[str], txts: list[str], links: list[str], width: int = 400) -> None:
        """Add a row of images (files' names in the image folder), each over its text and linked to `links`' image."""
        self.t = self.doc.add(tags.table(border=1, style="table-layout: fixed;"))
        row = self.t.add(tags.tr())
        for im, txt, link in zip(ims, txts, links, strict=False):
            cell = row.add(tags.td(style="word-wrap: break-word;", halign="center", valign="top"))
            image = tags.img(style=f"width:{width}px", src=image_url(im), loading="lazy", alt=shown(txt))
            cell.add(tags.p(tags.a(image, href=image_url(link)), tags.br()), tags.p(shown(txt)))

    def save(self) -> None:
        """Write what is new to index.html; the page on disk is whole before and after."""
        file = Path(self.web_dir) / "index.html"
        rows = "".join(f"{row}\n" for row in self._take_rows()).encode()
        if not self._end:
            self.doc.main.add(raw(ROWS))
            head, self._tail = self.doc.render(pretty=False).encode().split(ROWS.encode())
            self.doc.main.clear()
            self._end = len(head)
            file.write_bytes(head + self._tail)
        if rows:
            with file.open("r+b", buffering=0) as page:
                self._append(page, rows)
            self._end += len(rows)

    def _append(self, page: BinaryIO, rows: bytes) -> None:
        """Write rows in front of the page's tail; on a full disk the page stays as it was."""
        page.seek(self._end)
        if page.write(rows + self._tail) < len(rows + self._tail):
            page.seek(self._end)
            page.write(self._tail)
            page.truncate()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), page.name)

    def _take_rows(self) -> list[str]:
        """Render what was added to the page since the last call, and let go of it."""
        rows = [row.render(pretty=False) if isinstance(row, tags.dom_tag) else row for row in self.doc.main.children]
        self.doc.main.clear()
        return rows
