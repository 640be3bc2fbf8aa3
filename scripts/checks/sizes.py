"""Checks of image sizes: against the options, and between the images of a batch or a pair."""

from __future__ import annotations

import math
from collections.abc import Iterator

from scripts.checks.files import of_all, times
from scripts.checks.report import Finding
from util.errors import list_names

NO_PAIRS = "docs/datasets.md has the layouts of pairs; single images need --model cycle_gan, or test.py's --model test"


def fed_size(opt, size: tuple[int, int]) -> tuple[int, int]:
    """Return the size to which --preprocess brings an image of `size` (width, height)."""
    if "crop" in opt.preprocess:
        return opt.crop_size, opt.crop_size
    if "scale_width" in opt.preprocess:
        return opt.load_size, int(max(opt.load_size * size[1] / max(1, size[0]), opt.crop_size))
    return (opt.load_size, opt.load_size) if "resize" in opt.preprocess else size


def check_sizes(examined) -> Iterator[Finding]:
    """Compare the images' sizes with the options, and with each other."""
    opt, sizes = examined.opt, examined.sizes
    ordered = sorted(sizes.values(), key=math.prod)
    low, middle, high = (times(ordered[i]) for i in (0, len(ordered) // 2, -1))
    text = low if low == high else f"{low} to {high}, the median {middle}"
    text = f"A and B side by side, each {text}" if examined.side_by_side else f"images of {text}"
    if not examined.built_in:
        yield Finding("ok", "sizes", text)
        return
    fed = sorted({fed_size(opt, size) for size in sizes.values()}, key=math.prod)
    text += f"; the network gets {times(fed[0])}" + (f" to {times(fed[-1])}" if len(fed) > 1 else "")
    yield Finding("ok", "sizes", f"{text} ({opt.preprocess})")
    if len(fed) > 1 and opt.batch_size > 1:
        text = f"images of several sizes can't be one batch (--preprocess {opt.preprocess})"
        yield Finding("FAIL", "sizes", text, "--batch_size 1, or --preprocess resize_and_crop")
    yield from check_small(opt, sizes)
    squeezed = [path for path, (width, height) in sizes.items() if not 1 / 1.1 < width / height < 1.1]
    if "resize" in opt.preprocess and len(squeezed) > len(sizes) / 2:
        text = f"{of_all(len(squeezed), len(sizes), 'images')} not square, and squeezed to squares"
        other = "scale_width_and_crop" if opt.isTrain else "none"
        yield Finding("warn", "sizes", text, f"--preprocess {other} keeps their proportions")
    if examined.pairs:
        yield from check_halves(examined) if examined.side_by_side else check_equal(examined)


def check_small(opt, sizes: dict[str, tuple[int, int]]) -> Iterator[Finding]:
    """Find images into which the crop does not fit, or that are enlarged to more than twice their size."""
    if opt.preprocess == "crop":
        small = [path for path, each in sizes.items() if min(each) < opt.crop_size]
        if small:
            text = f"{len(small)} smaller than --crop_size {opt.crop_size} ({list_names(small)})"
            least = min(min(each) for each in sizes.values())
            yield Finding("FAIL", "sizes", text, f"--preprocess resize_and_crop, or --crop_size {least}")
    elif opt.preprocess != "none":
        middle = sorted(width for width, _ in sizes.values())[len(sizes) // 2]
        if 2 * middle < opt.load_size:
            text = f"a median width of {middle} is enlarged to {opt.load_size}, which costs time and adds nothing"
            side = max(32, middle // 32 * 32)
            yield Finding("warn", "sizes", text, f"--load_size {max(side, middle)} --crop_size {side}")


def check_halves(examined) -> Iterator[Finding]:
    """Find files that can hardly be two images side by side."""
    headers = examined.headers
    narrow = [path for path, h in headers.items() if h.width < 1.2 * h.height]
    if narrow:
        text = f"{of_all(len(narrow), len(headers), 'files')} too narrow for two images ({list_names(narrow)})"
        yield Finding("warn", "pairs", text, NO_PAIRS)
    odd = [path for path, h in headers.items() if h.width % 2]
    if odd and "resize" not in examined.opt.preprocess:
        text = f"{len(odd)} of an odd width; the last column is lost ({list_names(odd)})"
        yield Finding("warn", "pairs", text, "make them even, or --preprocess resize_and_crop")


def check_equal(examined) -> Iterator[Finding]:
    """Find pairs in two folders whose images differ in size."""
    sizes = examined.sizes
    known = [item.paths for item in examined.items if all(path in sizes for path in item.paths)]
    unequal = [f"{A} {times(sizes[A])}, {B} {times(sizes[B])}" for A, B in known if sizes[A] != sizes[B]]
    if unequal:
        text = f"{of_all(len(unequal), len(known), 'pairs')} of two sizes ({list_names(unequal, 1)})"
        yield Finding("FAIL", "pairs", text, "resize one image to the other, or take the pair out")
