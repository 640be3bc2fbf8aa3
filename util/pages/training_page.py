"""The training page: a document that never changes, and `data.js`, to which each step appends a line."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

from dominate import tags
from PIL import Image

from util.loggers.base import Pictures, Sink, Step
from util.loggers.visuals import file_label
from util.pages.data_file import Line, PageData, as_line  # noqa: F401 - tests import as_line from here
from util.pages.document import HTML, script, shown, unbroken
from util.pages.results_writer import write_png
from util.runtime.background import Background


class TrainingPage(Sink):
    """`web_dir`/index.html, which picks up new lines of data.js by itself, and the images that those name.

    A thread encodes and writes, in the order of the calls: a line follows the images that it names. What went wrong
    there is raised by the next call.
    """

    def __init__(self, web_dir: str | Path, title: str, width: int, about: dict | None = None):
        """Make the folders and write the document; `width` is an image's on the page, in pixels.

        `about`: the facts in the head of the page (util.loggers.run_summary), and `epochs`, their total number.
        """
        self.page = HTML(web_dir, title, sheets=("training",))
        self.title, self.width, self.about = title, width, about or {}
        self.shown: set[str] = set()  # the rows' ids: `epoch003`, `epoch003_000002000`
        self.soon = Background("training page")
        self.data = PageData(web_dir)

    def cut(self, total_iters: float, epoch: float = math.inf) -> None:
        """Drop the lines beyond `total_iters` images, and what was measured after `epoch` or later ones.

        0 begins a new run, which open pages notice by its name. A run that goes on where that is known says so.
        """
        self.soon.finish()
        if total_iters:
            self.data.keep(lambda line: stays(line, total_iters, epoch))
        lines = self.data.read() if total_iters else []
        name = next((values[0] for call, values in lines if call == "begin"), None)
        if name is None:
            name = str(time.time_ns())
            self.data.begin(name)
        self.shown = {values[0]["id"] for call, values in lines if call == "images"}
        starts = [values[0] for call, values in lines if call == "start"]
        self.data.head = [name, *(start["time"] for start in starts[-1:])]  # a page notices that it has missed a start
        if math.isfinite(total_iters):
            start = {
                "time": now(),
                **self.about,
                "total_iters": total_iters,
                "epoch": epoch if math.isfinite(epoch) else 0,
            }
            self.data.append("start", start)
            self.data.head = [name, start["time"]]
            starts.append(start)
        self.page = HTML(self.data.folder, self.title, sheets=("training",))
        fill(self.page.doc, starts or [{"time": now(), **self.about}])
        self.page.save()

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        """Add a point to every loss's curve, and to the learning rate's."""
        point = {"total_iters": step.total_iters, "x": round(step.x, 6), "time": now(), "losses": short(losses)}
        rate = {} if step.lr is None else {"lr": step.lr}
        self.soon(0, self.data.append, "losses", point | rate)

    def has(self, epoch: int) -> bool:
        """Whether images of this epoch are on the page."""
        return f"epoch{epoch:03d}" in self.shown

    def images(self, step: Step, pictures: Pictures) -> None:
        """Write the images and their row; the names of an epoch's later rows tell how many images had been seen."""
        row = self._row_name(step)
        self.shown.add(row)
        self._add(row, pictures, "images", {"id": row, "epoch": step.epoch, "total_iters": step.total_iters})

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        """Add a point to every metric's curve, and the images that are the same ones every time."""
        finite = {name: value if math.isfinite(value) else None for name, value in short(values).items()}
        point = {"x": step.x, "total_iters": step.total_iters, "time": now(), "values": finite}
        self._add(f"validation{step.epoch:03d}", pictures, "validation", point)

    def flush(self) -> None:
        """Wait until everything is written."""
        self.soon.finish()

    def close(self, epochs: int = 0) -> None:
        """Write that the run ended after `epochs` complete epochs, and everything that waits."""
        self.soon(0, self.data.append, "end", {"time": now(), "epoch": epochs})
        self.soon.finish()

    def _add(self, row: str, pictures: Pictures, call: str, value: dict) -> None:
        """Have images written under the name of their row, then the line that names them."""
        items, files = [[] for _ in range(max(map(len, pictures.values()), default=0))], {}
        for label, images in pictures.items():
            for i, image in enumerate(images):
                file = f"{row}_{file_label(label)}{f'_{i}' if i else ''}.png"
                items[i].append([label, file, image.shape[1] / image.shape[0]])
                files[file] = image
        size = sum(image.nbytes for image in files.values())
        self.soon(size, self._write, files, call, value | {"width": self.width, "items": items})

    def _write(self, files: dict, call: str, value: dict) -> None:
        for file, image in files.items():
            write_png(Image.fromarray(image), Path(self.page.img_dir) / file)
        self.data.append(call, value)

    def _row_name(self, step: Step) -> str:
        """Find a name that no older row's files have."""
        name = f"epoch{step.epoch:03d}"
        if name in self.shown:
            name += f"_{step.total_iters:09d}"
        row, count = name, 1
        while row in self.shown:
            count += 1
            row = f"{name}_{count}"
        return row


def now() -> float:
    """Return the seconds since 1970, to a tenth."""
    return round(time.time(), 1)


def short(values: dict[str, float]) -> dict[str, float]:
    """Round to seven digits that count, as metrics.csv does."""
    return {name: float(f"{value:.7g}") for name, value in values.items()}


def stays(line: Line, total_iters: float, epoch: float) -> bool:
    """Whether a line tells of what lies before the place where a run goes on."""
    call, (value, *_) = line
    seen = value.get("total_iters") or 0
    if call in ("start", "end"):
        return call == "start" and seen < total_iters
    return seen <= total_iters and (call != "validation" or value["x"] < epoch)


def facts(starts: list[dict]) -> Iterator[object]:
    """Yield terms and descriptions of what is known of a run; `starts`: util.loggers.run_summary's, one for each start.

    training.js adds a start that comes while the page is open.
    """
    first, last = starts[0], starts[-1]
    options = {name: value for start in starts for name, value in start.get("options", {}).items()}
    days = [time.strftime("%Y-%m-%d %H:%M", time.localtime(start["time"])) for start in starts]
    rows = {
        "Command": [tags.code(*unbroken(first.get("command", "")))],
        "Options": [
            tags.span(tags.b(name), f" {shown(value)}") for name, value in options.items() if name != "continue_train"
        ],
        "Model": [first.get("model", "")],
        "Device": [last.get("device", "")],
        "Versions": [", ".join(map(" ".join, last.get("versions", {}).items()))],
        "Begun": [days[0]],
        "Went on": [
            tags.span(f"{day}, after {start['total_iters']} images")
            for day, start in zip(days[1:], starts[1:], strict=True)
        ],
    }
    for name, values in rows.items():
        if any(values):
            yield tags.dt(name)
            yield tags.dd(*values)


def fill(document, starts: list[dict]) -> None:
    """Add what the page tells of a run, and what training.js fills and listens to."""
    document.header.clear()
    document.header.add(tags.h1(shown(starts[0].get("name", "")), tags.small(" training")))
    document.header.add(tags.p(id="state"), tags.div(tags.i(id="progress"), cls="progress"))
    document.add(tags.noscript(tags.p("This page is drawn by JavaScript. The images are in the folder images/.")))
    document.add(tags.details(tags.summary("About this run"), tags.dl(*facts(starts), cls="run", id="run")))
    with document.add(tags.main()):
        samples()
        with tags.div():
            curves()
    document.add(*script("viewer", "training"))


def curves() -> None:
    """Add the losses' and the metrics' charts."""
    with tags.section(id="curves", hidden=True, aria_label="Losses"):
        with tags.div(cls="head"):
            tags.h2("Losses")
            tags.output(id="where", aria_live="off")
        with tags.div(cls="controls"):
            ids = {"type": "range", "min": 0, "max": 3, "step": 0.1, "value": 0}
            with tags.span():
                tags.label("Smoothing", tags.input_(id="smooth", **ids))
                tags.output(id="prints", aria_live="off")
            axes = [tags.option(name, value=name) for name in ("epochs", "hours", "images")]
            tags.label("Axis ", tags.select(*axes, id="axis"))
            tags.label(tags.input_(id="log", type="checkbox"), "Log scale")
        tags.div(id="legend")
        tags.div(id="plot")
        tags.p("Learning rate ", tags.b(id="lr"), id="lrs")
        tags.div(id="rate")
    with tags.section(id="validation", hidden=True, aria_label="Validation"):
        tags.h2("Validation")
        tags.div(id="metrics")


def samples() -> None:
    """Add the images and their scrubber."""
    with tags.section(id="samples", hidden=True, aria_label="Images"):
        with tags.div(cls="head"):
            tags.h2("Images")
            tags.output(id="when", aria_live="off")
            with tags.div(cls="push"):
                tags.button("Best", id="best", type="button", title="the best epoch's images")
                tags.button("Newest", id="newest", type="button", title="the newest images, as they come")
        tags.div(id="strip", role="group", aria_label="Epochs")
        tags.input_(id="epoch", type="range", min=0, value=0, aria_label="Epoch of the images")
        tags.div(id="bar")
        tags.div(id="fixed")
        with tags.div(id="beside"):
            tags.h3("In training, ", tags.small(id="when2"))
            tags.div(id="random")
