"""Checks of decoded images: broken files, blank images, single pictures taken for pairs, channels."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageStat

from data.aligned_dataset import continues_across
from data.formats import pillow
from data.formats.notes import Note
from data.formats.values import MOST_CLASSES, Range, RangeError, Values
from scripts.checks.files import Item, map_in_time, of_all, spread
from scripts.checks.report import Finding, reason_of
from util.errors import UserError, list_names, printable
from util.loggers.visuals import to_pictures

MOST_ITEMS = 2000  # whose pixels are read
FLAT = 1.5  # of 255 levels: the standard deviation below which an image is blank
# What is said of images whose content is not read whole, by the kind of the reader's note.
LEFT_OUT = {
    "alpha": "with transparency (alpha), which is dropped",
    "frames": "with further pages or frames; the first one is read",
    "bands": "with more bands than the three that are read",
}
GREY = 3.0  # of 255 levels: the mean distance of a grey image's channels, JPEG's noise included
NO_PAIRS = "docs/datasets.md has the layouts of pairs; test.py translates single images with --model test"

_libtiff = threading.Lock()  # reading a TIFF redirects the process's stderr for a moment


class Pixels(NamedTuple):
    """Facts about an item's pixels, the first two by side."""

    flat: dict[str, bool] = {}
    grey: dict[str, bool] = {}
    same: bool = False  # A and B are one image
    single: bool | None = None  # whether the file shows one picture rather than two side by side; None: unknown
    levels: dict[str, np.ndarray] = {}  # by side: which of the 256 levels of grey occur; none in colour
    notes: tuple[Note, ...] = ()
    error: str = ""


def pure_grey(image: Image.Image) -> bool:
    """Return whether the channels of an RGB image are equal."""
    red, green, blue = image.split()
    return red.tobytes() == green.tobytes() == blue.tobytes()


def is_grey(image: Image.Image) -> bool:
    """Return whether an RGB image has no colour."""
    every = max(1, int((image.width * image.height / 65536) ** 0.5))
    return np.ptp(np.asarray(image)[::every, ::every], axis=2).mean() < GREY


def read_pixels(examined, item: Item) -> Pixels:
    """Decode an item, and return facts about its images."""
    is_tiff = any(path.lower().endswith((".tif", ".tiff")) for path in item.paths)
    sides = getattr(examined.dataset, "sides", {})
    try:
        with _libtiff if is_tiff else contextlib.nullcontext():
            if all(side.is_photo for side in sides.values()):
                pictures = [pillow.read(path, examined.as_before) for path in item.paths]
                images, notes = [picture.image for picture in pictures], [n for p in pictures for n in p.notes]
            else:
                letters = item.sides if len(item.paths) == 2 else item.sides[:1]
                images = [picture_of(sides, *it) for it in zip(letters, item.paths, strict=True)]
                notes = []
    except RangeError as error:  # a dataset of one's own may read these
        return Pixels(error=reason_of(error)) if examined.built_in else None
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
    grey = [is_grey(image) for image in images]
    levels = [np.array(image.histogram()[:256]) * pure_grey(image) > 0 for image in images]
    by_side = [dict(zip(item.sides, facts, strict=True)) for facts in (flat, grey, levels)]
    return Pixels(*by_side[:2], same, single, by_side[2], tuple(notes))


def picture_of(sides: dict, letter: str, path: str) -> Image.Image:
    """Return an image as the page would show it."""
    image = (sides.get(letter) or next(iter(sides.values()))).read(path)
    return image if isinstance(image, Image.Image) else Image.fromarray(to_pictures(image[None])[0])


def check_pixels(examined) -> Iterator[Finding]:
    """Decode images, and find those that are broken or of a single colour."""
    most = MOST_ITEMS // len(examined.sides)
    chosen = [item for sides in examined.sides for item in spread(examined.of(sides), most)]
    found = map_in_time(lambda item: read_pixels(examined, item), chosen, "images")
    found = {item: pixels for item, pixels in found.items() if pixels}
    examined.pixels = {item: pixels for item, pixels in found.items() if not pixels.error}
    text = f"{of_all(len(found), len(examined.items), 'pairs' if examined.pairs else 'images')} decoded"
    errors = [pixels.error for pixels in found.values() if pixels.error]
    if errors:
        fix = "replace them, or take them out" if examined.pixels else ""
        yield Finding("FAIL", "pixels", f"{text}, {len(errors)} can't be read", fix)
        for error in errors[:5]:
            yield Finding("FAIL", "pixels", error)
        if len(errors) > 5:
            yield Finding("FAIL", "pixels", f"and {len(errors) - 5} more")
    else:
        yield Finding("ok", "pixels", f"{text}, all are whole")
    notes = [note for pixels in found.values() for note in pixels.notes if note.kind in LEFT_OUT]
    for kind in LEFT_OUT if examined.built_in else ():
        paths = [note.path for note in notes if note.kind == kind]
        if paths:
            yield Finding("warn", "files", f"{len(paths)} {LEFT_OUT[kind]} ({list_names(paths)})")
    for side in sorted({side for item in examined.pixels for side in item.sides}):
        yield from check_side(examined, side)


def check_side(examined, side: str) -> Iterator[Finding]:
    """Find class numbers and blank images on one side."""
    pixels = {item: facts for item, facts in examined.pixels.items() if side in facts.flat}
    levels = np.flatnonzero(np.any([facts.levels[side] for facts in pixels.values()], axis=0))
    numbers = levels[levels != 255]  # the usual mark of pixels without a class
    flat = [item.paths[-1 if side == "B" else 0] for item, facts in pixels.items() if facts.flat[side]]
    whose = f"images {side}".strip()
    if all(facts.levels[side].any() for facts in pixels.values()) and numbers.size and numbers[-1] < MOST_CLASSES:
        values = f"{numbers[0]} to {numbers[-1]}" + " and 255" * (numbers.size < levels.size)
        text = f"{whose}: all values are {values} of 0 to 255, like class numbers; a network sees one dark grey"
        fix = f"--labels {side or 'A'}={max(2, numbers[-1] + 1)} gives each class a channel"
        yield Finding("warn", "values", text, fix)
    elif flat and len(flat) == len(pixels):
        text = f"{whose}: {of_all(len(flat), len(pixels), 'images')} of a single colour ({list_names(flat)})"
        yield Finding("warn", "flat", text, "make sure that they were written as meant")
    elif flat:
        names = list_names((f"{path} {side}".strip() for path in flat), 5)
        text = f"{len(flat)} of a single colour, which instance norm can't scale ({names})"
        yield Finding("warn", "flat", text, "keep them if they mean something, such as empty masks")


def check_values(error: RangeError) -> Iterator[Finding]:
    """Report values that training refuses, and the values in all the files, which only the doctor reads."""
    yield Finding("FAIL", "values", str(error))
    ranges: dict[Values, list[Range]] = {}
    for found in map_in_time(pillow.find_range, error.paths, "values").values():
        if found:
            ranges.setdefault(found.values, []).append(found)
    for values, several in ranges.items():
        text = of_all(len(several), len(error.paths), "files")
        joined = functools.reduce(Range.join, several)
        fix = "" if joined.fault("") else "the first ones alone are dark: rename a bright one, so that it comes first"
        yield Finding("warn", "values", f"{text} hold {values.kind} values of {values.bits} bits from {joined}", fix)


def check_pairs(examined) -> Iterator[Finding]:
    """Find pairs of one image, and single pictures that would be cut in two."""
    found = examined.pixels
    same = [item.paths[0] for item, pixels in found.items() if pixels.same]
    single = [item.paths[0] for item, pixels in found.items() if pixels.single]
    if same:
        text = f"A and B are the same image in {of_all(len(same), len(found), 'pairs')} ({list_names(same)})"
        level = "FAIL" if len(same) == len(found) else "warn"
        fix = "make them again" if level == "FAIL" else "they teach nothing: make them again, or take them out"
        yield Finding(level, "pairs", text, fix)
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
        side_of = getattr(examined.dataset, "sides", {}).get(side)
        if side_of is not None and not side_of.is_photo:
            continue  # the files decide
        text += f", read as {channels}" if channels else ""
        level, fix = "ok", ""
        if channels == 3 and grey == count:
            level, fix = "warn", f"--{option} 1 for one channel; 3 also work"
        elif channels == 1 and grey < count / 2:
            level, fix = "warn", f"--{option} 3, or their colour is lost"
        elif opt.dataset_mode == "colorization" and grey > count / 2:
            level, fix = "FAIL" if grey == count else "warn", "take colour photos"
        yield Finding(level, "channels", text, fix)
