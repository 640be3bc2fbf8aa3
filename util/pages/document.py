"""The plain HTML page of image rows, and what all pages share: head, styles, scripts, addresses, names."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import dominate
from dominate import tags
from dominate.util import raw

from util.checkpoint.atomic_files import remove_leftovers, write_whole
from util.loggers.visuals import clip

ASSETS = Path(__file__).with_name("assets")


def valid_utf8(name: object) -> str:
    """Return a name as text that can be written: bytes that are not UTF-8 become question marks."""
    return str(name).encode("utf-8", "replace").decode()


def address(name: str) -> str:
    """Return a name, or a part of it, as part of an address; bytes that are not UTF-8 stay as they are."""
    return quote(str(name), errors="surrogateescape")


def relative_address(path: Path, folder: Path) -> str:
    """Return the address of a file for a page in `folder`; pages and files can then be moved together."""
    try:
        return address(Path(os.path.relpath(path, folder)).as_posix())
    except ValueError:  # another drive of Windows
        return path.resolve().as_uri()


def page_address(target: Path, folder: Path) -> str:
    """Return the address of the page in the folder `target`, or of that folder if it has no page."""
    page = target / "index.html"
    return relative_address(page if page.is_file() else target, folder)


def command_spans(command: str) -> Iterator[object]:
    """Yield a command line in parts; a narrow page breaks lines between options, not within them."""
    first, *others = valid_utf8(command).split(" --")
    yield tags.span(first)
    for option in others:
        yield from (" ", tags.span(f"--{option}"))


def style(*names: str) -> tags.style:
    """Return the common style, with sheets of one page."""
    return tags.style(raw("".join((ASSETS / f"{name}.css").read_text(encoding="utf-8") for name in ("page", *names))))


def script(*names: str) -> list[tags.script]:
    """Return scripts of the pages."""
    return [tags.script(raw((ASSETS / f"{name}.js").read_text(encoding="utf-8"))) for name in names]


def template(name: str) -> raw:
    """Return the part of a page that never changes."""
    return raw((ASSETS / f"{name}.html").read_text(encoding="utf-8"))


def prepare_head(document: dominate.document, *sheets: str) -> None:
    """Give a document its language, encoding, width and style."""
    document["lang"] = "en"
    viewport = tags.meta(name="viewport", content="width=device-width, initial-scale=1")
    document.head.add(tags.meta(charset="utf-8"), viewport, style(*sheets))


class HTML:
    """A page of image rows in `web_dir`/index.html, with its images in `web_dir`/images."""

    def __init__(self, web_dir: str | Path, title: str, refresh: int = 0, sheets: tuple[str, ...] = ()):
        """Make both folders; with `refresh` > 0 browsers reload the page every `refresh` seconds.

        `sheets`: names of styles in assets/ beside the common one.
        """
        self.title = title
        self.web_dir = str(web_dir)
        self.img_dir = str(Path(web_dir) / "images")
        Path(self.img_dir).mkdir(parents=True, exist_ok=True)
        remove_leftovers(Path(self.img_dir))
        self.doc = dominate.document(title=valid_utf8(title))
        prepare_head(self.doc, *sheets)
        if refresh > 0:
            self.doc.head.add(tags.meta(http_equiv="refresh", content=str(refresh)))
        self.doc.header.add(tags.h1(valid_utf8(title)))
        self.t: tags.table | None = None  # the row added last
        self._rows = ""  # those saved before, as HTML
        self._owners: dict[str, str] = {}  # a row's name, without case -> its image's path

    def get_image_dir(self) -> str:
        """Return the folder of the page's images."""
        return self.img_dir

    def unique_name(self, path: str | Path) -> str:
        """Name the row of an image file: its stem; if that is taken, with folders in front and a number behind."""
        path = Path(path)
        folders = [part for part in path.parts[:-1] if part not in (path.anchor, ".", "..")]
        for depth in range(len(folders) + 1):
            name = clip("_".join([*folders[len(folders) - depth :], path.stem]))
            if self._owners.get(name.casefold(), str(path)) == str(path):
                break
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        unique = next(name for name in names if name.casefold() not in self._owners)
        self._owners[unique.casefold()] = str(path)
        return unique

    def add_header(self, text: str) -> None:
        """Add a heading."""
        self.doc.add(tags.h3(valid_utf8(text)))

    def add_images(self, ims: list[str], txts: list[str], links: list[str], width: int = 400) -> None:
        """Add a row of images (names of files in the image folder), each over its text and linked to `links`' image."""
        self.t = self.doc.add(tags.table(border=1, style="table-layout: fixed;"))
        row = self.t.add(tags.tr())
        for im, txt, link in zip(ims, txts, links, strict=False):
            cell = row.add(tags.td(style="word-wrap: break-word;", halign="center", valign="top"))
            source, target = (f"images/{address(name)}" for name in (im, link))
            image = tags.img(style=f"width:{width}px", src=source, loading="lazy", alt=valid_utf8(txt))
            cell.add(tags.p(tags.a(image, href=target), tags.br()), tags.p(valid_utf8(txt)))

    def save(self) -> None:
        """Write index.html, which appears whole."""
        self._rows += "".join(f"{row.render(pretty=False)}\n" for row in self.doc.main.children)
        self.doc.main.clear()
        self.doc.main.add(raw(self._rows))
        write_whole(Path(self.web_dir) / "index.html", self.doc.render(pretty=False))
        self.doc.main.clear()
