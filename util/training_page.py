"""The training page: a document that never changes, and `data.js`, to which each step appends a line."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

from dominate import tags
from dominate.util import raw

from util.html import HTML
from util.pictures import Pictures, Step, file_label
from util.util import save_image

SCRIPT = Path(__file__).with_name("pages") / "training.js"


def as_line(call: str, value: object) -> str:
    """Write one call of data.js; no name in it can end the script that it is part of."""
    argument = json.dumps(value).replace("<", "\\u003c")
    return f"{call}({argument});\n"


class TrainingPage:
    """`web_dir`/index.html, which picks up new lines of data.js by itself, and the images that those name."""

    alive = True

    def __init__(self, web_dir: str | Path, title: str, width: int):
        """Make the folders and write the document; `width` is an image's on the page, in pixels."""
        self.page = HTML(web_dir, title)
        self.data = Path(web_dir) / "data.js"
        self.width = width
        self.shown: set[str] = set()  # the rows' ids: `epoch003`, `epoch003_000002000`
        body = self.page.doc
        body.add(tags.noscript(tags.p("This page is drawn by JavaScript. The images are in the folder images/.")))
        body.add(tags.div(id="plot", data_unit="epochs"), tags.div(id="legend"))
        body.add(tags.div(id="validation"), tags.main(id="rows"))
        body.add(tags.script(raw(SCRIPT.read_text(encoding="utf-8"))))
        self.page.save()

    def cut(self, total_iters: float, epoch: float = math.inf) -> None:
        """Drop the lines beyond `total_iters` images, and what was measured after `epoch` or later ones.

        0 begins a new run, which open pages notice by its name.
        """
        lines = self._read() if total_iters else []
        kept = [
            (call, value)
            for call, value in lines
            if call != "begin" and (value["total_iters"] or 0) <= total_iters
            if call != "validation" or value["x"] < epoch
        ]
        name = next((value for call, value in lines if call == "begin"), str(time.time_ns()))
        beside = self.data.with_name("data.js.new")
        beside.write_text("".join(as_line(*line) for line in [("begin", name), *kept]), encoding="utf-8")
        os.replace(beside, self.data)  # noqa: PTH105
        self.shown = {value["id"] for call, value in kept if call == "images"}

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        """Add a point to every loss's curve."""
        self._append("losses", {"total_iters": step.total_iters, "x": round(step.x, 6), "losses": losses})

    def has(self, epoch: int) -> bool:
        """Whether images of this epoch are on the page."""
        return f"epoch{epoch:03d}" in self.shown

    def images(self, step: Step, pictures: Pictures) -> None:
        """Write the images and their row; the names of an epoch's later rows tell how many images had been seen."""
        row = self._row_name(step)
        self._append("images", {"id": row, "epoch": step.epoch, **self._written(row, step, pictures)})
        self.shown.add(row)

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        """Add a point to every metric's curve, and the images that are the same ones every time."""
        row = f"validation{step.epoch:03d}"
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._append("validation", {"x": step.x, "values": finite, **self._written(row, step, pictures)})

    def _written(self, row: str, step: Step, pictures: Pictures) -> dict:
        """Write images under the name of their row; return what the page has to know of them."""
        items = [[] for _ in range(max(map(len, pictures.values()), default=0))]
        for label, images in pictures.items():
            for i, image in enumerate(images):
                file = f"{row}_{file_label(label)}{f'_{i}' if i else ''}.png"
                save_image(image, Path(self.page.img_dir) / file)
                items[i].append([label, file, image.shape[1] / image.shape[0]])
        return {"total_iters": step.total_iters, "width": self.width, "items": items}

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

    def _append(self, call: str, value: object) -> None:
        with self.data.open("a", encoding="utf-8") as file:
            file.write(as_line(call, value))

    def _read(self) -> list[tuple[str, object]]:
        """Return the whole lines of data.js as pairs of a call and its argument."""
        lines = self.data.read_text(encoding="utf-8").split("\n")[:-1] if self.data.exists() else []
        found = []
        for line in lines:
            call, _, argument = line.partition("(")
            try:
                found.append((call, json.loads(argument.removesuffix(");"))))
            except json.JSONDecodeError:  # half a line, from a run that was killed
                continue
        return found
