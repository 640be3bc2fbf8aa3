"""The results page of test.py: a document that is written once, and `data.js`, which gets a line for each row."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from dominate import tags
from PIL import Image

from util.checkpoint.checkpointer import Checkpointer, prefix_of
from util.errors import UserError, printable
from util.loggers import run_summary
from util.loggers.visuals import file_label, stretched, three_channels
from util.pages.data_file import PageData, as_line
from util.pages.document import HTML, address, command_spans, relative_address, script, template, valid_utf8
from util.runtime.run_facts import run_facts

THUMB = 128  # pixels, the height of thumbnails


class Row(NamedTuple):
    """One item of a batch."""

    name: str  # of its files, without label and extension
    files: dict[str, str]  # label -> file's name
    pictures: dict[str, np.ndarray]  # label -> uint8 (H, W, C)
    path: str = ""  # of the image that it shows

    @property
    def size(self) -> int:
        """The bytes of its pictures."""
        return sum(picture.nbytes for picture in self.pictures.values())


class ResultsPage(HTML):
    """`web_dir`/index.html, which reads `web_dir`/data.js, and the images that it names.

    `about`: facts for results.js (`paired`, `width`, `label`, `runs`); `header`: the head of the page; `roots`: folders
    of images, tried in this order: a row shows the path within them. `aspect_ratio`: stretches the pictures.
    """

    def __init__(
        self,
        web_dir: str | Path,
        title: str,
        about: dict | None = None,
        header: tags.header | None = None,
        roots: Iterable[str | Path] = (),
        aspect_ratio: float = 1.0,
    ):
        """Make the folders and write the document."""
        super().__init__(web_dir, title, sheets=("results",))
        self.roots, self.aspect_ratio = tuple(roots), aspect_ratio
        (Path(web_dir) / "metrics.js").write_text("")  # it would belong to images that are replaced now
        about = {"paired": None, "width": 0, "label": "", "runs": [], **(about or {})}
        self.data = PageData(web_dir)
        self.data.begin(str(time.time_ns()))
        self.data.append(as_line("about", about))
        self._layout: dict = {}
        self._lines: list[str] = []  # of data.js, to be written
        if header is not None:
            self.doc.header.clear()
            self.doc.header.add(header)
        self.doc.add(template("results"), *script("viewer", "results"))
        super().save()

    def add_row(self, row: Row) -> None:
        """Add a row, whose pictures are written."""
        layout = self._layout_of(row)
        if layout != self._layout:
            self._lines.append(as_line("layout", layout))
            self._layout = layout
        name = valid_utf8(path_within(row.path, self.roots))
        self._lines.append(as_line("row", name, address(row.name)))

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
        """Append the new rows to data.js."""
        if self._lines:
            self.data.append(*self._lines)
            self._lines = []

    def done(self) -> None:
        """Tell open pages that all rows are there."""
        self.data.append(as_line("done", True))

    def _layout_of(self, row: Row) -> dict:
        sizes = {label: stretched_size(picture, self.aspect_ratio) for label, picture in row.pictures.items()}
        images = [[valid_utf8(label), address(file_label(label)), *size] for label, size in sizes.items()]
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


def path_within(path: str, roots: Iterable[str | Path]) -> str:
    """Return an image's path within the first of `roots` that holds it, or its name alone."""
    for root in roots:
        with contextlib.suppress(ValueError):
            return Path(path).relative_to(root).as_posix()
    return Path(path).name


# ---- other runs ----


def runs_to_compare(web_dir: Path, folders: Iterable[str]) -> dict:
    """Return the label of the run whose page `web_dir` will hold, and `runs`: labels and addresses of the others."""
    found = [find_results(folder).absolute() for folder in folders]
    web_dir = web_dir.absolute()
    if web_dir in found:
        raise UserError(f"--compare {printable(web_dir)}: these are the results that would be replaced")
    label, *labels = short_labels([web_dir, *found])
    runs = [
        {"label": valid_utf8(other), "path": f"{relative_address(folder, web_dir)}/"}
        for folder, other in zip(found, labels, strict=True)
    ]
    return {"label": valid_utf8(label), "runs": runs}


def find_results(folder: str | Path) -> Path:
    """Return a folder that test.py has written; raise UserError if it is another one."""
    folder = Path(folder)
    if (folder / "data.js").is_file():
        return folder
    inner = sorted(path.parent for path in folder.glob("*/data.js"))
    hint = f". Did you mean {printable(inner[-1])}?" if inner else ": test.py writes such as results/NAME/test_latest"
    what = "has no data.js" if folder.is_dir() else "is not there"
    raise UserError(f"--compare {printable(folder)}: {what}{hint}")


def short_labels(folders: list[Path]) -> list[str]:
    """Name runs as shortly as possible: NAME, else test_latest, else NAME/test_latest, else the whole path."""
    ways = [[folder.parent.name for folder in folders], [folder.name for folder in folders]]
    ways += [[f"{folder.parent.name}/{folder.name}" for folder in folders], list(map(str, folders))]
    return next((names for names in ways if len(set(names)) == len(names)), ways[-1])


# ---- the page of a run of test.py ----


def begin_page(opt, web_dir: Path, about: dict, count: int, total: int) -> ResultsPage:
    """Begin the page of `count` of `total` images; `about` comes from `runs_to_compare`."""
    width = opt.display_winsize if "display_winsize" in run_facts(opt).typed else 0
    about = {"paired": run_facts(opt).paired, "width": width, **about}
    roots = [*(Path(opt.dataroot) / f"{opt.phase}{domain}" for domain in ("", "A", "B")), opt.dataroot]
    title = f"Experiment = {opt.name}, Phase = {opt.phase}, Epoch = {opt.epoch}"
    return ResultsPage(web_dir, title, about, page_header(opt, web_dir, count, total), roots, opt.aspect_ratio)


def page_header(opt, web_dir: Path, count: int, total: int) -> tags.header:
    """Return the head of the page: images, model, checkpoint, command, options, versions."""
    model = [str(getattr(opt, name)) for name in ("model", "netG", "direction") if hasattr(opt, name)]
    facts = {
        "Images": f"{count:,} of {total:,}" + (" (--num_test inf takes all)" if count < total else ""),
        "Model": ", ".join(model),
        "Checkpoint": checkpoint_facts(opt),
    }
    header = tags.header(tags.h1(valid_utf8(opt.name), tags.small(valid_utf8(f" {opt.phase}, epoch {opt.epoch}"))))
    terms = [tags.div(tags.dt(name), tags.dd(valid_utf8(value))) for name, value in facts.items()]
    training = Path(opt.checkpoints_dir) / opt.name / "web" / "index.html"
    if training.is_file():
        link = tags.a("training page", href=relative_address(training, web_dir))
        terms.append(tags.div(tags.dt("Training"), tags.dd(link)))
    header.add(tags.dl(*terms, cls="facts"))
    command = tags.code(*command_spans(run_summary.command(opt)), id="command")
    versions = ", ".join(map(" ".join, run_summary.versions().items()))
    made = f"Made {time.strftime('%Y-%m-%d %H:%M')} on {run_summary.device_name(opt)} with {versions}."
    with header.add(tags.details(tags.summary("Command, options, versions"))):
        tags.p(command)
        tags.p(made)
        with tags.table():
            tags.tr(tags.th(text, scope="col") for text in ("option", "value", "default"))
            for name, (value, default) in run_facts(opt).differing.items():
                tags.tr(tags.th(f"--{name}", scope="row"), tags.td(valid_utf8(value)), tags.td(valid_utf8(default)))
    return header


def checkpoint_facts(opt) -> str:
    """Return the checkpoint's path, how long it was trained, and when it was saved."""
    folder, prefix = Path(opt.checkpoints_dir) / opt.name, prefix_of(opt)
    words = [f"{folder / prefix}"]
    with contextlib.suppress(UserError, OSError, KeyError, TypeError, ValueError):
        epoch, begun, images = (Checkpointer(folder).load_state(prefix, peek=True) or {})["progress"]
        words.append(f"epoch {epoch - (not begun)}, {images:,} images")
    saved = max((path.stat().st_mtime for path in folder.glob(f"{prefix}_net_*.pth")), default=0)
    return ", ".join([*words, *([time.strftime("saved %Y-%m-%d %H:%M", time.localtime(saved))] if saved else [])])
