"""The files of a dataset: items, headers, equal files. All cores read for a limited time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from data.aligned_dataset import AlignedDataset
from data.formats import pillow
from data.formats.values import Values
from data.image_folder import is_image_file
from data.sides import describe, is_photo
from scripts.checks.report import quiet
from util.errors import UserError
from util.runtime.machine import core_count

MOST_SECONDS = 60  # for headers, for pixels and for copies


class Item(NamedTuple):
    """An image, or a pair in one file or in two."""

    paths: tuple[str, ...]
    sides: tuple[str, ...]  # of its images: ("A", "B"), ("A",), ("B",), or ("",) where there is only one kind


def items_of(dataset) -> list[Item]:
    """Return the items of a dataset as it reads them; of a plug-in's dataset, every list of image files."""
    lists = {
        name.removesuffix("_paths"): list(map(str, value))
        for name, value in vars(dataset).items()
        if isinstance(value, list) and value and isinstance(value[0], (str, Path)) and is_image_file(value[0])
    }
    if isinstance(dataset, AlignedDataset) and "AB" in lists:
        if "B" in lists:
            return [Item((A, B), ("A", "B")) for A, B in zip(lists["AB"], lists["B"], strict=True)]
        return [Item((path,), ("A", "B")) for path in lists["AB"]]
    domains = set(lists) == {"A", "B"}
    return [Item((path,), (name if domains else "",)) for name, paths in lists.items() for path in paths]


def read_header(path: str, as_before: bool = False, photos: bool = True) -> pillow.Header | None:
    """Read a file's header; None if it is no image. (Reading its pixels reports the reason.)"""
    with contextlib.suppress(UserError):
        info = None if photos else describe(path)
        if info and not is_photo(info):
            mode = f"{info.dtype}, {info.channels} channels" if info.channels > 1 else str(info.dtype)
            return pillow.Header(info.width, info.height, mode, info.format, Values("unsigned", 8), 1)
        return pillow.read_header(path, as_before)
    return None


def equal_items(items: list[Item]) -> list[set[Item]]:
    """Group the items whose files have the same bytes, until the time is over. Only files of equal length are read."""
    by_length = defaultdict(list)
    for item in items:
        with contextlib.suppress(OSError):
            by_length[tuple(os.stat(path).st_size for path in item.paths)].append(item)  # noqa: PTH116
    candidates = [item for group in by_length.values() if len(group) > 1 for item in group]
    by_content = defaultdict(set)
    for item, digests in map_in_time(digests_of, candidates, "copies").items():
        by_content[digests or item].add(item)
    return [group for group in by_content.values() if len(group) > 1]


def digests_of(item: Item) -> tuple[bytes, ...] | None:
    """Return the hashes of an item's files, None where they can't be read."""
    try:
        return tuple(hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest() for path in item.paths)
    except OSError:
        return None


def map_in_time(function: Callable, things: list, title: str) -> dict:
    """Apply a function to each thing, on all cores, until the time is over; return the results by thing."""
    results, end, cores = {}, time.monotonic() + MOST_SECONDS, core_count()
    bar = tqdm(total=len(things), desc=title, leave=False, disable=None)
    with bar, ThreadPoolExecutor(cores) as pool, quiet():
        for begin in range(0, len(things), 4 * cores):
            some = things[begin : begin + 4 * cores]
            results.update(zip(some, pool.map(function, some), strict=True))
            bar.update(len(some))
            if time.monotonic() > end:
                break
    return results


def spread(things: list, most: int) -> list:
    """Return up to `most` of the things, evenly spread."""
    return things if len(things) <= most else [things[i * len(things) // most] for i in range(most)]


def of_all(count: int, whole: int, noun: str) -> str:
    """Write a share: `all 30 files`, `7 of 30 files`."""
    return f"all {count} {noun}" if count == whole else f"{count} of {whole} {noun}"


def times(size: tuple[int, int]) -> str:
    """Write a size: `640x480`."""
    return f"{size[0]}x{size[1]}"
