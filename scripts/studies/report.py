"""A study's table, as Markdown and JSON, and its contact sheet; into a page, too."""

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
from util.checkpoint.atomic_files import replacing, write_whole
from util.errors import UserError
from util.loggers.visuals import contact_sheet
from util.metrics.table import METRICS

Measures = dict[str, float]
Tables = dict[str, dict[str, dict[int, Measures]]]  # title -> row -> seed -> measures
Column = tuple[Path, str]  # a folder of results, and which side's count
HEADS = {"l1": "L1", "psnr": "PSNR", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "lpips": "LPIPS"}
DIGITS = {"l1": 4, "psnr": 2, "fid": 1, "spread": 4, "distance": 4, "L1 to the truth": 4}  # behind the point; else 3
WIDTH, LIGHT = 1100, 120_000  # pixels and bytes of a sheet in a page


def report(lab, cells: list[list[tuple[str, np.ndarray]]]) -> None:
    """Write the tables and the contact sheet, print them, and put them into a page if that was asked for."""
    text = markdown(lab)
    sheet = contact_sheet([[(label, enlarged(picture)) for label, picture in row] for row in cells], 256)
    write_whole(lab.out / "table.md", text)
    write_whole(lab.out / "table.json", json.dumps(document(lab), indent=1, ensure_ascii=False) + "\n")
    with replacing(lab.out / "sheet.png") as new:
        sheet.save(new)
    print(f"\n{text}\n{lab.out}: table.md, table.json, sheet.png, log.txt\n{advice(lab)}", flush=True)
    if lab.args.into:
        put_into(lab.args.into, lab.study.name, text, sheet)


def advice(lab) -> str:
    """Tell how to get the paper's own measure, if that is the FCN-score."""
    if not lab.study.papers:
        return ""
    arm, seeds = next((arm, seeds) for rows in lab.columns.values() for arm, seeds in rows.items())
    images, _ = next(iter(seeds.values()))
    return (
        f"The paper's FCN-score, where results are photos of Cityscapes (docs/evaluation.md), of {arm}:\n"
        f"  python scripts/fcn_score.py {images.parent} --segmenter FILE\ntable.json lists the other arms' folders\n"
    )


def enlarged(picture: np.ndarray) -> np.ndarray:
    """Return a picture (H, W, 3) with its pixels repeated, if it is small for its label."""
    times = max(1, 128 // max(picture.shape[:2]))
    return picture.repeat(times, 0).repeat(times, 1)


def document(lab) -> dict:
    """Return all that was measured, and how."""
    how = {"study": lab.study.name, "typed": shlex.join(sys.argv), "quick": lab.args.quick, "images": lab.images}
    commands = {arm: f"python {shlex.join(lab.training(arm, lab.args.seeds[0]))}" for arm in lab.args.arms}
    folders = {
        title: {row: {seed: str(images.parent) for seed, (images, _) in seeds.items()} for row, seeds in rows.items()}
        for title, rows in lab.columns.items()
    }
    measured = {"commands": commands, "tables": finite(lab.tables), "folders": folders}
    return {**how, "machine": machine(lab.torch_device()), **measured}


def finite(found):
    """Replace what JSON has no number for by null."""
    if isinstance(found, dict):
        return {key: finite(value) for key, value in found.items()}
    return found if math.isfinite(found) else None


def markdown(lab) -> str:
    """Return the tables, with what they were made by under them."""
    lines: list[str] = []
    for number, (title, rows) in enumerate(lab.tables.items()):
        paper = lab.study.papers[number] if number < len(lab.study.papers) else None
        names = list(dict.fromkeys(name for seeds in rows.values() for own in seeds.values() for name in own))
        heads = [title, *map(head, names), *([paper.what] if paper else [])]
        lines += ["", *map(line, (heads, ["---"] * len(heads)))]
        lines += [line(cells_of(row, seeds, names, paper)) for row, seeds in rows.items()]
        further = [row for row in (paper.figures if paper else []) if row not in rows and row not in lab.study.arms]
        lines += [line([row, *"-" * len(names), paper.figures[row]]) for row in further]
    return "\n".join([*lines[1:], "", *notes(lab)])


def line(cells: list[str]) -> str:
    """Write a table's row."""
    return f"| {' | '.join(cells)} |"


def head(name: str) -> str:
    """Write a measure's name, and whether less or more of it is better."""
    if name not in METRICS:
        return name
    unit = f" ({METRICS[name].unit})" if METRICS[name].unit else ""
    return f"{HEADS.get(name, name)}{unit} {'↓' if METRICS[name].lower else '↑'}"


def cells_of(row: str, seeds: dict[int, Measures], names: list[str], paper) -> Iterator[str]:
    """Yield a row's cells: means over seeds, and in brackets the least and the greatest."""
    yield row
    for name in names:
        values = [own[name] for own in seeds.values() if name in own]
        low, middle, high = (
            f"{value:.{DIGITS.get(name, 3)}f}" if values else ""
            for value in (min(values, default=0), statistics.fmean(values or [0]), max(values, default=0))
        )
        yield middle + (f" ({low} to {high})" if len(values) > 1 else "") or "-"
    if paper:
        yield paper.figures.get(row, "-")


def notes(lab) -> Iterator[str]:
    """Yield the lines under the tables: on what, by what, where and when."""
    it, args = machine(lab.torch_device()), lab.args
    count = max(len(seeds) for rows in lab.tables.values() for seeds in rows.values())
    seeds = "one seed" if count == 1 else f"mean of {count} seeds (minimum to maximum)"
    on = f"{lab.images} test images of {lab.data.name}, {args.direction}; {seeds}{'; --quick' * args.quick}"
    versions = f"PyTorch {it['torch']}, Python {it['python']}; {it['date']}, commit {it['commit'] or 'unknown'}"
    yield f"*{on}. {it['name']}; {versions}.*"
    words = lab.training(args.arms[0], args.seeds[0])
    yield f"\nThe command of the first arm:\n\n```bash\npython {shlex.join(words)}\n```\n"


def put_into(page: Path, mark: str, text: str, sheet: Image.Image) -> None:
    """Put the tables between a page's marks, and the sheet into img/ beside the page."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    whole = page.read_text(encoding="utf-8")
    if begin not in whole or end not in whole:
        raise UserError(f"{page} has no place for this: a line {begin.strip()} and a line {end}")
    before, rest = whole.split(begin, 1)
    picture = page.parent / "img" / f"study_{mark}.jpg"
    picture.parent.mkdir(exist_ok=True)
    sheet.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
    for quality in (75, 65, 55, 45):
        sheet.save(picture, quality=quality, optimize=True)
        if picture.stat().st_size < LIGHT:
            break
    shown = f"![{mark}: rows are test images, columns the arms](img/{picture.name})"
    write_whole(page, f"{before}{begin}\n{text}\n{shown}\n\n{end}{rest.split(end, 1)[1]}")
