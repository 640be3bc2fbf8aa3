"""The page evaluation.html: the scores, and the best and worst images by each metric."""

from __future__ import annotations

import bisect
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import dominate
import numpy as np
from dominate import tags

from util.loggers.visuals import shrunk
from util.metrics.evaluation import Score
from util.metrics.table import METRICS
from util.pages.document import style, valid_utf8
from util.pages.results_writer import write_png

MOST = 5  # best images, and as many worst ones
SIDE = 512  # pixels; larger images that are not on the disk are shrunk
WIDTH = 256  # pixels on the page

Picture = Path | np.ndarray  # a file, or uint8 (H, W, 3)


class Row(NamedTuple):
    """The images of one input."""

    name: str
    pictures: dict[str, Picture]  # label, as fake_B


class Ranked(NamedTuple):
    """A row's rank by one metric."""

    badness: float
    number: int  # ties: the earlier image comes first
    value: float
    row: Row


class Ranking:
    """The best and worst images by one metric."""

    def __init__(self, metric: str):
        self.metric, self.count = metric, 0
        self.ranked: list[Ranked] = []  # best first; of more than 2 * MOST images the middle is dropped

    def add(self, value: float, row: Row) -> None:
        """Add an image's value, unless it is NaN."""
        self.count += 1
        rank = (value if METRICS[self.metric].lower else -value, self.count)
        full = len(self.ranked) == 2 * MOST
        if math.isnan(value) or (full and self.ranked[MOST - 1][:2] < rank < self.ranked[MOST][:2]):
            return
        bisect.insort(self.ranked, Ranked(*rank, value, shrink(row)), key=lambda other: other[:2])
        if full:
            del self.ranked[MOST]

    def ends(self) -> dict[str, list[Ranked]]:
        """Return the best, best first, and the worst, worst first; no image is in both."""
        half = (len(self.ranked) + 1) // 2
        return {"best": self.ranked[:half], "worst": self.ranked[half:][::-1]}


def shrink(row: Row) -> Row:
    """Shrink large images that are in memory."""
    small = lambda picture: picture if isinstance(picture, Path) else np.asarray(shrunk(picture, SIDE))  # noqa: E731
    return row._replace(pictures={label: small(picture) for label, picture in row.pictures.items()})


def formatted(value: float, unit: str = "") -> str:
    """Write a value with four digits and its unit."""
    return f"{value:#.4g} {unit}".strip()


def direction(metric: str) -> str:
    return f"{'lower' if METRICS[metric].lower else 'higher'} is better"


class Section(NamedTuple):
    """The scores and images of one kind of results."""

    title: str
    scores: dict[str, Score]
    baselines: dict[str, dict[str, Score]]  # baseline -> its scores
    notes: list[str]
    rankings: dict[str, Ranking]
    labels: tuple[str, ...]  # of the images of a row, from left to right


def score_rows(section: Section) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield metric, value, interval, direction and number of images, as texts."""
    for name, score in section.scores.items():
        interval = f"{formatted(score.low)} to {formatted(score.high)}" if score.images > 1 else "-"
        value = formatted(score.value, METRICS[name].unit)
        yield name, value, interval, direction(name), f"{score.images:,}"


def baseline_rows(section: Section) -> Iterator[tuple[str, ...]]:
    """Yield the header of the table of baselines, and its rows; nothing without baselines."""
    if section.baselines:
        names = list(next(iter(section.baselines.values())))
        yield "", *names
        for label, scores in {"the result": section.scores, **section.baselines}.items():
            yield label, *(formatted(scores[name].value) for name in names)


def make_page(out: Path, title: str, sections: list[Section]) -> str:
    """Return the page's text; images that are not on the disk are written to `out`/evaluation_images."""
    document = dominate.document(title=valid_utf8(title))
    document["lang"] = "en"
    with document.head:
        tags.meta(charset="utf-8")
        tags.meta(name="viewport", content="width=device-width, initial-scale=1")
        style()
    document.add(tags.h1(valid_utf8(title)))
    for section in sections:
        document.add(tags.h2(valid_utf8(section.title)))
        document.add(_table([("metric", "value", "95 % interval", "", "images"), *score_rows(section)]))
        if section.baselines:
            document.add(tags.h3("Compared with baselines that need no training"), _table(baseline_rows(section)))
        for note in section.notes:
            document.add(tags.p(valid_utf8(note), cls="note"))
        if not section.rankings:
            document.add(tags.p("No scores of single images: they need pairs, results with ground truths.", cls="note"))
        for metric, ranking in section.rankings.items():
            for end, ranked in ranking.ends().items():
                document.add(tags.h3(f"{metric}: the {end} ", tags.small(direction(metric))))
                document.add(_rows(out, ranked, METRICS[metric].unit, section.labels))
    return document.render(pretty=False)


def _table(rows: Iterable[Iterable[str]]) -> tags.table:
    """Return a table; the first row has the columns' names."""
    head, *rows = rows
    return tags.table(tags.tr(map(tags.th, head)), *(tags.tr(map(tags.td, row)) for row in rows))


def _rows(out: Path, ranked: Iterable[Ranked], unit: str, labels: tuple[str, ...]) -> tags.table:
    """Return a table of images with their values."""
    table = tags.table()
    for _, number, value, row in ranked:
        line, name = table.add(tags.tr()), valid_utf8(row.name)
        about = tags.p(formatted(value, unit)), tags.p(name)
        line.add(tags.td(*about, style="max-width:16rem;overflow-wrap:anywhere"))
        for label in labels:
            if label in row.pictures:
                url = _url(out, row.pictures[label], f"{number:06d}_{label}.png")
                image = tags.img(src=url, style=f"width:{WIDTH}px", loading="lazy", alt=f"{label} of {name}")
                line.add(tags.td(tags.p(tags.a(image, href=url)), tags.p(label)))
    return table


def _url(out: Path, picture: Picture, name: str) -> str:
    """Return an image's address, relative to the page; write the image if it has no file."""
    if not isinstance(picture, Path):
        path = out / "evaluation_images" / name
        path.parent.mkdir(exist_ok=True)
        write_png(shrunk(picture, SIDE), path)
        picture = path
    return quote(Path(os.path.relpath(picture, out)).as_posix(), errors="surrogateescape")
