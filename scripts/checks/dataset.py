"""What is wrong with the images that a data set lists: for scripts/doctor.py.

Headers of all files are read, and the pixels of up to MOST_ITEMS items, each for image_facts.MOST_SECONDS at most.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data import BUILT_IN, find_dataset_using_name
from data.formats import pillow
from data.image_folder import is_image_file
from scripts.checks.findings import Finding, quiet
from scripts.checks.image_files import (
    Header,
    Item,
    equal_items,
    fits_suffix,
    is_transparent,
    items_of,
    look_at,
    read_header,
)
from scripts.checks.pixels import Look, is_cut_through, look
from util.errors import UserError, list_names, printable

MOST_ITEMS = 2000  # whose pixels are read
# Images, or arrays of them, that is_image_file leaves out.
NOT_READ = ".gif .heic .heif .avif .jp2 .jfif .tga .svg .psd .dng .exr .hdr .npy .npz .mat .dcm .nii".split()
NO_PAIRS = "docs/datasets.md has the layouts of pairs; single images need --model cycle_gan, or test.py's --model test"

_libtiff = threading.Lock()  # reading a TIFF redirects the process's stderr for a moment


class Pixels(NamedTuple):
    """What an item's images look like."""

    looks: tuple[Look, ...] = ()  # of each side
    same: bool = False  # A and B are one image
    cut: bool | None = None  # whether a picture goes on across the middle of the file; None: it can't be told
    transparent: bool = False
    error: str = ""


class Examination:
    """The images of `dataset`, which was made from `opt`. `findings` goes through all that can be wrong with them."""

    def __init__(self, opt, dataset):
        self.opt, self.dataset = opt, dataset
        self.count = int(min(len(dataset), opt.max_dataset_size))  # items of an epoch
        self.items = items_of(dataset)
        self.sides = Counter(item.sides for item in self.items)
        if not opt.isTrain:
            self.items = [item for sides in self.sides for item in self.of(sides)[: int(min(self.count, opt.num_test))]]
        self.pairs = ("A", "B") in self.sides
        self.side_by_side = self.pairs and len(self.items[0].paths) == 1
        self.ours = opt.dataset_mode in BUILT_IN
        self.headers: dict[str, Header] = {}
        self.pixels: dict[Item, Pixels] = {}  # of those that can be read
        self.errors: list[str] = []  # of the others

    def of(self, sides: tuple[str, ...]) -> list[Item]:
        """Return the items with these sides."""
        return [item for item in self.items if item.sides == sides]

    def findings(self) -> Iterator[Finding]:
        """Examine everything."""
        yield from self.about_folders()
        if self.items:
            yield from self.about_files()
            if self.headers:
                yield from self.about_sizes()
            yield from self.about_pixels()
            yield from self.about_pairs()
            yield from self.about_channels()
            yield from self.about_copies()
            yield from self.about_direction()

    # ---- which files there are ----

    def about_folders(self) -> Iterator[Finding]:
        """Count what was found, and what beside it is not read."""
        folders = sorted({os.path.dirname(path) for item in self.items for path in item.paths})  # noqa: PTH120
        parts = [f"{n} {'pairs' if len(s) == 2 else f'images {s[0]}'.strip()}" for s, n in sorted(self.sides.items())]
        text = f"{', '.join(parts) or f'{self.count} items'} in {list_names(folders) or self.opt.dataroot}"
        if not self.opt.isTrain and self.count > self.opt.num_test:
            text += f"; the first {self.opt.num_test} are translated (--num_test inf: all)"
        elif len(self.sides) > 1:
            text += f"; an epoch has {self.count}"
        yield Finding("ok", "data", text)
        kinds = Counter()
        for folder in folders[:1000]:
            with contextlib.suppress(OSError):
                suffixes = (Path(entry.name).suffix.lower() for entry in os.scandir(folder))
                kinds.update(suffix for suffix in suffixes if suffix in NOT_READ and not is_image_file(suffix))
        if kinds:
            text = f"not read: {', '.join(f'{count} {suffix}' for suffix, count in kinds.most_common())}"
            yield Finding("warn", "data", text, "convert them, to png for example")

    def about_files(self) -> Iterator[Finding]:
        """Read the files' headers: formats, depths, rotations."""
        paths = [path for item in self.items for path in item.paths]
        found = look_at(paths, read_header, "headers")
        headers = self.headers = {path: header for path, header in found.items() if header}
        formats, modes = (Counter(getattr(h, field) for h in headers.values()) for field in ("format", "mode"))
        others = [path for path, h in headers.items() if not fits_suffix(path, h.format)]
        kinds = "; ".join(", ".join(f"{n} {name}" for name, n in each.most_common()) for each in (formats, modes))
        text = f"{of_all(len(found), len(paths), 'files')}: {kinds or 'no image among them'}"
        if others:
            text += (
                f"; {len(others)} of another format than the name says, which does no harm ({list_names(others, 1)})"
            )
        yield Finding("ok", "files", text)
        for what, these, cure in (
            (
                "more than 8 bits, of which 8 are read",
                [path for path, h in headers.items() if h.mode in pillow.DEEP_MODES],
                "nothing if 8 will do, else a data set of your own (data/template_dataset.py)",
            ),
            (
                "a note to be rotated (EXIF), which is not followed",
                [path for path, h in headers.items() if h.turned],
                "mogrify -auto-orient FILES (ImageMagick) turns the pixels",
            ),
            (
                "several frames or pages, of which the first is read",
                [path for path, h in headers.items() if h.frames > 1],
                "store each frame as a file",
            ),
        ):
            if these:
                yield Finding("warn", "files", f"{len(these)} with {what} ({list_names(these)})", cure)

    # ---- sizes ----

    def image_size(self, path: str) -> tuple[int, int]:
        """Return the size (width, height) of a file's image, of each half where two lie side by side."""
        header = self.headers[path]
        return (header.width // 2 if self.side_by_side else header.width), header.height

    def fed_size(self, path: str) -> tuple[int, int]:
        """Return the size to which --preprocess brings a file's image."""
        opt, (width, height) = self.opt, self.image_size(path)
        if "crop" in opt.preprocess:
            return opt.crop_size, opt.crop_size
        if "scale_width" in opt.preprocess:
            return opt.load_size, int(max(opt.load_size * height / max(1, width), opt.crop_size))
        return (opt.load_size, opt.load_size) if "resize" in opt.preprocess else (width, height)

    def largest(self) -> int:
        """Return the index of the item whose image A is fed in the largest size."""
        first = [item for item in self.items if item.sides[0] in ("A", "")]
        known = [i for i, item in enumerate(first) if item.paths[0] in self.headers]
        return max(known, key=lambda i: math.prod(self.fed_size(first[i].paths[0])), default=0) if self.ours else 0

    def about_sizes(self) -> Iterator[Finding]:
        """Compare the images' sizes with the options, and with each other."""
        opt, sizes = self.opt, {path: self.image_size(path) for path in self.headers}
        ordered = sorted(sizes.values(), key=math.prod)
        low, middle, high = (times(ordered[i]) for i in (0, len(ordered) // 2, -1))
        text = low if low == high else f"{low} to {high}, the median {middle}"
        text = f"A and B side by side, each {text}" if self.side_by_side else f"images of {text}"
        if not self.ours:
            yield Finding("ok", "sizes", text)
            return
        fed = sorted({self.fed_size(path) for path in sizes}, key=math.prod)
        text += f"; the network gets {times(fed[0])}" + (f" to {times(fed[-1])}" if len(fed) > 1 else "")
        yield Finding("ok", "sizes", f"{text} ({opt.preprocess})")
        if len(fed) > 1 and opt.batch_size > 1:
            text = f"images of several sizes can't be one batch (--preprocess {opt.preprocess})"
            yield Finding("FAIL", "sizes", text, "--batch_size 1, or --preprocess resize_and_crop")
        yield from self.too_small(sizes)
        squeezed = [path for path, (width, height) in sizes.items() if not 1 / 1.1 < width / height < 1.1]
        if "resize" in opt.preprocess and len(squeezed) > len(sizes) / 2:
            text = f"{of_all(len(squeezed), len(sizes), 'images')} not square, and squeezed to squares"
            other = "scale_width_and_crop" if opt.isTrain else "none"
            yield Finding("warn", "sizes", text, f"--preprocess {other} keeps their proportions")
        if self.pairs:
            yield from self.about_halves() if self.side_by_side else self.about_unequal(sizes)

    def too_small(self, sizes: dict[str, tuple[int, int]]) -> Iterator[Finding]:
        """Find images into which the crop does not fit, or which are enlarged to more than twice their size."""
        opt = self.opt
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

    def about_halves(self) -> Iterator[Finding]:
        """Find files that can hardly be two images side by side."""
        narrow = [path for path, h in self.headers.items() if h.width < 1.2 * h.height]
        if narrow:
            text = f"{of_all(len(narrow), len(self.headers), 'files')} too narrow for two images ({list_names(narrow)})"
            yield Finding("warn", "pairs", text, NO_PAIRS)
        odd = [path for path, h in self.headers.items() if h.width % 2]
        if odd and "resize" not in self.opt.preprocess:
            text = f"{len(odd)} of an odd width, of which the last column is lost ({list_names(odd)})"
            yield Finding("warn", "pairs", text, "make them even, or --preprocess resize_and_crop")

    def about_unequal(self, sizes: dict[str, tuple[int, int]]) -> Iterator[Finding]:
        """Find pairs in two folders whose images differ in size."""
        known = [item.paths for item in self.items if all(path in sizes for path in item.paths)]
        unequal = [f"{A} {times(sizes[A])}, {B} {times(sizes[B])}" for A, B in known if sizes[A] != sizes[B]]
        if unequal:
            text = f"{of_all(len(unequal), len(known), 'pairs')} of two sizes ({list_names(unequal, 1)})"
            yield Finding("FAIL", "pairs", text, "resize one image to the other, or take the pair out")

    # ---- pixels ----

    def about_pixels(self) -> Iterator[Finding]:
        """Decode images: which are broken, transparent, of a single colour?"""
        most = MOST_ITEMS // len(self.sides)
        chosen = [item for sides in self.sides for item in spread(self.of(sides), most)]
        found = look_at(chosen, self.read_pixels, "images")
        self.pixels = {item: pixels for item, pixels in found.items() if not pixels.error}
        text = f"{of_all(len(found), len(self.items), 'pairs' if self.pairs else 'images')} decoded"
        errors = self.errors = [pixels.error.rstrip(".") for pixels in found.values() if pixels.error]
        if errors:
            text += f", {len(errors)} can't be: {'; '.join(errors[:5])}" + ("; ..." if len(errors) > 5 else "")
            yield Finding("FAIL", "pixels", text, "replace them, or take them out")
        else:
            yield Finding("ok", "pixels", f"{text}, all are whole")
        clear = [item.paths[0] for item, pixels in self.pixels.items() if pixels.transparent]
        if clear:
            text = f"{len(clear)} transparent in parts, which is dropped ({list_names(clear)})"
            yield Finding("warn", "pixels", text, "lay them on a background of your choice")
        flat = [
            f"{item.paths[-1 if side == 'B' else 0]} {side}".strip()
            for item, pixels in self.pixels.items()
            for side, look in zip(item.sides, pixels.looks, strict=True)
            if look.flat
        ]
        if flat:
            text = f"{len(flat)} have a single colour, which instance norm can't scale ({list_names(flat, 5)})"
            yield Finding("warn", "flat", text, "take them out")

    def read_pixels(self, item: Item) -> Pixels:
        """Decode an item and look at its images."""
        headers = [self.headers.get(path) for path in item.paths]
        plain = all(header and header.format != "TIFF" for header in headers)
        try:
            with contextlib.nullcontext() if plain else _libtiff:
                images = [pillow.load(path).convert("RGB") for path in item.paths]
        except UserError as error:
            return Pixels(error=str(error))
        whole, half = images[0], images[0].width // 2
        side_by_side = len(item.sides) > len(images)
        may_be_two = side_by_side or (not self.pairs and whole.width == 2 * whole.height)
        cut = is_cut_through(whole, half) if may_be_two else None
        if side_by_side:
            if half == 0:
                return Pixels(error=f"{printable(item.paths[0])} is too narrow for two images side by side")
            images = [whole.crop((x, 0, x + half, whole.height)) for x in (0, half)]
        same = len(images) == 2 and images[0].size == images[1].size and images[0].tobytes() == images[1].tobytes()
        may_be_clear = [
            path for path, header in zip(item.paths, headers, strict=True) if not header or header.mode != "RGB"
        ]
        return Pixels(tuple(map(look, images)), same, cut, any(map(is_transparent, may_be_clear)))

    def about_pairs(self) -> Iterator[Finding]:
        """Find pairs whose A and B are one image, single pictures that would be cut in two, and pairs taken for one."""
        same = [item.paths[0] for item, pixels in self.pixels.items() if pixels.same]
        if same:
            text = f"A and B are the same image in {of_all(len(same), len(self.pixels), 'pairs')} ({list_names(same)})"
            level = "FAIL" if len(same) == len(self.pixels) else "warn"
            yield Finding(level, "pairs", text, "nothing is to be learnt from them: make them anew, or take them out")
        cut = [item.paths[0] for item, pixels in self.pixels.items() if pixels.cut]
        two = [item.paths[0] for item, pixels in self.pixels.items() if pixels.cut is False]
        if self.side_by_side and not same and len(cut) > len(two):
            text = f"{of_all(len(cut), len(self.pixels), 'files')} look like one picture cut in two ({list_names(cut)})"
            yield Finding("warn", "pairs", text, NO_PAIRS)
        if self.ours and not self.pairs and len(two) > len(self.pixels) / 2:
            text = (
                f"{of_all(len(two), len(self.pixels), 'files')} look like two images side by side ({list_names(two)})"
            )
            yield Finding("warn", "pairs", text, "--dataset_mode aligned reads such pairs, as does --model pix2pix")

    def looks(self) -> dict[str, list[Look]]:
        """Return what the images of each side look like."""
        looks = defaultdict(list)
        for item, pixels in self.pixels.items():
            for side, seen in zip(item.sides, pixels.looks, strict=True):
                looks[side].append(seen)
        return dict(sorted(looks.items()))

    def about_channels(self) -> Iterator[Finding]:
        """Compare the colours of each side with the channels that the options give it."""
        opt = self.opt
        for side, looks in self.looks().items():
            goes_in = side in ("", "A" if opt.direction == "AtoB" else "B")
            option = "input_nc" if goes_in else "output_nc"
            channels = getattr(opt, option) if opt.dataset_mode in ("aligned", "unaligned", "single") else None
            grey, saturation = sum(look.grey for look in looks), np.mean([look.saturation for look in looks])
            text = f"images {side}".strip() + f": {of_all(grey, len(looks), 'grey') if grey else 'colour'}"
            text += f", mean saturation {saturation:.0f} of 255" + (f", read as {channels}" if channels else "")
            level, cure = "ok", ""
            if channels == 3 and grey == len(looks):
                level, cure = "warn", f"--{option} 1 for one channel; 3 work, too"
            elif channels == 1 and grey < len(looks) / 2:
                level, cure = "warn", f"--{option} 3, or their colour is lost"
            elif opt.dataset_mode == "colorization" and grey > len(looks) / 2:
                level, cure = "FAIL" if grey == len(looks) else "warn", "take photos whose colours can be learnt"
            yield Finding(level, "channels", text, cure)

    # ---- copies ----

    def about_copies(self) -> Iterator[Finding]:
        """Find files of equal bytes: twice in the data, in A and in B, in training and in test data."""
        own = set(self.items)
        others = {phase: self.items_of_phase(phase) - own for phase in self.other_phases()}
        others = {phase: items for phase, items in others.items() if items}
        groups = equal_items([*dict.fromkeys(self.items), *(item for items in others.values() for item in items)])
        doubled = [sorted(own & group) for group in groups if len(own & group) > 1]
        within = [items for items in doubled if len({item.sides for item in items}) == 1]
        across = [items for items in doubled if len({item.sides for item in items}) > 1]
        if within:
            text = f"{sum(len(items) - 1 for items in within)} too many of equal files"
            yield Finding(
                "warn", "copies", f"{text} ({list_names(item.paths[0] for item in within[0])})", "take them out"
            )
        if across:
            text = f"{len(across)} both in A and in B ({list_names(items[0].paths[0] for items in across)})"
            level = "FAIL" if 2 * len(across) == len(own) else "warn"
            yield Finding(level, "copies", text, "keep each where it belongs")
        if not doubled:
            compared = "".join(f"; compared with {len(items)} of {phase}" for phase, items in others.items())
            yield Finding("ok", "copies", f"no two are equal{compared}")
        for phase, items in others.items():
            leaked = [min(own & group).paths[0] for group in groups if own & group and items & group]
            if leaked:
                text = f"{len(leaked)} also in {phase} ({list_names(leaked)})"
                yield Finding("warn", "leak", text, "take them out of one: what was trained on tests too well")

    def other_phases(self) -> list[str]:
        """Return the phases of which no image should be in this one."""
        others = [phase for phase in ("train", "val", "test") if phase != self.opt.phase]
        return others if self.ours and self.opt.isTrain else ["train"] * (self.ours and self.opt.phase != "train")

    def items_of_phase(self, phase: str) -> set[Item]:
        """Return the items of another phase of the data, none where it is not there."""
        changed = argparse.Namespace(**{**vars(self.opt), "phase": phase, "max_dataset_size": math.inf})
        try:
            with quiet():
                return set(items_of(find_dataset_using_name(changed.dataset_mode)(changed)))
        except UserError:
            return set()

    # ---- what goes in, and what comes out ----

    def about_direction(self) -> Iterator[Finding]:
        """Say which images the network reads and which it draws."""
        looks = self.looks()
        if set(looks) != {"A", "B"}:
            return
        reads, draws = ("A", "B") if self.opt.direction == "AtoB" else ("B", "A")

        def where(side: str) -> str:
            colours = int(np.median([look.colours for look in looks[side]]))
            half = f"the {'left' if side == 'A' else 'right'} half" if self.side_by_side else f"{self.opt.phase}{side}/"
            return f"{side}, {half} (some {colours} colours)"

        text = f"the network reads {where(reads)}, and draws {where(draws)}"
        if not self.pairs:
            text = f"G_A turns {where(reads)}, into {where(draws)}; G_B does the reverse"
        turn = "BtoA" if reads == "A" else "AtoB"
        yield Finding("ok", "direction", f"{text}. The other way round: --direction {turn}")


# ---- words, and what they count ----


def spread(things: list, most: int) -> list:
    """Return up to `most` of the things, evenly spread."""
    return things if len(things) <= most else [things[i * len(things) // most] for i in range(most)]


def of_all(count: int, whole: int, what: str) -> str:
    """Say how many: `all 30 files`, `7 of 30 files`."""
    return f"all {count} {what}" if count == whole else f"{count} of {whole} {what}"


def times(size: tuple[int, int]) -> str:
    """Write a size: `640x480`."""
    return f"{size[0]}x{size[1]}"
