"""The results page of test.py: a document that is written once, and `data.js`, which gets a line for each row."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import re
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from dominate import tags
from PIL import Image

from util.checkpoint.checkpointer import Checkpointer, prefix_of
from util.errors import UserError, printable
from util.loggers import run_summary
from util.loggers.visuals import file_label, stretched, three_channels
from util.monitor.validation import is_paired
from util.pages.data_file import PageData
from util.pages.document import HTML, script, shown, unbroken
from util.runtime.run_facts import run_facts

ROOT = Path(__file__).resolve().parents[2]
THUMB = 128  # pixels, the height of thumbnails
FILE = re.compile(r"(.+)_((?:real|fake|rec|idt)(?:_\w+)?)\.png")


class Row(NamedTuple):
    """One item of a batch."""

    name: str  # of its files, without label and extension
    files: dict[str, str]  # label -> file's name
    pictures: dict[str, np.ndarray]  # label -> uint8 (H, W, C)
    path: str = ""  # of the image that it shows


def address(name: str) -> str:
    """Return a name, or a part of it, as part of an address; bytes that are no UTF-8 stay what they are."""
    return quote(name, errors="surrogateescape")


class ResultsPage(HTML):
    """`web_dir`/index.html, which reads data.js beside it, and the images that it names.

    `about`: what the rows need (`paired`, `width`, `label`, `runs`); `head`: what tells of the run; `roots`: folders
    that images lie in, tried in this order: a row shows what follows. `aspect_ratio`: by which pictures are stretched.
    """

    def __init__(
        self,
        web_dir: str | Path,
        title: str,
        about: dict | None = None,
        head: tags.header | None = None,
        roots: Iterable[str | Path] = (),
        aspect_ratio: float = 1.0,
    ):
        """Make the folders and write the document."""
        super().__init__(web_dir, title, sheets=("results",))
        self.roots, self.aspect_ratio = tuple(roots), aspect_ratio
        (Path(web_dir) / "metrics.js").write_text("")  # what is there is of images that are replaced now
        self.data = PageData(web_dir, 2**20)
        self.data.begin(str(time.time_ns()))
        self.data.append("about", {"paired": True, "width": 0, "label": "", "runs": [], **(about or {})})
        self._layout: dict = {}
        self._rows: list[Row] = []
        self._fill(head)
        super().save()

    def _fill(self, head: tags.header | None) -> None:
        """Lay out what the scripts fill."""
        if head is not None:
            self.doc.header.clear()
            self.doc.header.add(head)
        self.doc.add(tags.noscript(tags.p("This page needs JavaScript. The images are in the folder images/.")))
        place = self.doc.add(tags.main())
        with place.add(tags.section(id="tools", aria_label="Tools")):
            with tags.form(id="find"):
                tags.input_(id="filter", type="search", placeholder="Find by name", aria_label="Find by name")
                tags.select(tags.option("in order", value=""), id="sort", aria_label="Order")
                tags.button("as tested", id="up", type="button", title="the other way round")
                size = {"min": 48, "max": 1024, "step": 8, "value": 256}
                tags.label("Size", tags.input_(id="size", type="range", **size))
                tags.output(id="shown", aria_live="polite")
                tags.button("Save list", id="list", type="button", title="the names of the rows shown, as a text file")
            tags.div(id="distribution", hidden=True)
            tags.div(id="bar")
        place.add(tags.p(id="note", role="status"))
        place.add(tags.section(id="large", tabindex=-1, aria_label="One row"))
        place.add(tags.div(id="rows", role="feed", aria_label="Results"))
        self.doc.add(*script("viewer", "results"))

    def add_row(self, row: Row) -> None:
        """Add a row, whose pictures are written."""
        self._rows.append(row)

    def write_thumbs(self, row: Row) -> None:
        """Write a row's thumbnails, side by side in one file, if its pictures are much larger than these."""
        widths = self._layout_of(row)["thumbs"]
        if widths is None:
            return
        strip, x = Image.new("RGB", (sum(widths), THUMB)), 0
        for picture, width in zip(row.pictures.values(), widths, strict=True):
            image = stretched(three_channels(picture), self.aspect_ratio)
            strip.paste(image.resize((width, THUMB), Image.Resampling.BOX), (x, 0))
            x += width
        folder = Path(self.web_dir) / "thumbs"
        folder.mkdir(exist_ok=True)
        strip.save(folder / f"{row.name}.jpg", quality=80)

    def save(self) -> None:
        """Append what is new to data.js; the page is whole before and after."""
        rows, self._rows = self._rows, []
        for row in rows:
            layout = self._layout_of(row)
            if layout != self._layout:
                self.data.append("layout", layout)
                self._layout = layout
            self.data.append("row", shown(relative(row.path, self.roots)), address(row.name))

    def done(self) -> None:
        """Tell open pages that all rows are there."""
        self.data.append("done", True)

    def _layout_of(self, row: Row) -> dict:
        sizes = {label: stretched_size(picture, self.aspect_ratio) for label, picture in row.pictures.items()}
        images = [[shown(label), address(file_label(label)), *size] for label, size in sizes.items()]
        return {"images": images, "thumbs": thumb_widths(list(sizes.values()))}


# ---- pictures ----


def stretched_size(picture: np.ndarray, aspect_ratio: float) -> tuple[int, int]:
    """Return width and height of a row's picture in its file."""
    height, width, channels = (*picture.shape, 1)[:3]
    width *= 2 if channels == 2 else 1
    return (width, int(height * aspect_ratio)) if aspect_ratio > 1 else (int(width / aspect_ratio), height)


def thumb_widths(sizes: list[tuple[int, int]]) -> list[int] | None:
    """Return the widths of a row's thumbnails, all of one height; None where the pictures are hardly larger."""
    if not sizes or max(height for _, height in sizes) <= THUMB * 1.5:
        return None
    return [max(1, min(4 * THUMB, round(THUMB * width / height))) for width, height in sizes]


def relative(path: str, roots: Iterable[str | Path]) -> str:
    """Return an image's path within the first of `roots` that holds it, or its name alone."""
    for root in roots:
        with contextlib.suppress(ValueError):
            return Path(path).relative_to(root).as_posix()
    return Path(path).name


# ---- other runs ----


def find_results(folder: str | Path) -> Path:
    """Return a folder that test.py has written, to be compared with; raises UserError if it is none."""
    folder = Path(folder)
    if (folder / "data.js").is_file() or any(FILE.fullmatch(path.name) for path in (folder / "images").glob("*.png")):
        return folder
    inner = sorted(path.parent for path in folder.glob("*/images") if path.is_dir())
    hint = f". Did you mean {printable(inner[-1])}?" if inner else ": test.py writes such as results/NAME/test_latest"
    what = "has neither data.js nor images/*_fake_B.png" if folder.is_dir() else "is not there"
    raise UserError(f"--compare {printable(folder)}: {what}{hint}")


def compared(web_dir: Path, folders: Iterable[str]) -> dict:
    """Return the label of the run whose page `web_dir` is to hold, and `runs`: labels and addresses of others."""
    found = [find_results(folder).absolute() for folder in folders]
    web_dir = web_dir.absolute()
    if web_dir in found:
        raise UserError(f"--compare {printable(web_dir)}: these are the results that would be replaced")
    label, *labels = distinct([web_dir, *found])
    runs = []
    for number, (folder, other) in enumerate(zip(found, labels, strict=True), 1):
        path = Path(os.path.relpath(folder, web_dir)).as_posix()
        runs.append({"label": shown(other), "path": f"{address(path)}/"})
        if not (folder / "data.js").is_file():
            web_dir.mkdir(parents=True, exist_ok=True)
            runs[-1]["data"] = list_pictures(folder / "images", web_dir / f"other-{number}")
    return {"label": shown(label), "runs": runs}


def distinct(folders: list[Path]) -> list[str]:
    """Name runs as shortly as tells them apart: NAME, else test_latest, else NAME/test_latest, else the whole path."""
    ways = [[folder.parent.name for folder in folders], [folder.name for folder in folders]]
    ways += [[f"{folder.parent.name}/{folder.name}" for folder in folders], list(map(str, folders))]
    return next((names for names in ways if len(set(names)) == len(names)), ways[-1])


def list_pictures(folder: Path, target: Path) -> str:
    """List results that an earlier test.py wrote, as this one does it in data.js; return the list's address."""
    rows: dict[str, dict[str, str]] = {}
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names alone
        if match := FILE.fullmatch(name):
            rows.setdefault(match[1], {})[match[2]] = name
    target.mkdir(exist_ok=True)
    data, last = PageData(target, math.inf), None
    data.begin("")
    for name, files in rows.items():
        if list(files) != last:
            with Image.open(folder / next(iter(files.values()))) as image:
                data.append("layout", {"images": [[label, label, *image.size] for label in files], "thumbs": None})
            last = list(files)
        data.append("row", shown(name), address(name))
    data.append("done", True)
    return f"{target.name}/data.js"


# ---- the page of a run of test.py ----


def page_of(opt, web_dir: Path, about: dict, count: int, total: int) -> ResultsPage:
    """Begin the page of `count` of `total` images; `about` is what `compared` returned."""
    width = opt.display_winsize if "display_winsize" in run_facts(opt).typed else 0
    about = {"paired": is_paired(opt), "width": width, **about}
    roots = [Path(opt.dataroot) / f"{opt.phase}{domain}" for domain in ("", "A", "B")]
    title = f"Experiment = {opt.name}, Phase = {opt.phase}, Epoch = {opt.epoch}"
    return ResultsPage(
        web_dir, title, about, head_of(opt, web_dir, count, total), [*roots, opt.dataroot], opt.aspect_ratio
    )


def head_of(opt, web_dir: Path, count: int, total: int) -> tags.header:
    """Tell what was translated, by what, and how."""
    facts = {
        "Images": f"{count:,} of {total:,}" + (" (--num_test inf takes all)" if count < total else ""),
        "Model": ", ".join(str(getattr(opt, name)) for name in ("model", "netG", "direction") if hasattr(opt, name)),
        "Checkpoint": checkpoint_of(opt),
    }
    made = f"Made {time.strftime('%Y-%m-%d %H:%M')} on {run_summary.device_name(opt)} with {versions()}."
    rows = [
        tags.tr(tags.th(f"--{name}", scope="row"), tags.td(shown(value)), tags.td(shown(default)))
        for name, (value, default) in run_facts(opt).differing.items()
    ]
    header = tags.header(tags.h1(shown(opt.name), tags.small(f" {shown(opt.phase)}, epoch {shown(opt.epoch)}")))
    terms = header.add(tags.dl(cls="facts"))
    for name, value in facts.items():
        terms.add(tags.div(tags.dt(name), tags.dd(shown(value))))
    training = Path(opt.checkpoints_dir) / opt.name / "web" / "index.html"
    with contextlib.suppress(ValueError):  # it is on another drive
        link = Path(os.path.relpath(training, web_dir)).as_posix()
        if training.is_file():
            terms.add(tags.div(tags.dt("Training"), tags.dd(tags.a("its page", href=address(link)))))
    with header.add(tags.details(tags.summary("Command, options, versions"))):
        typed = tags.code(*unbroken(run_summary.command(opt)), id="command")
        tags.p(typed, tags.button("Copy", id="copy", type="button"), cls="command")
        tags.p(made)
        tags.table(tags.tr(tags.th(text, scope="col") for text in ("option", "value", "default")), rows)
    return header


def checkpoint_of(opt) -> str:
    """Say which networks were used, how long they were trained, and when they were saved."""
    folder, prefix = Path(opt.checkpoints_dir) / opt.name, prefix_of(opt)
    words = [f"{folder / prefix}"]
    with contextlib.suppress(UserError, OSError, KeyError, TypeError, ValueError):
        epoch, begun, images = (Checkpointer(folder).load_state(prefix, peek=True) or {})["progress"]
        words.append(f"epoch {epoch - (not begun)}, {images:,} images")
    saved = max((path.stat().st_mtime for path in folder.glob(f"{prefix}_net_*.pth")), default=0)
    return ", ".join([*words, *([time.strftime("saved %Y-%m-%d %H:%M", time.localtime(saved))] if saved else [])])


def versions() -> str:
    """Return the versions of what computed, with the project's commit where it is a clone."""
    found = run_summary.versions()
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found["torchvision"] = importlib.metadata.version("torchvision")
    if (ROOT / ".git").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            words = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
            found["commit"] = subprocess.run(
                words, capture_output=True, text=True, timeout=2, check=True
            ).stdout.strip()
    return ", ".join(f"{name} {version}" for name, version in found.items())
