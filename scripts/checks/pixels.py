"""Checks of decoded images: broken files, blank images, single pictures taken for pairs, channels."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageStat

from data.aligned_dataset import continues_across
from data.formats import pillow
from scripts.checks.files import Item, map_in_time, of_all, spread
from scripts.checks.report import Finding, reason_of
from util.errors import UserError, list_names, printable

MOST_ITEMS = 2000  # whose pixels are read
FLAT = 1.5  # of 255 levels: the standard deviation below which an image is blank
GREY = 3.0  # of 255 levels: the mean distance of a grey image's channels, JPEG's noise included
NO_PAIRS = "docs/datasets.md has the layouts of pairs; single images need --model cycle_gan, or test.py's --model test"

_libtiff = threading.Lock()  # reading a TIFF redirects the process's stderr for a moment


class Pixels(NamedTuple):
    """Facts about an item's pixels, the first two by side."""

    flat: dict[str, bool] = {}
    grey: dict[str, bool] = {}
    same: bool = False  # A and B are one image
    single: bool | None = None  # whether the file shows one picture rather than two side by side; None: unknown
    error: str = ""


def is_grey(image: Image.Image) -> bool:
    """Return whether an RGB image has no colour."""
    every = max(1, int((image.width * image.height / 65536) ** 0.5))
    return np.ptp(np.asarray(image)[::every, ::every], axis=2).mean() < GREY


def read_pixels(examined, item: Item) -> Pixels:
    """Decode an item, and return facts about its images."""
    is_tiff = any(path.lower().endswith((".tif", ".tiff")) for path in item.paths)
    try:
        with _libtiff if is_tiff else contextlib.nullcontext():
            images = [pillow.load(path).convert("RGB") for path in item.paths]
    except UserError as error:
        return Pixels(error=reason_of(error))
    single = None
    if examined.side_by_side:
        whole, half = images[0], images[0].width // 2
        if half == 0:
            return Pixels(error=f"{printable(item.paths[0])} is too narrow for two images side by side")
        single = continues_across(whole, half)
        images = [whole.crop((x, 0, x + half, whole.height)) for x in (0, half)]
    same = len(images) == 2 and images[0].size == images[1].size and images[0].tobytes() == images[1].tobytes()
    flat = [max(ImageStat.Stat(image).stddev) < FLAT for image in images]
    by_side = [dict(zip(item.sides, facts, strict=True)) for facts in (flat, map(is_grey, images))]
    return Pixels(*by_side, same, single)


def check_pixels(examined) -> Iterator[Finding]:
    """Decode images, and find those that are broken or of a single colour."""
    most = MOST_ITEMS // len(examined.sides)
    chosen = [item for sides in examined.sides for item in spread(examined.of(sides), most)]
    found = map_in_time(lambda item: read_pixels(examined, item), chosen, "images")
    examined.pixels = {item: pixels for item, pixels in found.items() if not pixels.error}
    text = f"{of_all(len(found), len(examined.items), 'pairs' if examined.pairs else 'images')} decoded"
    errors = [pixels.error for pixels in found.values() if pixels.error]
    if errors:
        text += f", {len(errors)} can't be: {list_names(errors, 5)}"
        yield Finding("FAIL", "pixels", text, "replace them, or take them out")
    else:
        yield Finding("ok", "pixels", f"{text}, all are whole")
    flat = [(item, side) for item, pixels in examined.pixels.items() for side in item.sides if pixels.flat[side]]
    if flat:
        names = list_names((f"{item.paths[-1 if side == 'B' else 0]} {side}".strip() for item, side in flat), 5)
        text = f"{len(flat)} of a single colour, which instance norm can't scale ({names})"
        yield Finding("warn", "flat", text, "take them out")


def check_pairs(examined) -> Iterator[Finding]:
    """Find pairs of one image, and single pictures that would be cut in two."""
    found = examined.pixels
    same = [item.paths[0] for item, pixels in found.items() if pixels.same]
    single = [item.paths[0] for item, pixels in found.items() if pixels.single]
    if same:
        text = f"A and B are the same image in {of_all(len(same), len(found), 'pairs')} ({list_names(same)})"
        level = "FAIL" if len(same) == len(found) else "warn"
        yield Finding(level, "pairs", text, "they teach nothing: make them again, or take them out")
    elif len(single) > sum(pixels.single is False for pixels in found.values()):
        text = f"{of_all(len(single), len(found), 'files')} look like one picture cut in two ({list_names(single)})"
        yield Finding("warn", "pairs", text, NO_PAIRS)


def check_channels(examined) -> Iterator[Finding]:
    """Compare the colours of each side with the channels that the options give it."""
    opt = examined.opt
    for side in sorted({side for item in examined.pixels for side in item.sides}):
        is_input = side in ("", "A" if opt.direction == "AtoB" else "B")
        option = "input_nc" if is_input else "output_nc"
        channels = getattr(opt, option) if opt.dataset_mode in ("aligned", "unaligned", "single") else None
        images = [pixels.grey[side] for pixels in examined.pixels.values() if side in pixels.grey]
        grey, count = sum(images), len(images)
        text = f"images {side}".strip() + f": {of_all(grey, count, 'grey') if grey else 'colour'}"
        text += f", read as {channels}" if channels else ""
        level, fix = "ok", ""
        if channels == 3 and grey == count:
            level, fix = "warn", f"--{option} 1 for one channel; 3 also work"
        elif channels == 1 and grey < count / 2:
            level, fix = "warn", f"--{option} 3, or their colour is lost"
        elif opt.dataset_mode == "colorization" and grey > count / 2:
            level, fix = "FAIL" if grey == count else "warn", "take colour photos"
        yield Finding(level, "channels", text, fix)
