"""Checks of the images that a dataset lists: folders, headers, sizes against the options, copies.

The headers of all files are read, and the pixels of up to pixels.MOST_ITEMS items, each for files.MOST_SECONDS at most.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data import BUILT_IN, find_dataset_using_name
from data.formats import pillow
from models import find_model_using_name
from models.cycle_gan_model import CycleGANModel
from scripts.checks import pixels
from scripts.checks.files import Item, equal_items, items_of, map_in_time, of_all, read_header, times
from scripts.checks.report import Finding, quiet
from util.errors import UserError, list_names
from util.runtime.run_facts import with_values


class Examination:
    """The files of `dataset`, which was made from `opt`, and what the checks have found in them so far."""

    def __init__(self, opt, dataset):
        self.opt, self.dataset = opt, dataset
        self.count = int(min(len(dataset), opt.max_dataset_size))  # items of an epoch
        self.items = items_of(dataset)
        self.sides = Counter(item.sides for item in self.items)
        if not opt.isTrain:
            self.items = [item for sides in self.sides for item in self.of(sides)[: int(min(self.count, opt.num_test))]]
        self.pairs = ("A", "B") in self.sides
        self.side_by_side = self.pairs and len(self.items[0].paths) == 1
        self.built_in = opt.dataset_mode in BUILT_IN
        self.as_before = getattr(dataset, "as_before", False)  # see BaseDataset
        self.headers: dict[str, pillow.Header] = {}
        self.sizes: dict[str, tuple[int, int]] = {}  # of each file's image, or of each half where two lie side by side
        self.pixels: dict[Item, pixels.Pixels] = {}  # of the items that can be read

    def of(self, sides: tuple[str, ...]) -> list[Item]:
        """Return the items with these sides."""
        return [item for item in self.items if item.sides == sides]


def check_dataset(examined: Examination) -> Iterator[Finding]:
    """Examine everything."""
    yield check_folders(examined)
    if examined.items:
        yield from check_files(examined)
        if examined.headers:
            yield from check_sizes(examined)
        yield from pixels.check_pixels(examined)
        yield from pixels.check_pairs(examined)
        yield from pixels.check_channels(examined)
        yield from check_copies(examined)
        if {side for sides in examined.sides for side in sides} == {"A", "B"}:
            yield check_direction(examined)


def check_folders(examined: Examination) -> Finding:
    """Count the items, and name their folders."""
    opt, count, sides = examined.opt, examined.count, examined.sides
    folders = sorted({os.path.dirname(path) for item in examined.items for path in item.paths})  # noqa: PTH120
    parts = [f"{n} {'pairs' if len(s) == 2 else f'images {s[0]}'.strip()}" for s, n in sorted(sides.items())]
    text = f"{', '.join(parts) or f'{count} items'} in {list_names(folders) or opt.dataroot}"
    if not opt.isTrain and count > opt.num_test:
        text += f"; the first {opt.num_test} are translated (--num_test inf: all)"
    elif len(sides) > 1:
        text += f"; an epoch has {count}"
    return Finding("ok", "data", text)


def check_files(examined: Examination) -> Iterator[Finding]:
    """Read the files' headers: formats, depths, rotations."""
    paths = [path for item in examined.items for path in item.paths]
    photos = all(side.is_photo for side in getattr(examined.dataset, "sides", {}).values())
    found = map_in_time(lambda path: read_header(path, examined.as_before, photos), paths, "headers")
    headers = examined.headers = {path: header for path, header in found.items() if header}
    halves = 2 if examined.side_by_side else 1
    examined.sizes = {path: (header.width // halves, header.height) for path, header in headers.items()}
    kinds = Counter(f"{header.format} {header.mode}" for header in headers.values()).most_common()
    kinds = ", ".join(f"{count} {kind}" for kind, count in kinds) or "no image among them"
    yield Finding("ok", "files", f"{of_all(len(found), len(paths), 'files')}: {kinds}")
    if not examined.built_in:
        return  # whose reader is unknown
    deep = [path for path, header in headers.items() if header.values.deep]
    turned = [path for path, header in headers.items() if header.orientation != 1]
    if deep:
        fix = "nothing if 8 are enough, else a custom dataset (data/template_dataset.py)"
        yield Finding("warn", "files", f"{len(deep)} with more than 8 bits; 8 are read ({list_names(deep)})", fix)
    if turned and examined.as_before:
        text = "not applied, as when this run was trained"
        yield Finding("warn", "files", f"{len(turned)} with a rotation (EXIF), {text} ({list_names(turned)})")
    elif turned:
        text = f"{len(turned)} with a rotation (EXIF), which is applied ({list_names(turned)})"
        yield Finding("ok", "files", text)
    two = [item.paths for item in examined.items if len(item.paths) == 2]
    unequal = [pair for pair in two if len({path in turned for path in pair}) == 2]
    if unequal:
        text = f"{len(unequal)} pairs with a rotation (EXIF) on one side only ({', '.join(unequal[0])})"
        yield Finding("warn", "pairs", text, "make sure that the images of a pair fit each other")


def fed_size(opt, size: tuple[int, int]) -> tuple[int, int]:
    """Return the size to which --preprocess brings an image of `size` (width, height)."""
    if "crop" in opt.preprocess:
        return opt.crop_size, opt.crop_size
    if "scale_width" in opt.preprocess:
        return opt.load_size, int(max(opt.load_size * size[1] / max(1, size[0]), opt.crop_size))
    return (opt.load_size, opt.load_size) if "resize" in opt.preprocess else size


def check_sizes(examined: Examination) -> Iterator[Finding]:
    """Compare the images' sizes with the options, and with each other."""
    opt, sizes = examined.opt, examined.sizes
    ordered = sorted(sizes.values(), key=math.prod)
    low, middle, high = (times(ordered[i]) for i in (0, len(ordered) // 2, -1))
    text = low if low == high else f"{low} to {high}, the median {middle}"
    text = f"A and B side by side, each {text}" if examined.side_by_side else f"images of {text}"
    if not examined.built_in:
        yield Finding("ok", "sizes", text)
        return
    fed = sorted({fed_size(opt, size) for size in ordered}, key=math.prod)
    text += f"; the network gets {times(fed[0])}" + (f" to {times(fed[-1])}" if len(fed) > 1 else "")
    yield Finding("ok", "sizes", f"{text} ({opt.preprocess})")
    if len(fed) > 1 and opt.batch_size > 1:
        text = f"images of several sizes can't be one batch (--preprocess {opt.preprocess})"
        yield Finding("FAIL", "sizes", text, "--batch_size 1, or --preprocess resize_and_crop")
    small = [path for path, size in sizes.items() if min(size) < opt.crop_size]
    if small and opt.preprocess == "crop":
        text = f"{len(small)} smaller than --crop_size {opt.crop_size} ({list_names(small)})"
        fix = f"--preprocess resize_and_crop, or --crop_size {min(map(min, ordered))}"
        yield Finding("FAIL", "sizes", text, fix)
    squeezed = [path for path, (width, height) in sizes.items() if not 1 / 1.1 < width / height < 1.1]
    if "resize" in opt.preprocess and len(squeezed) > len(sizes) / 2:
        text = f"{of_all(len(squeezed), len(sizes), 'images')} not square, and squeezed to squares"
        other = "scale_width_and_crop" if opt.isTrain else "none"
        yield Finding("warn", "sizes", text, f"--preprocess {other} keeps their proportions")
    two = [item.paths for item in examined.items if len(item.paths) == 2 and sizes.keys() >= {*item.paths}]
    unequal = [f"{A} {times(sizes[A])}, {B} {times(sizes[B])}" for A, B in two if sizes[A] != sizes[B]]
    if unequal:
        text = f"{of_all(len(unequal), len(two), 'pairs')} of two sizes ({list_names(unequal, 1)})"
        yield Finding("FAIL", "pairs", text, "resize one image to the other, or take the pair out")


def check_copies(examined: Examination) -> Iterator[Finding]:
    """Find files of equal bytes: twice in the data, in A and in B, in training and in test data."""
    own = set(examined.items)
    phases = [phase for phase in ("train", "val", "test") if phase != examined.opt.phase and examined.built_in]
    others = {phase: items_of_phase(examined.opt, phase) - own for phase in phases}
    groups = equal_items(sorted(own.union(*others.values())))
    doubled = [sorted(own & group) for group in groups if len(own & group) > 1]
    within = [items for items in doubled if len({item.sides for item in items}) == 1]
    across = [items for items in doubled if len({item.sides for item in items}) > 1]
    if within and len(within[0]) == len(examined.of(within[0][0].sides)) > 2:
        text = f"all {len(within[0])} are one and the same ({list_names(item.paths[0] for item in within[0])})"
        yield Finding("warn", "copies", text, "make sure that they were written as meant")
    elif within:
        names = list_names(item.paths[0] for item in within[0])
        text = f"{sum(len(items) - 1 for items in within)} too many of equal files ({names})"
        yield Finding("warn", "copies", text, "take them out")
    if across:
        text = f"{len(across)} both in A and in B ({list_names(items[0].paths[0] for items in across)})"
        level = "FAIL" if 2 * len(across) == len(own) else "warn"
        yield Finding(level, "copies", text, "keep each where it belongs")
    if not doubled:
        compared = "".join(f"; compared with {len(items)} of {phase}" for phase, items in others.items() if items)
        yield Finding("ok", "copies", f"no two are equal{compared}")
    for phase, items in others.items():
        leaked = [min(own & group).paths[0] for group in groups if own & group and items & group]
        if leaked:
            text = f"{len(leaked)} also in {phase} ({list_names(leaked)})"
            yield Finding("warn", "leak", text, "take them out of one: a test on training images scores too well")


def items_of_phase(opt, phase: str) -> set[Item]:
    """Return the items of another phase of the data; none if it does not exist."""
    changed = with_values(opt, phase=phase, max_dataset_size=math.inf)
    try:
        with quiet():
            return set(items_of(find_dataset_using_name(changed.dataset_mode)(changed)))
    except UserError:
        return set()


def check_direction(examined: Examination) -> Finding:
    """Print which images the networks read and which they draw."""
    reads, draws = ("A", "B") if examined.opt.direction == "AtoB" else ("B", "A")
    places = {"A": "the left half", "B": "the right half"}
    if not examined.side_by_side:
        files = {side: path for item in examined.items for side, path in zip(item.sides, item.paths, strict=True)}
        places = {side: f"{Path(path).parent.name}/" for side, path in files.items()}
    reads_text, draws_text = (f"{side}, {places[side]}" for side in (reads, draws))
    text = f"the network reads {reads_text}, and draws {draws_text}"
    if issubclass(find_model_using_name(examined.opt.model, examined.opt.isTrain), CycleGANModel):
        text = f"G_A turns {reads_text}, into {draws_text}; G_B does the reverse"
    return Finding("ok", "direction", f"{text}. The other way round: --direction {draws}to{reads}")
