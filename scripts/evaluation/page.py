"""The scores on the results page; where there is none, evaluation.html, a page of the same kind."""

from __future__ import annotations

import bisect
import csv
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dominate
import numpy as np
from dominate import tags
from dominate.util import raw

from data.formats import pillow
from util.checkpoint.atomic_files import write_whole
from util.loggers.visuals import shrunk
from util.metrics.evaluation import Score
from util.metrics.table import METRICS
from util.pages.data_file import as_line
from util.pages.document import address, prepare_head, relative_address, script, template, valid_utf8
from util.pages.results_writer import write_png

MOST = 5  # best images, and as many worst ones
SIDE = 512  # pixels; larger images that are not on the disk are shrunk
HEAD = ("metric", "value", "95 % interval", "", "images")
NO_PAIRS = "No scores of single images: they need pairs, results with ground truths."
MOVED = '<!DOCTYPE html><meta http-equiv="refresh" content="0; url=index.html"><a href="index.html">Results</a>\n'

Picture = Path | np.ndarray  # a file, or uint8 (H, W, 3)


class Row(NamedTuple):
    """The images of one input."""

    name: str
    pictures: dict[str, Picture]  # label, as fake_B


class Ranked(NamedTuple):
    """A row's rank by one metric."""

    badness: float
    number: int  # ties: the earlier image comes first
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
        bisect.insort(self.ranked, Ranked(*rank, shrink(row)), key=lambda other: other[:2])
        if full:
            del self.ranked[MOST]


def read(picture: Picture) -> np.ndarray:
    """Return a picture as uint8 (H, W, 3)."""
    return np.asarray(pillow.load(picture)) if isinstance(picture, Path) else picture


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


def show(out: Path, title: str, sections: list[Section]) -> Path:
    """Put the scores on the results page in `out`, or write evaluation.html; return the page."""
    shutil.rmtree(out / "evaluation_images", ignore_errors=True)
    page, index, line = out / "evaluation.html", out / "index.html", metrics_line(out, sections)
    if (out / "data.js").exists():
        write_whole(out / "metrics.js", line)
    if not (index.is_file() and 'id="scores"' in index.read_text(encoding="utf-8", errors="replace")):
        write_whole(page, make_page(out, title, sections, line))  # also beside a results page of an earlier version
        return page
    if page.exists():  # of an earlier version
        write_whole(page, MOVED)
    return index


def metrics_line(out: Path, sections: list[Section]) -> str:
    """Return the scores, and the values in evaluation_images.csv, as a line for results.js."""
    values: dict[str, dict[str, float]] = {}
    lower: dict[str, bool] = {}
    if (out / "evaluation_images.csv").exists():
        with (out / "evaluation_images.csv").open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                image, output = line.pop("image"), line.pop("output")
                for name, cell in line.items():
                    label = f"{name} {output}" if len(sections) > 1 else name
                    lower[label] = METRICS[name].lower
                    values.setdefault(image, {})[label] = float(cell or "nan")
    scores = []
    for section in sections:
        tables = [[HEAD, *score_rows(section)], list(baseline_rows(section))]
        notes = [valid_utf8(note) for note in section.notes] + [NO_PAIRS] * (not section.rankings)
        scores.append({"title": section.title, "tables": tables, "notes": notes})
    return as_line("metrics", {"order": list(lower), "lower": lower, "values": values, "scores": scores})


def make_page(out: Path, title: str, sections: list[Section], metrics: str) -> str:
    """Return the text of a page with the best and worst images by each metric, and its data.

    Images that are not on the disk are written to `out`/evaluation_images.
    """
    ranked = [rank.row for section in sections for ranking in section.rankings.values() for rank in ranking.ranked]
    labels = dict.fromkeys(label for section in sections for label in section.labels)
    lines = [as_line("begin", "evaluation"), as_line("about", {"paired": bool(ranked), "sorted": True})]
    for number, row in enumerate({row.name: row for row in ranked}.values()):
        images, sources = [], []
        for label in filter(row.pictures.__contains__, labels):
            picture = row.pictures[label]
            height, width = read(picture).shape[:2]
            images.append([label, label, width, height])
            sources.append(relative_address(on_disk(out, picture, f"{number:06d}_{label}.png"), out))
        lines.append(as_line("layout", {"images": images, "thumbs": None}))
        lines.append(as_line("row", valid_utf8(row.name), address(row.name), sources))
    document = dominate.document(title=valid_utf8(title))
    prepare_head(document, "results")
    document.header.add(tags.h1(valid_utf8(title)))
    data = tags.script(raw("".join([*lines, metrics, as_line("done", True)])))
    document.add(template("results"), *script("viewer", "results"), data)
    return document.render(pretty=False)


def on_disk(out: Path, picture: Picture, name: str) -> Path:
    """Return a picture's file, which is written if there is none."""
    if isinstance(picture, Path):
        return picture
    path = out / "evaluation_images" / name
    path.parent.mkdir(exist_ok=True)
    write_png(shrunk(picture, SIDE), path)
    return path
