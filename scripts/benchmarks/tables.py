"""Make Markdown tables of what scripts/benchmark.py has measured.

    python scripts/benchmarks/tables.py results/benchmark/benchmark.json --into docs/performance.md

Several files of one machine are joined, rows of a part behind each other. With --into, each table goes into the page
between its marks: `<!-- cpu steps -->` and `<!-- /cpu steps -->`, or with gpu in cpu's place. docs/performance.md says
what the columns mean.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

FACADES_EPOCHS = 200  # of the pix2pix paper's schedule (section 6.2)
CYCLE = 5  # epochs from one numbered save to the next, by default


def main() -> None:
    """Print the tables, or put them into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="benchmark.json of one or more runs on one machine")
    parser.add_argument("--into", type=Path, help="a page with marks")
    args = parser.parse_args()
    try:
        document = merged([json.loads(file.read_text(encoding="utf-8")) for file in args.files])
        if args.into:
            text = with_tables(args.into.read_text(encoding="utf-8"), document)
            args.into.write_text(text, encoding="utf-8")
        else:
            print(markdown(document))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def merged(documents: list[dict]) -> dict:
    """Join what runs on one machine have measured; ValueError where the machines differ."""
    whole = documents[0]
    for document in documents[1:]:
        ours, theirs = whole["machine"], document["machine"]
        for key in ("name", "torch", "threads"):
            if theirs[key] != ours[key]:
                raise ValueError(f"these are not of one machine: {key} is {ours[key]} and {theirs[key]}")
        for key in ("date", "commit"):
            ours[key] = ", ".join(dict.fromkeys([*ours[key].split(", "), theirs[key]]))
        whole["settings"]["quick"] = whole["settings"]["quick"] or document["settings"]["quick"]
        for part, rows in document["parts"].items():
            if part != "limits" or not whole["parts"].get(
                part
            ):  # each run of steps has limits: the first stand for all
                whole["parts"][part] = whole["parts"].get(part, []) + rows
    return whole


def markdown(document: dict) -> str:
    """Return all tables under titles."""
    parts = [part for part in TABLES if document["parts"].get(part)]
    texts = [f"## {part}\n\n{section(part, document)}\n" for part in parts]
    if document["machine"]["device"] == "cpu":
        texts.append("All of this ran on the CPU: no figures of a GPU were taken.\n")
    return "\n".join(texts)


def section(part: str, document: dict) -> str:
    """Return a part's table, with machine, versions and day under it."""
    it = document["machine"]
    versions = f"PyTorch {it['torch']}, Python {it['python']}"
    lines = [*TABLES[part](document["parts"][part], document), ""]
    lines.append(f"*{it['name']}; {versions}; {it['date']}, commit {it['commit'] or 'unknown'}*")
    if document["settings"]["quick"]:
        lines += ["", "**A quick run: not for quoting.**"]
    return "\n".join(lines)


def with_tables(page: str, document: dict) -> str:
    """Put each table between its marks in a page's text; ValueError where they are missing."""
    for part in document["parts"]:
        mark = f"{document['machine']['device']} {part}"
        begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
        if begin not in page or end not in page:
            raise ValueError(f"the page has no place for this: a line {begin.strip()} and a line {end}")
        before, rest = page.split(begin, 1)
        page = f"{before}{begin}\n{section(part, document)}\n\n{end}{rest.split(end, 1)[1]}"
    return page


# ---- numbers ----


def figure(value: float) -> str:
    """Write a number with three digits that count: `0.0123`, `12.3`, `1,230`."""
    if not value or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def spread(samples: list[float], scale: float = 1.0) -> str:
    """Write the median of samples and, in brackets, the least and the greatest."""
    middle, least, greatest = (scale * value for value in (median(samples), min(samples), max(samples)))
    return figure(middle) if len(samples) == 1 else f"{figure(middle)} ({figure(least)} to {figure(greatest)})"


def percent(share: float | None) -> str:
    """Write a share."""
    return "-" if share is None else f"{share:.0%}"


def median(samples: list[float]) -> float:
    """Return the middle of samples."""
    return statistics.median(samples)


def rate(seconds: list[float]) -> float:
    """Return how many there are in a second, the median of samples that are seconds for one."""
    return median([1 / value for value in seconds])


def table(head: str, rows: list[list]) -> list[str]:
    """Return a table's lines; `head`: the columns' names, between bars."""
    columns = head.split(" | ")
    return [f"| {' | '.join(map(str, line))} |" for line in (columns, ["---"] * len(columns), *rows)]


# ---- tables: rows of a part, and the whole document, to lines ----


def limits_table(rows: list[dict], document: dict) -> list[str]:
    """Show the machine's limits."""
    lines = []
    for row in rows:
        if row["limit"] == "memory":
            lines.append(["copying in memory", f"{spread(row['samples'], 1e-9)} GB/s"])
        else:
            lines.append([f"matrix products, {row['limit']}", f"{spread(row['samples'], 1e-12)} TFLOP/s"])
    return table("limit | rate", lines)


def of_limits(row: dict, document: dict) -> tuple[float | None, float | None]:
    """Return a step's FLOP/s and bytes/s as shares of the limits; None where there is no such limit.

    The bytes are those of a float32 step, operation by operation: only such a step is compared with them.
    """
    rates = {limit["limit"]: median(limit["samples"]) for limit in document["parts"].get("limits", [])}
    words, per_second = row["speed"].split(), rate(row["samples"])
    # By default, cuDNN's convolutions round float32 to TF32.
    precision = "tf32" if words[0] == "fp32" and document["machine"].get("tf32") else words[0]
    products, copying = rates.get(precision), rates.get("memory") if words == ["fp32"] else None
    return (
        row["flops"] * per_second / products if products else None,
        row["bytes"] * per_second / copying if copying else None,
    )


def steps_table(rows: list[dict], document: dict) -> list[str]:
    """Show training steps."""
    measured = [row for row in rows if "samples" in row]
    plain = {cell(row): rate(row["samples"]) for row in measured if row["variant"] == "default"}
    lines = [list(step_line(row, plain.get(cell(row)), document)) for row in rows]
    head = "model | batch | variant | what runs | steps/s | images/s | times default | GB at most"
    text = [
        f"{row['model']} {figure(row['flops'] / 1e9)} GFLOP, {figure(row['bytes'] / 1e9)} GB"
        for row in {row["model"]: row for row in reversed(measured)}.values()
        if row["batch_size"] == 1
    ]
    notes = [f"A float32 step on one image, as counted: {'; '.join(reversed(text))}."] if text else []
    notes += ["(*) Measured one after the other: memory does not hold all variants."] * any(
        "alone" in row for row in rows
    )
    return [*table(f"{head} | of products | of copying | fed: images/s | fed: waiting", lines), "", *notes]


def cell(row: dict) -> tuple[str, int]:
    """Return what rows have in common that are compared."""
    return row["model"], row["batch_size"]


def step_line(row: dict, plain: float | None, document: dict) -> Iterator[object]:
    """Yield the cells of a training step's row; `plain`: steps per second of the default."""
    yield from (*cell(row), row["variant"] + "*" * ("alone" in row))
    if "samples" not in row:
        yield from (row["failed"], *"--------")
        return
    per_second, batch = rate(row["samples"]), row["batch_size"]
    yield from (row["speed"], spread([1 / value for value in row["samples"]]), figure(batch * per_second))
    yield figure(per_second / plain) if plain else "-"
    yield figure(row["memory"] / 1e9) if row["memory"] else "-"
    yield from map(percent, of_limits(row, document))
    if row["fed"]:
        yield from (figure(batch * rate(row["fed"])), percent(median(row["waiting"])))
    else:
        yield from "--"


def loader_table(rows: list[dict], document: dict) -> list[str]:
    """Show what the loader brings."""
    keys = ("model", "format", "options", "workers", "batch_size")
    lines = [[*(row[key] for key in keys), spread(row["first"]), spread(row["samples"])] for row in rows]
    return table("for | format | options | processes | batch | first epoch, items/s | later epochs, items/s", lines)


def translation_table(rows: list[dict], document: dict) -> list[str]:
    """Show what translating takes."""
    plain = {(row["model"], row["size"]): median(row["samples"]) for row in rows if row["way"] == "plain loop"}
    lines = []
    for row in rows:
        gain = median(row["samples"]) / plain[row["model"], row["size"]]
        about = [row[key] for key in ("model", "size", "way", "batch_size", "speed")]
        lines.append([*about, spread(row["samples"]), figure(gain), percent(median(row["busy"]))])
    return table("model | size | way | batch | what runs | images/s | times plain | network runs", lines)


def page_table(rows: list[dict], document: dict) -> list[str]:
    """Show what an update of the training page takes."""
    lines = [[row["model"], row["images"], row["epochs"], spread(row["samples"], 1000)] for row in rows]
    return table("model | images shown | epochs | milliseconds an update", lines)


def projected(row: dict, epochs: int = FACADES_EPOCHS) -> float:
    """Return the seconds of a whole training: as measured, or with the epochs behind the first five in proportion."""
    marks, end = row["samples"], row["end"]
    if len(marks) >= epochs:
        return sum(marks) + end
    return sum(marks[:CYCLE]) + sum(marks[CYCLE:]) * (epochs - CYCLE) / (len(marks) - CYCLE) + end


def schedule_table(rows: list[dict], document: dict) -> list[str]:
    """Show what the facades' schedule takes."""
    lines = []
    for row in rows:
        trained = len(row["samples"])
        how = "measured" if trained >= FACADES_EPOCHS else f"extrapolated from {trained} epochs"
        about = [row["model"], row["arm"], row["images"], spread(row["samples"][1:])]
        lines.append([*about, figure(projected(row) / 60), how])
    return table(f"model | arm | images | seconds an epoch | minutes for {FACADES_EPOCHS} epochs | how", lines)


def quality_table(rows: list[dict], document: dict) -> list[str]:
    """Show scores of each arm, and losses at the end, as means over seeds; the first arm is the one to compare with."""
    lines, first = [], rows[0]["arm"]
    for model, arm in dict.fromkeys((row["model"], row["arm"]) for row in rows):
        own = [row for row in rows if (row["model"], row["arm"]) == (model, arm)]
        base = {row["seed"]: row for row in rows if (row["model"], row["arm"]) == (model, first)}
        line = [model, arm, len(own), *score(own, base, "psnr", 2), *score(own, base, "ssim", 3)]
        ends = [final_losses(row["curve"]) for row in own]
        losses = (f"{name} {statistics.mean(end[name] for end in ends):.3f}" for name in ends[0])
        lines.append([*line, ", ".join(losses), spread([row["seconds"] for row in own])])
    scores = f"PSNR, dB | PSNR minus {first}'s | SSIM | SSIM minus {first}'s"
    return table(f"model | arm | seeds | {scores} | losses at the end | training, s", lines)


def score(own: list[dict], base: dict[int, dict], name: str, digits: int) -> tuple[str, str]:
    """Write an arm's score, mean, least and greatest over seeds, and the mean of its differences, seed by seed."""
    values = [row[name] for row in own]
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.mean(values), min(values), max(values)))
    gains = [row[name] - base[row["seed"]][name] for row in own if row["seed"] in base]
    return f"{middle} ({low} to {high})", f"{statistics.mean(gains):+.{digits}f}" if gains else "-"


def final_losses(curve: list[dict]) -> dict[str, float]:
    """Return each loss's mean over the last quarter of what was logged."""
    last = curve[-max(1, len(curve) // 4) :]
    return {name: statistics.mean(row[name] for row in last) for name in last[0] if name != "total_iters"}


def curves(rows: list[dict]) -> str:
    """Draw a loss of each arm, its mean over seeds, as SVG: L1 of pix2pix, the cycle A -> B -> A of CycleGAN."""
    own: dict[str, list] = {}
    for row in rows:
        name = "G_L1" if "G_L1" in row["curve"][0] else "cycle_A"
        own.setdefault(f"{row['model']} {row['arm']} {name}", []).append([point[name] for point in row["curve"]])
    means = {arm: [statistics.mean(at) for at in zip(*each, strict=False)] for arm, each in own.items()}
    highest = max(max(values) for values in means.values()) or 1
    lines = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 340" font-family="sans-serif" font-size="12">']
    lines.append(f'<rect width="700" height="340" fill="white"/><text x="8" y="16">0 to {highest:.3g}</text>')
    for number, (arm, values) in enumerate(means.items()):
        colour = f"hsl({number * 360 // len(means)},70%,40%)"
        x = [10 + 480 * i / max(1, len(values) - 1) for i in range(len(values))]
        points = " ".join(f"{i:.1f},{330 - 300 * value / highest:.1f}" for i, value in zip(x, values, strict=True))
        lines.append(f'<polyline fill="none" stroke="{colour}" points="{points}"/>')
        lines.append(f'<text x="500" y="{40 + 18 * number}" fill="{colour}">{arm}</text>')
    return "\n".join([*lines, "</svg>", ""])


TABLES = {
    "limits": limits_table,
    "steps": steps_table,
    "loader": loader_table,
    "translation": translation_table,
    "page": page_table,
    "schedule": schedule_table,
    "quality": quality_table,
}

if __name__ == "__main__":
    main()
