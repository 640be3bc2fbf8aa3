"""The report of a study: its table, as Markdown and JSON, and its contact sheet, also for a page."""

from __future__ import annotations

import json
import math
import shlex
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.benchmark import machine
from scripts.benchmarks.tables import between_marks
from util.checkpoint.atomic_files import replacing, write_whole
from util.errors import UserError
from util.loggers.visuals import contact_sheet
from util.metrics.table import METRICS

Measures = dict[str, float]
Tables = dict[str, dict[str, dict[int, Measures]]]  # title -> row -> seed -> measures
Column = tuple[Path, str]  # a folder of results, and the domain to measure
HEADS = {"l1": "L1", "psnr": "PSNR", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "lpips": "LPIPS"}
DIGITS = {"l1": 4, "psnr": 2, "fid": 1, "spread": 4, "distance": 4, "L1 to the truth": 4}  # decimals; otherwise 3
WIDTH = 1100  # pixels of a sheet in a page


def report(runner, cells: list[list[tuple[str, np.ndarray]]]) -> None:
    """Write and print the tables and the contact sheet; with --into, put them into a page."""
    text = markdown(runner)
    sheet = contact_sheet([[(label, enlarged(picture)) for label, picture in row] for row in cells], 256)
    write_whole(runner.out / "table.md", text)
    write_whole(runner.out / "table.json", json.dumps(document(runner), indent=1, ensure_ascii=False) + "\n")
    with replacing(runner.out / "sheet.png") as new:
        sheet.save(new)
    print(f"\n{text}\n{runner.out}: table.md, table.json, sheet.png, log.txt", flush=True)
    if runner.args.into:
        put_into(runner.args.into, runner.study.name, text, sheet)


def enlarged(picture: np.ndarray) -> np.ndarray:
    """Return a picture (H, W, 3) with its pixels repeated, if it is smaller than its label."""
    times = max(1, 128 // max(picture.shape[:2]))
    return picture.repeat(times, 0).repeat(times, 1)


def document(runner) -> dict:
    """Return all measurements with their settings."""
    how = {
        "study": runner.study.name,
        "typed": shlex.join(sys.argv),
        "quick": runner.args.quick,
        "images": runner.images,
    }
    commands = {arm: f"python {shlex.join(runner.training(arm, runner.args.seeds[0]))}" for arm in runner.args.arms}
    folders = {
        title: {row: {seed: str(images.parent) for seed, (images, _) in seeds.items()} for row, seeds in rows.items()}
        for title, rows in runner.columns.items()
    }
    measured = {"commands": commands, "tables": finite(runner.tables), "folders": folders}
    return {**how, "machine": machine(runner.torch_device()), **measured}


def finite(found):
    """Replace infinite and undefined numbers by null, for JSON."""
    if isinstance(found, dict):
        return {key: finite(value) for key, value in found.items()}
    return found if math.isfinite(found) else None


def markdown(runner) -> str:
    """Return the tables, with notes under them."""
    lines: list[str] = []
    for number, (title, rows) in enumerate(runner.tables.items()):
        paper = runner.study.papers[number] if number < len(runner.study.papers) else None
        names = list(dict.fromkeys(name for seeds in rows.values() for own in seeds.values() for name in own))
        heads = [title, *map(head, names), *([paper.title] if paper else [])]
        lines += ["", *map(line, (heads, ["---"] * len(heads)))]
        lines += [line(cells_of(row, seeds, names, paper)) for row, seeds in rows.items()]
        further = [row for row in (paper.values if paper else []) if row not in rows and row not in runner.study.arms]
        lines += [line([row, *"-" * len(names), paper.values[row]]) for row in further]
    return "\n".join([*lines[1:], "", *notes(runner)])


def line(cells: list[str]) -> str:
    """Write a table's row."""
    return f"| {' | '.join(cells)} |"


def head(name: str) -> str:
    """Write a measure's name, with an arrow for the better direction."""
    if name not in METRICS:
        return name
    unit = f" ({METRICS[name].unit})" if METRICS[name].unit else ""
    return f"{HEADS.get(name, name)}{unit} {'↓' if METRICS[name].lower else '↑'}"


def cells_of(row: str, seeds: dict[int, Measures], names: list[str], paper) -> Iterator[str]:
    """Yield a row's cells: means over seeds, with minimum and maximum in brackets."""
    yield row
    for name in names:
        values = [own[name] for own in seeds.values() if name in own]
        low, middle, high = (
            f"{value:.{DIGITS.get(name, 3)}f}" if values else ""
            for value in (min(values, default=0), statistics.fmean(values or [0]), max(values, default=0))
        )
        yield middle + (f" ({low} to {high})" if len(values) > 1 else "") or "-"
    if paper:
        yield paper.values.get(row, "-")


def notes(runner) -> Iterator[str]:
    """Yield the lines under the tables: images, machine, versions, date, command."""
    it, args = machine(runner.torch_device()), runner.args
    count = max(len(seeds) for rows in runner.tables.values() for seeds in rows.values())
    seeds = "one seed" if count == 1 else f"mean of {count} seeds (minimum to maximum)"
    on = f"{runner.images} test images of {runner.data.name}, {args.direction}; {seeds}{'; --quick' * args.quick}"
    versions = f"PyTorch {it['torch']}, Python {it['python']}; {it['date']}, commit {it['commit'] or 'unknown'}"
    yield f"*{on}. {it['name']}; {versions}.*"
    words = runner.training(args.arms[0], args.seeds[0])
    yield f"\nThe command of the first arm:\n\n```bash\npython {shlex.join(words)}\n```\n"


def put_into(page: Path, mark: str, text: str, sheet: Image.Image) -> None:
    """Put the tables between a page's marks, and the sheet into img/ next to the page."""
    picture = page.parent / "img" / f"study_{mark}.jpg"
    image = f"![{mark}: rows are test images, columns the arms](img/{picture.name})"
    try:
        whole = between_marks(page.read_text(encoding="utf-8"), mark, f"{text}\n{image}")
    except ValueError as error:
        raise UserError(f"{page}: {error}") from error
    picture.parent.mkdir(exist_ok=True)
    sheet.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
    sheet.save(picture, quality=60, optimize=True)
    write_whole(page, whole)
