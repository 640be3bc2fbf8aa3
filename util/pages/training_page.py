"""The training page: a document that rarely changes, and `data.js`, to which each step appends a line."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

from dominate import tags
from PIL import Image

from util.loggers.base import Pictures, Sink, Step
from util.loggers.visuals import file_label
from util.pages.data_file import Line, PageData, as_line
from util.pages.document import HTML, command_spans, script, template, valid_utf8
from util.pages.results_writer import write_png
from util.runtime.background import Background


class TrainingPage(Sink):
    """`web_dir`/index.html, which loads new lines of data.js by itself, and the images that those lines name.

    A thread encodes and writes in the order of the calls: a line follows its images. The next call raises its errors.
    """

    def __init__(self, web_dir: str | Path, title: str, width: int, about: dict | None = None):
        """Make the folders; `width` is an image's on the page, in pixels.

        `about`: the facts in the head of the page (util.loggers.run_summary), and `epochs`, their total number.
        """
        self.title, self.width, self.about = title, width, about or {}
        self.page = HTML(web_dir, title, sheets=("training",))
        self.rows: set[str] = set()  # the rows' names: `epoch003`, `epoch003_000002000`
        self.background = Background("training page")
        self.data = PageData(web_dir)

    def cut(self, total_iters: float, epoch: float = math.inf) -> None:
        """Drop the lines after `total_iters` images, and the measurements of `epoch` and later ones.

        0 begins a new run, which open pages notice by its name. A run that is resumed at a known place adds a start.
        """
        self.background.finish()
        if total_iters:
            self.data.keep(lambda line: is_before(line, total_iters, epoch))
        lines = self.data.read() if total_iters else []
        name = next((values[0] for call, values in lines if call == "begin"), None)
        if name is None:
            name = str(time.time_ns())
            self.data.begin(name)
        self.rows = {values[0]["id"] for call, values in lines if call == "images"}
        starts = [values[0] for call, values in lines if call == "start"]
        self.data.head = [name, *(start["time"] for start in starts[-1:])]  # a page notices that it missed a start
        if math.isfinite(total_iters):
            place = {"total_iters": total_iters, "epoch": epoch if math.isfinite(epoch) else 0}
            starts.append({"time": now(), **self.about, **place})
            self.data.append(as_line("start", starts[-1]))
            self.data.head = [name, starts[-1]["time"]]
        self.page = HTML(self.data.folder, self.title, sheets=("training",))
        lay_out(self.page.doc, starts or [{"time": now(), **self.about}])
        self.page.save()

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        """Add a point to every loss's curve, and to the learning rate's."""
        point = {"total_iters": step.total_iters, "x": round(step.x, 6), "time": now(), "losses": seven_digits(losses)}
        rate = {} if step.lr is None else {"lr": step.lr}
        self.background(0, self.data.append, as_line("losses", point | rate))

    def has(self, epoch: int) -> bool:
        """Whether images of this epoch are on the page."""
        return f"epoch{epoch:03d}" in self.rows

    def images(self, step: Step, pictures: Pictures) -> None:
        """Write the images and their row; the names of an epoch's later rows have the number of images seen."""
        row = self._row_name(step)
        self.rows.add(row)
        self._add(row, pictures, "images", {"id": row, "epoch": step.epoch, "total_iters": step.total_iters})

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        """Add a point to every metric's curve, and the images, which are the same every time."""
        finite = {name: value if math.isfinite(value) else None for name, value in seven_digits(values).items()}
        point = {"x": step.x, "total_iters": step.total_iters, "time": now(), "values": finite}
        self._add(f"validation{step.epoch:03d}", pictures, "validation", point)

    def flush(self) -> None:
        """Wait until everything is written."""
        self.background.finish()

    def close(self, epochs: int = 0) -> None:
        """Write that the run has ended after `epochs` complete epochs, and wait until everything is written."""
        self.background(0, self.data.append, as_line("end", {"time": now(), "epoch": epochs}))
        self.background.finish()

    def _add(self, row: str, pictures: Pictures, call: str, value: dict) -> None:
        """Write images under the name of their row, then the line that names them."""
        items, files = [[] for _ in range(max(map(len, pictures.values()), default=0))], {}
        for label, images in pictures.items():
            for i, image in enumerate(images):
                file = f"{row}_{file_label(label)}{f'_{i}' if i else ''}.png"
                items[i].append([label, file, image.shape[1] / image.shape[0]])
                files[file] = image
        size = sum(image.nbytes for image in files.values())
        self.background(size, self._write, files, call, value | {"width": self.width, "items": items})

    def _write(self, files: dict, call: str, value: dict) -> None:
        for file, image in files.items():
            write_png(Image.fromarray(image), Path(self.page.img_dir) / file)
        self.data.append(as_line(call, value))

    def _row_name(self, step: Step) -> str:
        """Return a name that no older row has."""
        name = f"epoch{step.epoch:03d}"
        later = f"{name}_{step.total_iters:09d}"
        names = itertools.chain([name, later], (f"{later}_{number}" for number in itertools.count(2)))
        return next(row for row in names if row not in self.rows)


def now() -> float:
    """Return the seconds since 1970, to a tenth."""
    return round(time.time(), 1)


def seven_digits(values: dict[str, float]) -> dict[str, float]:
    """Round to seven significant digits, as metrics.csv does."""
    return {name: float(f"{value:.7g}") for name, value in values.items()}


def is_before(line: Line, total_iters: float, epoch: float) -> bool:
    """Whether a line was written before the place at which a run is resumed."""
    call, (value, *_) = line
    seen = value.get("total_iters") or 0
    if call in ("start", "end"):
        return call == "start" and seen < total_iters
    return seen <= total_iters and (call != "validation" or value["x"] < epoch)


def terms_of(starts: list[dict]) -> Iterator[object]:
    """Yield terms and descriptions of a run; `starts`: run_summary's facts at each start.

    training.js adds a start that comes while the page is open.
    """
    first, last = starts[0], starts[-1]
    options = {name: value for start in starts for name, value in start.get("options", {}).items()}
    options.pop("continue_train", None)
    days = [time.strftime("%Y-%m-%d %H:%M", time.localtime(start["time"])) for start in starts]
    resumed = zip(days[1:], starts[1:], strict=True)
    rows = {
        "Command": [tags.code(*command_spans(first.get("command", "")))],
        "Options": [tags.span(tags.b(name), f" {valid_utf8(value)}") for name, value in options.items()],
        "Model": [first.get("model", "")],
        "Device": [last.get("device", "")],
        "Versions": [", ".join(map(" ".join, last.get("versions", {}).items()))],
        "Started": [days[0]],
        "Resumed": [tags.span(f"{day}, after {start['total_iters']} images") for day, start in resumed],
    }
    for name, values in rows.items():
        if any(values):
            yield tags.dt(name)
            yield tags.dd(*values)


def lay_out(document, starts: list[dict]) -> None:
    """Add the head of the page, and the elements that training.js fills."""
    document.header.clear()
    document.header.add(tags.h1(valid_utf8(starts[0].get("name", "")), tags.small(" training")))
    document.header.add(tags.p(id="state"), tags.div(tags.i(id="progress"), cls="progress"))
    document.add(tags.details(tags.summary("About this run"), tags.dl(*terms_of(starts), cls="run", id="run")))
    document.add(template("training"), *script("viewer", "training"))
