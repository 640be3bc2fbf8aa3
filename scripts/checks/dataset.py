"""Checks of the images that a dataset lists.

The headers of all files are read, and the pixels of up to pixels.MOST_ITEMS items, each for files.MOST_SECONDS at most.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data import BUILT_IN, find_dataset_using_name
from data.formats import pillow
from data.image_folder import is_image_file
from scripts.checks import pixels, sizes
from scripts.checks.files import Header, Item, equal_items, items_of, map_in_time, of_all, read_header
from scripts.checks.report import Finding, quiet
from util.errors import UserError, list_names
from util.runtime.run_facts import with_values

# Images, or arrays of them, that is_image_file leaves out.
NOT_READ = ".gif .heic .heif .avif .jp2 .jfif .tga .svg .psd .dng .exr .hdr .npy .npz .mat .dcm .nii".split()


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
        self.headers: dict[str, Header] = {}
        self.sizes: dict[str, tuple[int, int]] = {}  # of each file's image, or of each half where two lie side by side
        self.pixels: dict[Item, pixels.Pixels] = {}  # of the items that can be read
        self.errors: list[str] = []  # of the others

    def of(self, sides: tuple[str, ...]) -> list[Item]:
        """Return the items with these sides."""
        return [item for item in self.items if item.sides == sides]

    def largest(self) -> int:
        """Return the index of the item whose image A reaches the network in the largest size."""
        first = [item.paths[0] for item in self.items if item.sides[0] in ("A", "")]
        known = [i for i, path in enumerate(first) if path in self.sizes]
        area = {i: math.prod(sizes.fed_size(self.opt, self.sizes[first[i]])) for i in known}
        return max(known, key=area.get, default=0) if self.built_in else 0


def check_dataset(examined: Examination) -> Iterator[Finding]:
    """Examine everything."""
    yield from check_folders(examined)
    if examined.items:
        yield from check_files(examined)
        if examined.headers:
            yield from sizes.check_sizes(examined)
        yield from pixels.check_pixels(examined)
        yield from pixels.check_pairs(examined)
        yield from pixels.check_channels(examined)
        yield from check_copies(examined)
        yield from pixels.check_direction(examined)


def check_folders(examined: Examination) -> Iterator[Finding]:
    """Count the items, and the files beside them that are not read."""
    opt, count, sides = examined.opt, examined.count, examined.sides
    folders = sorted({os.path.dirname(path) for item in examined.items for path in item.paths})  # noqa: PTH120
    parts = [f"{n} {'pairs' if len(s) == 2 else f'images {s[0]}'.strip()}" for s, n in sorted(sides.items())]
    text = f"{', '.join(parts) or f'{count} items'} in {list_names(folders) or opt.dataroot}"
    if not opt.isTrain and count > opt.num_test:
        text += f"; the first {opt.num_test} are translated (--num_test inf: all)"
    elif len(sides) > 1:
        text += f"; an epoch has {count}"
    yield Finding("ok", "data", text)
    kinds = Counter()
    for folder in folders[:1000]:
        with contextlib.suppress(OSError):
            suffixes = (Path(entry.name).suffix.lower() for entry in os.scandir(folder))
            kinds.update(suffix for suffix in suffixes if suffix in NOT_READ and not is_image_file(suffix))
    if kinds:
        text = f"not read: {', '.join(f'{count} {suffix}' for suffix, count in kinds.most_common())}"
        yield Finding("warn", "data", text, "convert them, to png for example")


def check_files(examined: Examination) -> Iterator[Finding]:
    """Read the files' headers: formats, depths, rotations."""
    paths = [path for item in examined.items for path in item.paths]
    found = map_in_time(read_header, paths, "headers")
    headers = examined.headers = {path: header for path, header in found.items() if header}
    halves = 2 if examined.side_by_side else 1
    examined.sizes = {path: (header.width // halves, header.height) for path, header in headers.items()}
    formats, modes = (Counter(getattr(h, field) for h in headers.values()) for field in ("format", "mode"))
    kinds = "; ".join(", ".join(f"{n} {name}" for name, n in each.most_common()) for each in (formats, modes))
    text = f"{of_all(len(found), len(paths), 'files')}: {kinds or 'no image among them'}"
    yield Finding("ok", "files", text)
    depth = "nothing if 8 are enough, else a custom dataset (data/template_dataset.py)"
    turn = "mogrify -auto-orient FILES (ImageMagick) turns the pixels"
    for text, is_one, fix in (
        ("more than 8 bits; 8 are read", lambda h: h.mode in pillow.DEEP_MODES, depth),
        ("a note to be rotated (EXIF), which is ignored", lambda h: h.turned, turn),
        ("several frames or pages; the first is read", lambda h: h.frames > 1, "store each frame as a file"),
    ):
        these = [path for path, header in headers.items() if is_one(header)]
        if these:
            yield Finding("warn", "files", f"{len(these)} with {text} ({list_names(these)})", fix)


def check_copies(examined: Examination) -> Iterator[Finding]:
    """Find files of equal bytes: twice in the data, in A and in B, in training and in test data."""
    own = set(examined.items)
    others = {phase: items_of_phase(examined.opt, phase) - own for phase in other_phases(examined)}
    others = {phase: items for phase, items in others.items() if items}
    groups = equal_items([*dict.fromkeys(examined.items), *(item for items in others.values() for item in items)])
    doubled = [sorted(own & group) for group in groups if len(own & group) > 1]
    within = [items for items in doubled if len({item.sides for item in items}) == 1]
    across = [items for items in doubled if len({item.sides for item in items}) > 1]
    if within:
        names = list_names(item.paths[0] for item in within[0])
        text = f"{sum(len(items) - 1 for items in within)} too many of equal files ({names})"
        yield Finding("warn", "copies", text, "take them out")
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
            yield Finding("warn", "leak", text, "take them out of one: a test on training images scores too well")


def other_phases(examined: Examination) -> list[str]:
    """Return the phases that should share no image with this one."""
    opt = examined.opt
    others = [phase for phase in ("train", "val", "test") if phase != opt.phase]
    return others if examined.built_in and opt.isTrain else ["train"] * (examined.built_in and opt.phase != "train")


def items_of_phase(opt, phase: str) -> set[Item]:
    """Return the items of another phase of the data; none if it does not exist."""
    changed = with_values(opt, phase=phase, max_dataset_size=math.inf)
    try:
        with quiet():
            return set(items_of(find_dataset_using_name(changed.dataset_mode)(changed)))
    except UserError:
        return set()
