"""Compare the colours of results with those of the truth, as figure 7 of the pix2pix paper does.

    python scripts/color_distributions.py results/facades_L1/test_latest results/facades_cGAN/test_latest

Takes the *_fake_B.png and *_real_B.png of one or several results folders of one test set, turns all their pixels into
Lab, and makes a histogram of each of L, a and b. Prints how far each histogram intersects with the truth's: the sum
over the bins of the smaller of the two shares, 1 for equal colours and 0 for colours that never meet. Writes a plot,
color_distributions.svg, and all figures, color_distributions.json.

Bins are 1 wide: L from 0 to 100, a and b from -110 to 110, which holds all of sRGB. The white point is D65. A "+-" is a
95 % interval: 1.96 standard deviations over test sets that are drawn from the images by bootstrap.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

LABELS = {"L": "L: dark to light", "a": "a: green to red", "b": "b: blue to yellow"}
RANGES = {"L": (0, 100), "a": (-110, 110), "b": (-110, 110)}
ENDS = np.cumsum([0] + [high - low for low, high in RANGES.values()])  # where each begins in a row of counts
PARTS = {name: slice(ENDS[i], ENDS[i + 1]) for i, name in enumerate(RANGES)}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito's, for all eyes
DASHES = ("none", "7 3", "2 2")  # one for each time that the colours are used up
FLOOR = 1e-6  # the least share that the plot shows
LONGEST = 26  # letters of a name in the plot


def main() -> None:
    """Parse the command line, print the table, write plot and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="folders that test.py wrote, of the same test images")
    parser.add_argument("--domain", choices="AB", default="B", help="fake_A and real_A, of CycleGAN, rather than B's")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="what to call them; default: their experiments")
    parser.add_argument("--out", type=Path, help="folder of the two files; default: the first results folder")
    parser.add_argument("--bootstrap", type=int, default=1000, help="test sets drawn for the intervals; 0: no interval")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    args = parser.parse_args()
    if args.bootstrap < 0 or args.seed < 0:
        parser.error("--bootstrap and --seed are 0 or more")
    from scripts.evaluation.targets import find_pairs
    from util.errors import explained_errors
    from util.runtime.signals import unbreakable_output

    unbreakable_output()
    with explained_errors():
        names = check_names(args.names, args.results)
        pairs = [find_pairs(folder, args.domain) for folder in args.results]
        colours = {name: measure(files, args.bootstrap, args.seed) for name, files in zip(names, pairs, strict=True)}
        check_truths(colours)
        print_table(colours)
        write(args.out or args.results[0], colours)


def check_names(names: list[str] | None, folders: list[Path]) -> list[str]:
    """Return a name for each folder: NAME of results/NAME/test_latest, or the whole path where two would share it."""
    from util.errors import UserError

    if names is None:
        names = [folder.resolve().parent.name for folder in folders]
        names = [str(folders[i]) if names.count(name) > 1 else name for i, name in enumerate(names)]
    if len(names) != len(folders):
        raise UserError(f"--names: {len(names)} names for {len(folders)} folders: type one for each.")
    if len(set(names)) < len(names):
        raise UserError("a folder or a name is given twice: each line of the plot needs a name of its own (--names).")
    return names


# ---- histograms ----


class Colours(NamedTuple):
    """What an arm's images came to. Counts: (540,), those of L, a and b, one after the other."""

    images: int
    fake: np.ndarray
    real: np.ndarray
    intersection: np.ndarray  # (3,), of L, a, b
    error: np.ndarray  # (3,), half of a 95 % interval; NaN without bootstrap or of one image


def lab_counts(image: np.ndarray) -> np.ndarray:
    """Count the pixels of an image (H, W, 3), uint8 sRGB, in the bins of L, a and b: (540,)."""
    from skimage.color import rgb2lab

    lab = rgb2lab(image).reshape(-1, 3)
    counts = []
    for values, (low, high) in zip(lab.T, RANGES.values(), strict=True):
        counts.append(np.histogram(np.clip(values, low, high), bins=high - low, range=(low, high))[0])
    return np.concatenate(counts)


def intersection(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the intersections (..., 3) in L, a and b of counts (..., 540), each histogram as shares of its sum."""
    result = []
    for part in PARTS.values():
        p, q = (counts[..., part] / counts[..., part].sum(-1, keepdims=True) for counts in (one, other))
        result.append(np.minimum(p, q).sum(-1))
    return np.stack(result, axis=-1)


def measure(pairs: list[tuple[Path, Path]], bootstrap: int = 0, seed: int = 0) -> Colours:
    """Make the histograms of pairs of files, one after the other, in memory that does not grow with their number.

    The bootstrap draws pairs, so that a result stays with its truth. How often it draws a pair is binomial in what is
    still to be drawn, so that the draws need not be kept.
    """
    from tqdm import tqdm

    from data.formats import pillow

    rng = np.random.default_rng(seed)
    total = np.zeros((2, ENDS[-1]), np.int64)
    drawn = np.zeros((2, bootstrap, ENDS[-1]))
    left = np.full(bootstrap, len(pairs))
    for i, files in enumerate(tqdm(pairs, unit="image", disable=None, leave=False)):
        counts = np.stack([lab_counts(np.asarray(pillow.load(file))) for file in files])
        total += counts
        times = rng.binomial(left, 1 / (len(pairs) - i))
        left -= times
        drawn += times[:, None] * counts[:, None].astype(float)
    enough = bootstrap > 1 and len(pairs) > 1
    error = 1.96 * intersection(*drawn).std(axis=0, ddof=1) if enough else np.full(3, math.nan)
    return Colours(len(pairs), *total, intersection(*total), error)


def check_truths(colours: dict[str, Colours]) -> None:
    """Raise UserError if the arms have been tested on different images."""
    from util.errors import UserError, printable

    (first, one), *others = colours.items()
    for name, other in others:
        if one.images != other.images or not np.array_equal(one.real, other.real):
            raise UserError(
                f"the real images of {printable(first)} ({one.images}) and {printable(name)} ({other.images}) differ: "
                "test all on the same images (--phase, --num_test, --load_size), or call this for each alone."
            )


# ---- what is shown ----


def print_table(colours: dict[str, Colours]) -> None:
    """Print a line of intersections for each arm."""
    from util.errors import printable

    width = max(28, *(len(printable(name)) for name in colours))
    images = next(iter(colours.values())).images
    print(f"{'intersection with the truth':{width}}" + "".join(f"  {name:^14}" for name in RANGES))
    for name, arm in colours.items():
        cells = [f"{value:.3f}" for value in arm.intersection]
        if not np.isnan(arm.error).any():
            cells = [f"{cell} +- {error:.3f}" for cell, error in zip(cells, arm.error, strict=True)]
        print(f"{printable(name):{width}}" + "".join(f"  {cell:^14}" for cell in cells))
    print(f"{images} images")


def write(folder: Path, colours: dict[str, Colours]) -> None:
    """Write the plot and the figures into a folder."""
    from util.checkpoint.atomic_files import write_whole
    from util.errors import printable

    for suffix, text in (("svg", plot(colours)), ("json", json.dumps(as_json(colours), indent=1) + "\n")):
        path = folder / f"color_distributions.{suffix}"
        write_whole(path, text)
        print(printable(path))


def as_json(colours: dict[str, Colours]) -> dict:
    """Return bins, counts and intersections; an interval that is not known is null."""

    def counts(row: np.ndarray) -> dict:
        return {name: row[part].tolist() for name, part in PARTS.items()}

    def scores(arm: Colours) -> dict:
        known = zip(RANGES, arm.intersection.tolist(), arm.error.tolist(), strict=True)
        return {name: {"value": value, **interval(value, error)} for name, value, error in known}

    def interval(value: float, error: float) -> dict:
        ends = (None, None) if math.isnan(error) else (max(0.0, value - error), min(1.0, value + error))
        return dict(zip(("low", "high"), ends, strict=True))

    truth = next(iter(colours.values()))
    arms = {name: {"intersection": scores(arm), "counts": counts(arm.fake)} for name, arm in colours.items()}
    bins = {name: {"low": low, "high": high, "width": 1} for name, (low, high) in RANGES.items()}
    return {"images": truth.images, "bins": bins, "truth": {"counts": counts(truth.real)}, "results": arms}


# ---- the plot ----

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #333; }
.name { font-weight: 600; fill: #111; } .small { font-size: 11.5px; fill: #666; }
.grid { stroke: #e4e4e4; } .frame { fill: none; stroke: #bbb; }
.curve { fill: none; stroke-width: 1.6; stroke-linejoin: round; } .truth { stroke: #111; stroke-width: 2.6; }
"""
PANEL, GAP, LEFT, TOP, HEIGHT, ROW = 310, 44, 62, 18, 250, 24  # pixels


def plot(colours: dict[str, Colours]) -> str:
    """Draw the histograms of all arms over the truth's, logarithmically, and their intersections: an SVG's text."""
    from dominate import svg, tags
    from dominate.util import raw

    truth = next(iter(colours.values())).real
    curves = [("ground truth", truth, "curve truth", {})]
    for i, (name, arm) in enumerate(colours.items()):
        look = {"stroke": COLOURS[i % len(COLOURS)], "stroke_dasharray": DASHES[i // len(COLOURS) % len(DASHES)]}
        curves.append((name, arm.fake, "curve", look))
    least = min(shares[shares > 0].min() for _, row, *_ in curves for shares in [_shares(row)])
    decades = max(1, math.ceil(-math.log10(max(least, FLOOR))))
    width, height = LEFT + 3 * (PANEL + GAP), TOP + HEIGHT + 76 + ROW * len(curves)
    size = {"width": width, "height": height, "viewBox": f"0 0 {width} {height}"}
    drawing = svg.svg(xmlns="http://www.w3.org/2000/svg", role="img", **size)
    drawing += svg.title("Distribution of L, a and b in results and ground truth"), tags.style(raw(STYLE))
    drawing += svg.rect(width=width, height=height, fill="white")
    for number, name in enumerate(RANGES):
        drawing += _panel(name, LEFT + number * (PANEL + GAP), decades, curves, labelled=number == 0)
    drawing += _legend(curves, colours, TOP + HEIGHT + 70)
    return f"{drawing.render(pretty=False)}\n"


def _shares(row: np.ndarray) -> np.ndarray:
    return np.concatenate([row[part] / row[part].sum() for part in PARTS.values()])


def _panel(name: str, left: int, decades: int, curves: list, labelled: bool):
    """Draw one of L, a, b; its axis ends where the last of the histograms does."""
    from dominate import svg

    low, high = RANGES[name]
    used = np.flatnonzero(sum(row[PARTS[name]] for _, row, *_ in curves))
    start, stop = (low, high) if name == "L" else (low + used[0] // 10 * 10, low - (used[-1] + 1) // -10 * 10)
    x = lambda value: left + PANEL * (value - start) / (stop - start)  # noqa: E731
    y = lambda decade: TOP + HEIGHT * decade / decades  # noqa: E731
    panel = svg.g()
    for decade in range(decades + 1):
        panel += svg.line(x1=left, x2=left + PANEL, y1=y(decade), y2=y(decade), cls="grid")
        if labelled:
            power = f"10⁻{'⁰¹²³⁴⁵⁶'[decade]}" if decade else "1"
            panel += svg.text(power, x=left - 8, y=y(decade) + 4, text_anchor="end")
    step = 20 if stop - start <= 160 else 40
    for value in range(math.ceil(start / step) * step, stop + 1, step):
        panel += svg.line(x1=x(value), x2=x(value), y1=TOP, y2=TOP + HEIGHT, cls="grid")
        panel += svg.text(f"{value}".replace("-", "−"), x=x(value), y=TOP + HEIGHT + 18, text_anchor="middle")
    for _, row, cls, look in curves:
        panel += svg.path(d=_line(row[PARTS[name]], low, x, y, decades), cls=cls, **look)
    panel += svg.rect(x=left, y=TOP, width=PANEL, height=HEIGHT, cls="frame")
    panel += svg.text(LABELS[name], x=left + PANEL / 2, y=TOP + HEIGHT + 40, text_anchor="middle", cls="name")
    if labelled:
        middle = TOP + HEIGHT / 2
        turned = f"rotate(-90 {left - 44} {middle})"
        panel += svg.text("share of pixels (log)", x=left - 44, y=middle, text_anchor="middle", transform=turned)
    return panel


def _line(counts: np.ndarray, low: int, x, y, decades: int) -> str:
    """Join the bins' middles; empty bins, and those below the axis, lie on it."""
    shares = np.maximum(counts / counts.sum(), 10.0**-decades)
    points = [(x(low + i + 0.5), y(-math.log10(share))) for i, share in enumerate(shares)]
    used = np.flatnonzero(counts)
    points = points[max(0, used[0] - 1) : used[-1] + 2]
    return "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points)


def _legend(curves: list, colours: dict[str, Colours], top: int) -> Iterator:
    """Yield the curves' names and, below each panel, the intersections."""
    from dominate import svg

    for number, (name, _, cls, look) in enumerate(curves):
        y = top + ROW * number
        yield svg.path(d=f"M{LEFT} {y - 4.5}h30", cls=cls, **look)
        yield svg.text(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…", x=LEFT + 40, y=y)
        cells = [f"{value:.2f}" for value in colours[name].intersection] if number else ["intersection"] * 3
        for panel, cell in enumerate(cells):
            right = {"x": LEFT + PANEL * (panel + 1) + GAP * panel, "text_anchor": "end"}
            yield svg.text(cell, y=y, cls="name" if number else "small", **right)


if __name__ == "__main__":
    main()
