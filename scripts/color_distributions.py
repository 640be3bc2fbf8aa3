"""Compare the colours of results with those of the ground truth, as in figure 7 of the pix2pix paper.

    python scripts/color_distributions.py results/facades_L1/test_latest results/facades_cGAN/test_latest

Reads the *_fake_B.png and *_real_B.png of results folders of one test set, converts all pixels to Lab, and makes a
histogram of each of L, a and b. Prints the intersection of each histogram with the ground truth's: the sum over the
bins of the smaller of the two shares, 1 for equal colours and 0 for colours that never overlap. Writes a plot,
color_distributions.svg (it needs matplotlib), and all numbers, color_distributions.json.

Bins are 1 wide: L from 0 to 100, a and b from -110 to 110, which covers sRGB. The white point is D65. A "+-" is a 95 %
interval by jackknife: the spread of ten intersections, each without a tenth of the images.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from util.metrics.intervals import GROUPS, jackknife

LABELS = {"L": "L: dark to light", "a": "a: green to red", "b": "b: blue to yellow"}
RANGES = {"L": (0, 100), "a": (-110, 110), "b": (-110, 110)}
ENDS = np.cumsum([0] + [high - low for low, high in RANGES.values()])  # where each starts in a row of counts
SLICES = {name: slice(ENDS[i], ENDS[i + 1]) for i, name in enumerate(RANGES)}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # of Okabe and Ito, for colour-blind eyes
DASHES = ("-", "--", ":")  # one for each repetition of the colours
FLOOR = 1e-6  # smallest share in the plot


def main() -> None:
    """Parse the command line, print the table, write plot and numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="folders that test.py wrote, of the same test images")
    parser.add_argument("--domain", choices="AB", default="B", help="A: fake_A and real_A, of CycleGAN [B]")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="one for each folder [their experiments]")
    parser.add_argument("--out", type=Path, help="folder of the two files [the first results folder]")
    args = parser.parse_args()
    from scripts.evaluation.targets import find_pairs
    from util.checkpoint.atomic_files import replacing, write_whole
    from util.errors import explained_errors, need, printable
    from util.runtime.signals import unbreakable_output

    unbreakable_output()
    with explained_errors():
        matplotlib = need("matplotlib", "matplotlib", "scripts/color_distributions.py")
        names = check_names(args.names, args.results)
        pairs = [find_pairs(folder, args.domain) for folder in args.results]
        found = {name: measure(files) for name, files in zip(names, pairs, strict=True)}
        check_truths(found)
        print_table(found)
        files = [(args.out or args.results[0]) / f"color_distributions.{suffix}" for suffix in ("svg", "json")]
        files[0].parent.mkdir(parents=True, exist_ok=True)
        with replacing(files[0]) as new, matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
            plot(found).savefig(new, format="svg", bbox_inches="tight")
        write_whole(files[1], json.dumps(as_json(found), indent=1) + "\n")
        print("\n".join(map(printable, files)))


def check_names(names: list[str] | None, folders: list[Path]) -> list[str]:
    """Return a name for each folder: NAME of results/NAME/test_latest, or the whole path where two would share it."""
    from util.errors import UserError

    if names is None:
        names = [folder.resolve().parent.name for folder in folders]
        names = [str(folders[i]) if names.count(name) > 1 else name for i, name in enumerate(names)]
    if len(names) != len(folders):
        raise UserError(f"--names: {len(names)} names for {len(folders)} folders: type one for each.")
    if len(set(names)) < len(names):
        raise UserError("a folder or a name occurs twice: each line of the plot needs a different name (--names).")
    return names


# ---- histograms ----


class Colours(NamedTuple):
    """The colours of a results folder. Counts: (540,), those of L, a and b in this order."""

    images: int
    fake: np.ndarray
    real: np.ndarray
    intersection: np.ndarray  # (3,), of L, a, b
    half: np.ndarray | None  # (3,), half of a 95 % interval; None for one image


def lab_counts(image: np.ndarray) -> np.ndarray:
    """Count the pixels of an image (H, W, 3), uint8 sRGB, in the bins of L, a and b: (540,)."""
    from skimage.color import rgb2lab

    counts = []
    for values, (low, high) in zip(rgb2lab(image).reshape(-1, 3).T, RANGES.values(), strict=True):
        counts.append(np.histogram(np.clip(values, low, high), bins=high - low, range=(low, high))[0])
    return np.concatenate(counts)


def shares(counts: np.ndarray) -> np.ndarray:
    """Turn counts (..., 540) into shares of their histogram's sum."""
    parts = [counts[..., part] / counts[..., part].sum(-1, keepdims=True) for part in SLICES.values()]
    return np.concatenate(parts, axis=-1)


def intersection(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the intersections (..., 3) in L, a and b of counts (..., 540)."""
    smaller = np.minimum(shares(one), shares(other))
    return np.stack([smaller[..., part].sum(-1) for part in SLICES.values()], axis=-1)


def measure(pairs: list[tuple[Path, Path]]) -> Colours:
    """Make the histograms of pairs of files one by one, in memory that does not grow with their number."""
    from tqdm import tqdm

    from data.formats import pillow

    groups = min(GROUPS, len(pairs))
    counts = np.zeros((groups, 2, ENDS[-1]), np.int64)
    for i, files in enumerate(tqdm(pairs, unit="image", disable=None, leave=False)):
        counts[i % groups] += [lab_counts(np.asarray(pillow.load(file))) for file in files]
    total = counts.sum(0)
    rest = total - counts  # without each group
    half = jackknife(intersection(rest[:, 0], rest[:, 1])) if groups > 1 else None
    return Colours(len(pairs), *total, intersection(*total), half)


def check_truths(found: dict[str, Colours]) -> None:
    """Raise UserError if the experiments were tested on different images."""
    from util.errors import UserError, printable

    (first, one), *others = found.items()
    for name, other in others:
        if one.images != other.images or not np.array_equal(one.real, other.real):
            raise UserError(
                f"the real images of {printable(first)} ({one.images}) and {printable(name)} ({other.images}) differ: "
                "test all on the same images (--phase, --num_test, --load_size), or run this for each alone."
            )


# ---- output ----


def print_table(found: dict[str, Colours]) -> None:
    """Print a line of intersections for each results folder."""
    from util.errors import printable

    width = max(28, *(len(printable(name)) for name in found))
    print(f"{'intersection with the truth':{width}}" + "".join(f"  {name:^14}" for name in RANGES))
    for name, colours in found.items():
        cells = [f"{value:.3f}" for value in colours.intersection]
        if colours.half is not None:
            cells = [f"{cell} +- {half:.3f}" for cell, half in zip(cells, colours.half, strict=True)]
        print(f"{printable(name):{width}}" + "".join(f"  {cell:^14}" for cell in cells))
    print(f"{next(iter(found.values())).images} images")


def as_json(found: dict[str, Colours]) -> dict:
    """Return bins, counts and intersections; an unknown interval is null."""

    def counts(row: np.ndarray) -> dict:
        return {name: row[part].tolist() for name, part in SLICES.items()}

    def scores(colours: Colours) -> dict:
        values, half = colours.intersection, colours.half
        low, high = ([None] * 3,) * 2 if half is None else (np.maximum(values - half, 0), np.minimum(values + half, 1))
        columns = zip(RANGES, values, low, high, strict=True)
        return {name: dict(zip(("value", "low", "high"), score, strict=True)) for name, *score in columns}

    truth = next(iter(found.values()))
    results = {name: {"intersection": scores(it), "counts": counts(it.fake)} for name, it in found.items()}
    bins = {name: {"low": low, "high": high, "width": 1} for name, (low, high) in RANGES.items()}
    return {"images": truth.images, "bins": bins, "truth": {"counts": counts(truth.real)}, "results": results}


def plot(found: dict[str, Colours]):
    """Draw the histograms over the ground truth's, logarithmically, with intersections in the legend: a Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    curves = {"ground truth": (next(iter(found.values())).real, {"color": "#111", "linewidth": 2.2})}
    for i, (name, colours) in enumerate(found.items()):
        values = ", ".join(f"{value:.2f}" for value in colours.intersection)
        style = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]}
        curves[f"intersections {values}: {name.replace('$', '')}"] = (colours.fake, style)  # $ would start a formula
    for axes, (part, (low, high)) in zip(figure.subplots(1, 3, sharey=True), RANGES.items(), strict=True):
        for counts, style in curves.values():
            values = np.maximum(shares(counts)[SLICES[part]], FLOOR)
            axes.plot(np.arange(low, high) + 0.5, values, **style)
        used = np.flatnonzero(sum(counts[SLICES[part]] for counts, _ in curves.values()))
        axes.set_xlim(*(low, high) if part == "L" else (low + used[0], low + used[-1] + 1))
        axes.set(yscale="log", xlabel=LABELS[part])
        axes.grid(color="#e4e4e4")
    figure.axes[0].set_ylabel("share of pixels (log)")
    figure.legend(figure.axes[0].lines, list(curves), loc="outside lower center")
    return figure


if __name__ == "__main__":
    main()
