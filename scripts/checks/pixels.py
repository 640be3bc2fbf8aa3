"""Checks of decoded images: broken files, blank images, single pictures taken for pairs, channels."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageStat

from data.formats import pillow
from scripts.checks.files import Item, is_transparent, map_in_time, of_all, spread
from scripts.checks.report import Finding
from scripts.checks.sizes import NO_PAIRS
from util.errors import UserError, list_names, printable

MOST_ITEMS = 2000  # whose pixels are read
FLAT = 1.5  # of 255 levels: the standard deviation below which an image is blank
GREY = 3.0  # of 255 levels: the mean distance of a grey image's channels, JPEG's noise included

_libtiff = threading.Lock()  # reading a TIFF redirects the process's stderr for a moment


class Appearance(NamedTuple):
    """Statistics of one image."""

    flat: bool
    saturation: float  # mean distance of its channels, 0 to 255

    @property
    def grey(self) -> bool:
        return self.saturation < GREY


class Pixels(NamedTuple):
    """Facts about an item's pixels."""

    images: tuple[Appearance, ...] = ()  # one for each side
    same: bool = False  # A and B are one image
    single: bool | None = None  # whether the file shows one picture rather than two side by side; None: unknown
    transparent: bool = False
    error: str = ""


def appearance_of(image: Image.Image) -> Appearance:
    """Return the statistics of an 8-bit RGB image."""
    flat = max(ImageStat.Stat(image).stddev) < FLAT
    every = max(1, int(math.sqrt(image.width * image.height / 65536)))
    return Appearance(flat, float(np.ptp(np.asarray(image)[::every, ::every], axis=2).mean()))


def continues_across(image: Image.Image, x: int) -> bool | None:
    """Return whether an RGB picture continues across its column `x`, or two lie side by side there.

    True if the columns on both sides of `x` differ no more than their neighbours do. None where that says nothing: in
    areas of one colour, or where distant columns differ as little as neighbours.
    """
    if x < 24 or image.width - x < 24:
        return None
    strip = np.asarray(image.crop((x - 24, 0, x + 24, image.height))).astype(np.float32)  # (h, 48, 3)
    near = np.abs(np.diff(strip, axis=1)).mean(axis=(0, 2))  # (47,): of neighbouring columns; 23 is across x
    far = np.abs(strip[:, 16:] - strip[:, :-16]).mean(axis=(0, 2))  # (32,): 16 apart; 8 to 23 are across x
    far = np.median(np.delete(far, slice(8, 24)))
    # JPEG's blocks are 8 columns wide, and columns may differ more where one ends than within.
    beside = max(np.median(np.delete(near, 23)), np.median(near[[7, 15, 31, 39]]))
    if far < 4 or beside > 0.5 * far:
        return None
    return bool(near[23] <= 1.5 * beside)


def read_pixels(examined, item: Item) -> Pixels:
    """Decode an item, and return facts about its images."""
    headers = [examined.headers.get(path) for path in item.paths]
    no_tiff = all(header and header.format != "TIFF" for header in headers)
    try:
        with contextlib.nullcontext() if no_tiff else _libtiff:
            images = [pillow.load(path).convert("RGB") for path in item.paths]
    except UserError as error:
        return Pixels(error=str(error))
    whole, half = images[0], images[0].width // 2
    side_by_side = len(item.sides) > len(images)
    may_be_two = side_by_side or (not examined.pairs and whole.width == 2 * whole.height)
    single = continues_across(whole, half) if may_be_two else None
    if side_by_side:
        if half == 0:
            return Pixels(error=f"{printable(item.paths[0])} is too narrow for two images side by side")
        images = [whole.crop((x, 0, x + half, whole.height)) for x in (0, half)]
    same = len(images) == 2 and images[0].size == images[1].size and images[0].tobytes() == images[1].tobytes()
    no_rgb = [path for path, header in zip(item.paths, headers, strict=True) if not header or header.mode != "RGB"]
    return Pixels(tuple(map(appearance_of, images)), same, single, any(map(is_transparent, no_rgb)))


def check_pixels(examined) -> Iterator[Finding]:
    """Decode images, and find those that are broken, transparent or of a single colour."""
    most = MOST_ITEMS // len(examined.sides)
    chosen = [item for sides in examined.sides for item in spread(examined.of(sides), most)]
    found = map_in_time(lambda item: read_pixels(examined, item), chosen, "images")
    examined.pixels = {item: pixels for item, pixels in found.items() if not pixels.error}
    text = f"{of_all(len(found), len(examined.items), 'pairs' if examined.pairs else 'images')} decoded"
    errors = examined.errors = [pixels.error.rstrip(".") for pixels in found.values() if pixels.error]
    if errors:
        text += f", {len(errors)} can't be: {'; '.join(errors[:5])}" + ("; ..." if len(errors) > 5 else "")
        yield Finding("FAIL", "pixels", text, "replace them, or take them out")
    else:
        yield Finding("ok", "pixels", f"{text}, all are whole")
    clear = [item.paths[0] for item, pixels in examined.pixels.items() if pixels.transparent]
    if clear:
        text = f"{len(clear)} transparent in parts, which is dropped ({list_names(clear)})"
        yield Finding("warn", "pixels", text, "put them on a background of your choice")
    flat = [
        f"{item.paths[-1 if side == 'B' else 0]} {side}".strip()
        for item, pixels in examined.pixels.items()
        for side, image in zip(item.sides, pixels.images, strict=True)
        if image.flat
    ]
    if flat:
        text = f"{len(flat)} of a single colour, which instance norm can't scale ({list_names(flat, 5)})"
        yield Finding("warn", "flat", text, "take them out")


def check_pairs(examined) -> Iterator[Finding]:
    """Find pairs of one image, single pictures that would be cut in two, and pairs read as single pictures."""
    found = examined.pixels
    same, single, two = (
        [item.paths[0] for item, pixels in found.items() if test(pixels)]
        for test in (lambda p: p.same, lambda p: p.single, lambda p: p.single is False)
    )
    if same:
        text = f"A and B are the same image in {of_all(len(same), len(found), 'pairs')} ({list_names(same)})"
        level = "FAIL" if len(same) == len(found) else "warn"
        yield Finding(level, "pairs", text, "they teach nothing: make them again, or take them out")
    if examined.side_by_side and not same and len(single) > len(two):
        text = f"{of_all(len(single), len(found), 'files')} look like one picture cut in two ({list_names(single)})"
        yield Finding("warn", "pairs", text, NO_PAIRS)
    if examined.built_in and not examined.pairs and len(two) > len(found) / 2:
        text = f"{of_all(len(two), len(found), 'files')} look like two images side by side ({list_names(two)})"
        yield Finding("warn", "pairs", text, "--dataset_mode aligned reads such pairs, as does --model pix2pix")


def appearances(examined) -> dict[str, list[Appearance]]:
    """Return the statistics of the images of each side."""
    by_side = defaultdict(list)
    for item, pixels in examined.pixels.items():
        for side, image in zip(item.sides, pixels.images, strict=True):
            by_side[side].append(image)
    return dict(sorted(by_side.items()))


def check_channels(examined) -> Iterator[Finding]:
    """Compare the colours of each side with the channels that the options give it."""
    opt = examined.opt
    for side, images in appearances(examined).items():
        is_input = side in ("", "A" if opt.direction == "AtoB" else "B")
        option = "input_nc" if is_input else "output_nc"
        channels = getattr(opt, option) if opt.dataset_mode in ("aligned", "unaligned", "single") else None
        grey, saturation = sum(image.grey for image in images), np.mean([image.saturation for image in images])
        text = f"images {side}".strip() + f": {of_all(grey, len(images), 'grey') if grey else 'colour'}"
        text += f", mean saturation {saturation:.0f} of 255" + (f", read as {channels}" if channels else "")
        level, fix = "ok", ""
        if channels == 3 and grey == len(images):
            level, fix = "warn", f"--{option} 1 for one channel; 3 also work"
        elif channels == 1 and grey < len(images) / 2:
            level, fix = "warn", f"--{option} 3, or their colour is lost"
        elif opt.dataset_mode == "colorization" and grey > len(images) / 2:
            level, fix = "FAIL" if grey == len(images) else "warn", "take colour photos"
        yield Finding(level, "channels", text, fix)


def check_direction(examined) -> Iterator[Finding]:
    """Print which images the network reads and which it draws."""
    if set(appearances(examined)) != {"A", "B"}:
        return
    reads, draws = ("A", "B") if examined.opt.direction == "AtoB" else ("B", "A")

    def where(side: str) -> str:
        half = f"the {'left' if side == 'A' else 'right'} half"
        return f"{side}, {half if examined.side_by_side else f'{examined.opt.phase}{side}/'}"

    text = f"the network reads {where(reads)}, and draws {where(draws)}"
    if not examined.pairs:
        text = f"G_A turns {where(reads)}, into {where(draws)}; G_B does the reverse"
    turn = "BtoA" if reads == "A" else "AtoB"
    yield Finding("ok", "direction", f"{text}. The other way round: --direction {turn}")
