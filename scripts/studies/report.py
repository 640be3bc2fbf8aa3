"""The report of a study: its table, as Markdown and JSON, and its contact sheet."""

from __future__ import annotations

import json
import math
import shlex
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scripts.benchmark import machine
from scripts.benchmarks.tables import table
from util.checkpoint.atomic_files import replacing, write_whole
from util.loggers.visuals import contact_sheet
from util.metrics.table import METRICS

Measures = dict[str, float]
Tables = dict[str, dict[str, dict[int, Measures]]]  # title -> row -> seed -> measures
Column = tuple[Path, str]  # a folder of results, and the domain to measure
HEADS = {"l1": "L1", "psnr": "PSNR", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "lpips": "LPIPS"}
DIGITS = {"l1": 4, "psnr": 2, "fid": 1, "spread": 4, "distance": 4, "L1 to the truth": 4}  # decimals; otherwise 3


def report(runner, cells: list[list[tuple[str, np.ndarray]]]) -> None:
    """Write the tables and the contact sheet, and print the tables."""
    text = markdown(runner)
    write_whole(runner.out / "table.md", text)
    write_whole(runner.out / "table.json", json.dumps(document(runner), indent=1, ensure_ascii=False) + "\n")
    with replacing(runner.out / "sheet.png") as new:
        contact_sheet(cells, 256).save(new)
    print(f"\n{text}\n{runner.out}: table.md, table.json, sheet.png, log.txt", flush=True)


def document(runner) -> dict:
    """Return all measurements with their settings."""
    how = {"study": runner.study.name, "typed": shlex.join(sys.argv), "quick": runner.args.quick}
    commands = {arm: f"python {shlex.join(runner.training(arm, runner.args.seeds[0]))}" for arm in runner.args.arms}
    folders = {
        title: {row: {seed: str(images.parent) for seed, (images, _) in seeds.items()} for row, seeds in rows.items()}
        for title, rows in runner.columns.items()
    }
    measured = {"commands": commands, "tables": finite(runner.tables), "folders": folders}
    return {**how, "images": runner.images, "machine": machine(runner.torch_device()), **measured}


def finite(found):
    """Replace infinite and undefined numbers by null, for JSON."""
    if isinstance(found, dict):
        return {key: finite(value) for key, value in found.items()}
    return found if math.isfinite(found) else None


def markdown(runner) -> str:
    """Return the tables, with notes under them."""
    lines: list[str] = []
    papers = [*runner.study.papers.items(), *[("", {})] * len(runner.tables)]
    for (title, rows), (paper, values) in zip(runner.tables.items(), papers, strict=False):
        names = list(dict.fromkeys(name for seeds in rows.values() for own in seeds.values() for name in own))
        further = {row: {} for row in values if row not in runner.study.arms}  # the ground truth
        cells = [[*cells_of(row, seeds, names), values.get(row, "-")] for row, seeds in {**rows, **further}.items()]
        head = [title, *map(head_of, names), paper]
        columns = len(head) if paper else len(head) - 1
        lines += [*table(" | ".join(head[:columns]), [row[:columns] for row in cells]), ""]
    return "\n".join([*lines, *notes(runner)])


def head_of(name: str) -> str:
    """Write a measure's name, with an arrow for the better direction."""
    if name not in METRICS:
        return name
    unit = f" ({METRICS[name].unit})" if METRICS[name].unit else ""
    return f"{HEADS.get(name, name)}{unit} {'↓' if METRICS[name].lower else '↑'}"


def cells_of(row: str, seeds: dict[int, Measures], names: list[str]) -> Iterator[str]:
    """Yield a row's cells: means over seeds, with minimum and maximum in brackets."""
    yield row
    for name in names:
        values = [own[name] for own in seeds.values() if name in own]
        if not values:
            yield "-"
            continue
        middle, low, high = (
            f"{value:.{DIGITS.get(name, 3)}f}" for value in (statistics.fmean(values), min(values), max(values))
        )
        yield f"{middle} ({low} to {high})" if len(values) > 1 else middle


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
