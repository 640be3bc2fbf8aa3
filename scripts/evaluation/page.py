"""The page evaluation.html: the figures, and the best and the worst images by each measure."""

from __future__ import annotations

import bisect
import math
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import dominate
import numpy as np
from dominate import tags

from util.loggers.visuals import shrunk
from util.metrics.evaluation import Score
from util.metrics.table import METRICS
from util.pages.document import shown, style
from util.pages.results_writer import write_png

MOST = 5  # images at either end
SIDE = 512  # pixels; pictures that are not on the disk are kept this large
WIDTH = 256  # pixels on the page

Picture = Path | np.ndarray  # a file, or uint8 (H, W, 3)


class Row(NamedTuple):
    """One image: what belongs together."""

    name: str
    pictures: dict[str, Picture]  # label, as fake_B


class Place(NamedTuple):
    """Where an image stands by one measure."""

    badness: float
    number: int  # the earlier image comes first
    value: float
    row: Row


class Extremes:
    """The best and the worst images by one measure, kept while others go by."""

    def __init__(self, metric: str):
        self.metric = metric
        self.best: list[Place] = []  # best first
        self.worst: list[Place] = []  # worst last
        self.count = 0

    def add(self, value: float, row: Row) -> None:
        """Take an image's value; NaN is none."""
        self.count += 1
        if math.isnan(value):
            return
        place = Place(value if METRICS[self.metric].lower else -value, self.count, value, row)
        if len(self.best) < MOST or place[:2] < self.best[-1][:2] or place[:2] > self.worst[0][:2]:
            place = place._replace(row=kept(row))
        bisect.insort(self.best, place, key=lambda other: other[:2])
        bisect.insort(self.worst, place, key=lambda other: other[:2])
        del self.best[MOST:], self.worst[:-MOST]

    def ends(self) -> dict[str, list[Place]]:
        """Return the best, best first, and the worst, worst first; no image is in both."""
        worst = [place for place in self.worst[::-1] if place not in self.best]
        if not worst:  # MOST images or fewer
            half = (len(self.best) + 1) // 2
            return {"best": self.best[:half], "worst": self.best[half:][::-1]}
        return {"best": self.best, "worst": worst}


def kept(row: Row) -> Row:
    """Make arrays small enough to be kept."""
    small = lambda picture: picture if isinstance(picture, Path) else np.asarray(shrunk(picture, SIDE))  # noqa: E731
    return row._replace(pictures={label: small(picture) for label, picture in row.pictures.items()})


def formatted(value: float, unit: str = "") -> str:
    """Write a value with four digits, and its unit."""
    return f"{value:#.4g} {unit}".strip()


def span(score: Score) -> str:
    """Write an interval; one image has none."""
    if score.images < 2:
        return "-"
    return f"{formatted(score.low)} to {formatted(score.high)}"


def better(metric: str) -> str:
    """Say which way is up."""
    return f"{'lower' if METRICS[metric].lower else 'higher'} is better"


class Section(NamedTuple):
    """What the page tells of one kind of results."""

    title: str
    scores: dict[str, Score]
    answers: dict[str, dict[str, Score]]  # trivial answer -> its scores
    notes: list[str]
    extremes: dict[str, Extremes]
    samples: list[Place]  # where there are no pairs, and so no best and worst
    labels: tuple[str, ...]  # of the pictures of a row, from left to right


def make_page(out: Path, title: str, sections: list[Section]) -> str:
    """Return the page; pictures that are not on the disk are written to `out`/evaluation_images."""
    document = dominate.document(title=shown(title))
    document["lang"] = "en"
    with document.head:
        tags.meta(charset="utf-8")
        tags.meta(name="viewport", content="width=device-width, initial-scale=1")
        style()
    document.add(tags.h1(shown(title)))
    for section in sections:
        document.add(tags.h2(shown(section.title)), _figures(section.scores))
        if section.answers:
            document.add(tags.h3("Beside answers that need no training"), _answers(section))
        for note in section.notes:
            document.add(tags.p(shown(note), cls="note"))
        if not section.extremes:
            document.add(tags.p("No measure of single images: that needs pairs, an image and its truth.", cls="note"))
        if section.samples:
            document.add(tags.h3("Some of the results, evenly spread"), _rows(out, "", section.samples, section.labels))
        for metric, extremes in section.extremes.items():
            for end, places in extremes.ends().items():
                if places:
                    heading = document.add(tags.h3(f"{metric}: the {end} "))
                    heading.add(tags.small(better(metric)))
                    document.add(_rows(out, metric, places, section.labels))
    return document.render(pretty=False)


def _figures(scores: dict[str, Score]) -> tags.table:
    table = tags.table()
    table.add(tags.tr(tags.th(text) for text in ("metric", "value", "95 % interval", "", "images")))
    for name, score in scores.items():
        cells = (name, formatted(score.value, METRICS[name].unit), span(score), better(name), f"{score.images:,}")
        table.add(tags.tr(tags.td(text) for text in cells))
    return table


def _answers(section: Section) -> tags.table:
    table, names = tags.table(), list(next(iter(section.answers.values())))
    table.add(tags.tr(tags.th(text) for text in ("", *names)))
    for answer, scores in {"the result": section.scores, **section.answers}.items():
        table.add(tags.tr(tags.td(answer), (tags.td(formatted(scores[name].value)) for name in names)))
    return table


def _rows(out: Path, metric: str, places: list[Place], labels: tuple[str, ...]) -> tags.table:
    table = tags.table()
    for place in places:
        row = table.add(tags.tr())
        value = formatted(place.value, METRICS[metric].unit) if metric else ""
        row.add(tags.td(tags.p(value), tags.p(shown(place.row.name)), style="max-width:16rem;overflow-wrap:anywhere"))
        for label in labels:
            if label in place.row.pictures:
                url, alt = _url(out, place, label), f"{label} of {shown(place.row.name)}"
                image = tags.img(src=url, style=f"width:{WIDTH}px", loading="lazy", alt=alt)
                row.add(tags.td(tags.p(tags.a(image, href=url)), tags.p(label)))
    return table


def _url(out: Path, place: Place, label: str) -> str:
    """Return a picture's address, relative to the page; write the picture if it is no file."""
    picture = place.row.pictures[label]
    if not isinstance(picture, Path):
        path = out / "evaluation_images" / f"{place.number:06d}_{label}.png"
        path.parent.mkdir(exist_ok=True)
        write_png(shrunk(picture, SIDE), path)
        picture = path
    try:
        return quote(Path(os.path.relpath(picture, out)).as_posix(), errors="surrogateescape")
    except ValueError:  # on another drive
        return picture.resolve().as_uri()
