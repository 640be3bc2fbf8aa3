"""Compare the colours of results with those of the ground truth, as in figure 7 of the pix2pix paper.

    python scripts/color_distributions.py results/facades_L1/test_latest results/facades_cGAN/test_latest

Reads the *_fake_B.png and *_real_B.png of results folders of one test set, converts all pixels to Lab, and makes a
histogram of each of L, a and b. Prints the intersection of each histogram with the ground truth's: the sum over the
bins of the smaller of the two shares, 1 for equal colours and 0 for colours that never overlap. Writes a plot,
color_distributions.svg (it needs matplotlib), and all numbers, color_distributions.json, into the first folder.

Bins are 1 wide: L from 0 to 100, a and b from -110 to 110, which covers sRGB. The white point is D65. A "+-" is a 95 %
interval by jackknife: the spread of ten intersections, each without a tenth of the images.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.formats import pillow
from scripts.evaluation.targets import find_pairs
from util.checkpoint.atomic_files import replacing, write_whole
from util.errors import UserError, explained_errors, need, printable
from util.metrics.intervals import GROUPS, jackknife
from util.runtime.signals import unbreakable_output

LABELS = "L: dark to light", "a: green to red", "b: blue to yellow"
RANGES = {"L": (0, 100), "a": (-110, 110), "b": (-110, 110)}
ENDS = np.cumsum([high - low for low, high in RANGES.values()])  # of each histogram in a row of counts
COLOURS = ("#111", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito's
FLOOR = 1e-6  # smallest share in the plot


def main() -> None:
    """Parse the command line, print the table, write plot and numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="folders that test.py wrote, of the same test images")
    parser.add_argument("--domain", choices="AB", default="B", help="A: fake_A and real_A, of CycleGAN [B]")
    args = parser.parse_args()
    unbreakable_output()
    with explained_errors():
        matplotlib = need("matplotlib", "matplotlib", "scripts/color_distributions.py")
        names = [folder.resolve().parent.name for folder in args.results]
        names = [str(args.results[i]) if names.count(name) > 1 else name for i, name in enumerate(names)]
        pairs = [find_pairs(folder, args.domain) for folder in args.results]
        found = {name: measure(files) for name, files in zip(names, pairs, strict=True)}
        first, *others = found.values()
        if any(first.images != it.images or not np.array_equal(first.real, it.real) for it in others):
            raise UserError("the real images differ: test all on the same images (--phase, --num_test, --load_size)")
        print_table(found)
        svg, numbers = (args.results[0] / f"color_distributions.{suffix}" for suffix in ("svg", "json"))
        with replacing(svg) as new, matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
            plot(found).savefig(new, format="svg", bbox_inches="tight")
        write_whole(numbers, json.dumps(as_json(found), indent=1) + "\n")
        print(f"{printable(svg)}\n{printable(numbers)}")


# ---- histograms ----


class Colours(NamedTuple):
    """The colours of a results folder. Counts: (540,), those of L, a and b in this order."""

    images: int
    fake: np.ndarray
    real: np.ndarray
    intersection: np.ndarray  # (3,), of L, a, b
    half: np.ndarray  # (3,), half of a 95 % interval; nan for one image


def lab_counts(image: np.ndarray) -> np.ndarray:
    """Count the pixels of an image (H, W, 3), uint8 sRGB, in the bins of L, a and b: (540,)."""
    from skimage.color import rgb2lab

    pixels = zip(rgb2lab(image).reshape(-1, 3).T, RANGES.values(), strict=True)
    return np.concatenate([np.histogram(np.clip(x, *ends), ends[1] - ends[0], ends)[0] for x, ends in pixels])


def shares(counts: np.ndarray) -> list[np.ndarray]:
    """Split counts (..., 540) into those of L, a and b, as shares of their sums."""
    return [part / part.sum(-1, keepdims=True) for part in np.split(counts, ENDS[:-1], axis=-1)]


def intersection(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the intersections (..., 3) in L, a and b of counts (..., 540)."""
    parts = zip(shares(one), shares(other), strict=True)
    return np.stack([np.minimum(*part).sum(-1) for part in parts], axis=-1)


def measure(pairs: list[tuple[Path, Path]]) -> Colours:
    """Make the histograms of pairs of files one by one, in memory that does not grow with their number."""
    groups = min(GROUPS, len(pairs))
    counts = np.zeros((groups, 2, ENDS[-1]), np.int64)
    for i, files in enumerate(tqdm(pairs, unit="image", disable=None, leave=False)):
        counts[i % groups] += [lab_counts(np.asarray(pillow.load(file))) for file in files]
    total = counts.sum(0)
    rest = np.moveaxis(total - counts, 1, 0)  # fakes and reals without each group
    half = jackknife(intersection(*rest)) if groups > 1 else np.full(3, np.nan)
    return Colours(len(pairs), *total, intersection(*total), half)


# ---- output ----


def print_table(found: dict[str, Colours]) -> None:
    """Print a line of intersections for each results folder."""
    width = max(28, *(len(printable(name)) for name in found))
    print(f"{'intersection with the truth':{width}}" + "".join(f"  {name:^14}" for name in RANGES))
    for name, it in found.items():
        cells = [f"{value:.3f} +- {half:.3f}" for value, half in zip(it.intersection, it.half, strict=True)]
        print(f"{printable(name):{width}}" + "".join(f"  {cell.replace(' +- nan', ''):^14}" for cell in cells))
    print(f"{next(iter(found.values())).images} images")


def as_json(found: dict[str, Colours]) -> dict:
    """Return counts and intersections; an unknown interval is null."""

    def counts(row: np.ndarray) -> dict:
        return {name: part.tolist() for name, part in zip(RANGES, np.split(row, ENDS[:-1]), strict=True)}

    def score(value: float, half: float) -> dict:
        low, high = (None, None) if np.isnan(half) else (max(value - half, 0), min(value + half, 1))
        return {"value": value, "low": low, "high": high}

    truth, results = next(iter(found.values())), {}
    for name, it in found.items():
        scores = map(score, it.intersection.tolist(), it.half.tolist())
        results[name] = {"intersection": dict(zip(RANGES, scores, strict=True)), "counts": counts(it.fake)}
    return {"images": truth.images, "truth": {"counts": counts(truth.real)}, "results": results}


def plot(found: dict[str, Colours]):
    """Draw the histograms over the ground truth's, logarithmically, with intersections in the legend: a Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    curves = {"ground truth": next(iter(found.values())).real}
    for name, it in found.items():
        values = ", ".join(f"{value:.2f}" for value in it.intersection)
        curves[f"intersections {values}: {name.replace('$', '')}"] = it.fake  # $ would start a formula
    for counts, color in zip(curves.values(), itertools.cycle(COLOURS), strict=False):
        for axes, values, (low, _) in zip(panels, shares(counts), RANGES.values(), strict=True):
            first, last = np.flatnonzero(values)[[0, -1]]
            axes.plot(np.arange(first, last + 1) + low + 0.5, np.maximum(values[first : last + 1], FLOOR), color=color)
    for axes, label in zip(panels, LABELS, strict=True):
        axes.set(yscale="log", xlabel=label)
        axes.grid(color="#e4e4e4")
    panels[0].set_ylabel("share of pixels (log)")
    figure.legend(panels[0].lines, list(curves), loc="outside lower center")
    return figure


if __name__ == "__main__":
    main()
