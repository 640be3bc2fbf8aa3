"""Make Markdown tables from the measurements of scripts/benchmark.py.

    python scripts/benchmarks/tables.py results/benchmark/benchmark.json --into docs/performance.md

With --into, each table goes into the page between its marks: `<!-- cpu steps -->` and `<!-- /cpu steps -->`, or gpu
instead of cpu. docs/performance.md explains the columns.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

FACADES_EPOCHS = 200  # of the pix2pix paper's schedule (section 6.2)


def main() -> None:
    """Print the tables, or put them into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="benchmark.json of one or more runs")
    parser.add_argument("--into", type=Path, help="a page with marks")
    args = parser.parse_args()
    try:
        for file in args.files:
            document = json.loads(file.read_text(encoding="utf-8"))
            if args.into:
                args.into.write_text(with_tables(args.into.read_text(encoding="utf-8"), document), encoding="utf-8")
            else:
                print(markdown(document))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def markdown(document: dict) -> str:
    """Return all tables under titles."""
    parts = [part for part in TABLES if document["parts"].get(part)]
    return "\n".join(f"## {part}\n\n{section(part, document)}\n" for part in parts)


def section(part: str, document: dict) -> str:
    """Return a part's table, with machine, versions and date under it."""
    it = document["machine"]
    versions = f"PyTorch {it['torch']}, Python {it['python']}"
    lines = [*TABLES[part](document["parts"][part], document), ""]
    lines.append(f"*{it['name']}; {versions}; {it['date']}, commit {it['commit'] or 'unknown'}*")
    return "\n".join(lines + ["", "**A quick run: not for publication.**"] * document["settings"]["quick"])


def with_tables(page: str, document: dict) -> str:
    """Put each table between its marks in a page's text."""
    for part in document["parts"]:
        page = between_marks(page, f"{document['machine']['device']} {part}", section(part, document))
    return page


def between_marks(page: str, mark: str, text: str) -> str:
    """Replace the text between the lines <!-- mark --> and <!-- /mark --> of a page; ValueError if they are missing."""
    text = f"<!-- {mark} -->\n\n{text}\n\n<!-- /{mark} -->"
    page, count = re.subn(f"<!-- {mark} -->.*?<!-- /{mark} -->", lambda _: text, page, flags=re.DOTALL)
    if not count:
        raise ValueError(f"the page has no lines <!-- {mark} --> and <!-- /{mark} -->")
    return page


# ---- numbers ----


def figure(value: float) -> str:
    """Write a number with three significant digits: `0.0123`, `12.3`, `1,230`."""
    if not value or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def spread(samples: list[float], scale: float = 1.0) -> str:
    """Write the median of samples, with minimum and maximum in brackets."""
    middle, low, high = (scale * value for value in (statistics.median(samples), min(samples), max(samples)))
    return figure(middle) if len(samples) == 1 else f"{figure(middle)} ({figure(low)} to {figure(high)})"


def percent(share: float | None) -> str:
    """Write a share."""
    return "-" if share is None else f"{share:.0%}"


def rate(seconds: list[float]) -> float:
    """Return the median number per second of samples in seconds."""
    return statistics.median([1 / value for value in seconds])


def table(head: str, rows: list[list]) -> list[str]:
    """Return a table's lines; `head`: the names of the columns, between bars."""
    columns = head.split(" | ")
    return [f"| {' | '.join(map(str, line))} |" for line in (columns, ["---"] * len(columns), *rows)]


# ---- tables: rows of a part, and the whole document, to lines ----


def limits_table(rows: list[dict], document: dict) -> list[str]:
    lines = [[f"matrix products, {row['limit']}", f"{spread(row['samples'], 1e-12)} TFLOP/s"] for row in rows]
    return table("limit | rate", lines)


def share_of_limit(row: dict, document: dict) -> float | None:
    """Return a step's FLOP/s as a share of the matrix products' in its precision; None if that was not measured."""
    rates = {limit["limit"]: statistics.median(limit["samples"]) for limit in document["parts"].get("limits", [])}
    precision = row["speed"].split()[0]
    # By default, cuDNN's convolutions round float32 to TF32.
    precision = "tf32" if precision == "fp32" and document["machine"].get("tf32") else precision
    return row["flops"] * rate(row["samples"]) / rates[precision] if precision in rates else None


def steps_table(rows: list[dict], document: dict) -> list[str]:
    measured = [row for row in rows if "samples" in row]
    plain = {cell(row): rate(row["samples"]) for row in measured if row["variant"] == "default"}
    lines = [list(step_line(row, plain.get(cell(row)), document)) for row in rows]
    head = "model | batch | variant | what runs | steps/s | images/s | times default | GB at most"
    text = [
        f"{row['model']} {figure(row['flops'] / 1e9)} GFLOP"
        for row in {row["model"]: row for row in reversed(measured)}.values()
        if row["batch_size"] == 1
    ]
    notes = [f"A float32 step on one image, as counted: {'; '.join(reversed(text))}."] if text else []
    notes += ["(*) Measured one by one: memory does not hold all variants."] * any("alone" in row for row in rows)
    return [*table(f"{head} | of products", lines), "", *notes]


def cell(row: dict) -> tuple[str, int]:
    """Return the key of rows that are compared with each other."""
    return row["model"], row["batch_size"]


def step_line(row: dict, plain: float | None, document: dict) -> Iterator[object]:
    """Yield the cells of a training step's row; `plain`: steps per second of the default."""
    yield from (*cell(row), row["variant"] + "*" * ("alone" in row))
    if "samples" not in row:
        yield from (row["failed"], *"-----")
        return
    per_second, batch = rate(row["samples"]), row["batch_size"]
    yield from (row["speed"], spread([1 / value for value in row["samples"]]), figure(batch * per_second))
    yield figure(per_second / plain) if plain else "-"
    yield figure(row["memory"] / 1e9) if row["memory"] else "-"
    yield percent(share_of_limit(row, document))


def loader_table(rows: list[dict], document: dict) -> list[str]:
    keys = ("model", "format", "options", "workers", "batch_size")
    lines = [[*(row[key] for key in keys), spread(row["first"]), spread(row["samples"])] for row in rows]
    return table("for | format | options | processes | batch | first epoch, items/s | later epochs, items/s", lines)


def translation_table(rows: list[dict], document: dict) -> list[str]:
    plain = {
        (row["model"], row["size"]): statistics.median(row["samples"]) for row in rows if row["way"] == "plain loop"
    }
    lines = []
    for row in rows:
        gain = statistics.median(row["samples"]) / plain[row["model"], row["size"]]
        about = [row[key] for key in ("model", "size", "way", "batch_size", "speed")]
        lines.append([*about, spread(row["samples"]), figure(gain), percent(statistics.median(row["busy"]))])
    return table("model | size | way | batch | what runs | images/s | times plain | network runs", lines)


def schedule_table(rows: list[dict], document: dict) -> list[str]:
    lines = []
    for row in rows:
        first, *later = row["samples"]
        seconds = first + statistics.fmean(later) * (FACADES_EPOCHS - 1) + row["end"]
        how = f"extrapolated from {len(later) + 1} epochs" if len(later) + 1 < FACADES_EPOCHS else "measured"
        lines.append([row["model"], row["arm"], row["images"], spread(later), figure(seconds / 60), how])
    return table(f"model | arm | images | seconds an epoch | minutes for {FACADES_EPOCHS} epochs | how", lines)


def neighbours_table(rows: list[dict], document: dict) -> list[str]:
    best = {}
    for row in rows:
        key = row["model"], row["neighbours"]
        best[key] = max(best.get(key, 0), rate(row["samples"]))
    lines = []
    for row in rows:
        times = best[row["model"], row["neighbours"]] / rate(row["samples"])
        about = [row[key] for key in ("model", "neighbours", "setting", "threads")]
        lines.append([*about, spread([1 / value for value in row["samples"]]), f"{times:.2f}"])
    return table("model | busy neighbours | setting | threads | steps/s | times the best's time", lines)


TABLES = {
    "limits": limits_table,
    "steps": steps_table,
    "loader": loader_table,
    "translation": translation_table,
    "schedule": schedule_table,
    "neighbours": neighbours_table,
}

if __name__ == "__main__":
    main()
