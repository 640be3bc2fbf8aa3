"""Images kept as bytes in memory that all workers share (`--cache`)."""

from __future__ import annotations

import math
import mmap
import multiprocessing
import os
import sys

import numpy as np

from util.errors import format_bytes
from util.runtime.machine import main_memory

SHARE = 0.5  # of the memory that is free when training starts
UNKNOWN = 2**30  # bytes, where the system does not report its free memory


def fork_context():
    """Return the start method by which workers share this memory: fork on Linux, elsewhere None.

    macOS's frameworks do not survive a fork and Windows has none, so each worker there has its own cache.
    """
    return multiprocessing.get_context("fork") if sys.platform == "linux" else None


def create_cache(count: int, bytes_each: int | None, workers: int) -> ImageCache:
    """Make a cache of `count` images of at most `bytes_each` (None: it varies), and print how many fit.

    The processes of torchrun on one machine divide the free memory, and so do workers that are not forked.
    """
    _, free = main_memory()
    alone = 1 if fork_context() else max(workers, 1)
    room = int(free * SHARE if free else UNKNOWN) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) // alone
    fits = f", which {count:,} images may fill"
    if bytes_each:
        fitting = min(count, room // bytes_each)
        fits = f": {'all' if fitting == count else f'{fitting:,} of'} {count:,} images"
    each = f", in each of {alone} workers" if alone > 1 else ""
    print(f"--cache: room for {format_bytes(room)}{fits}{each}")
    return ImageCache(count, min(room, count * bytes_each) if bytes_each else room)


class ImageCache:
    """Up to `room` bytes of images (H, W, C), each written once by the worker that reads it first.

    The memory is anonymous, so that the small /dev/shm of a container does not limit it, and is taken only as it fills
    up. Make the cache before the workers are forked; a copy that is pickled for a spawned worker starts empty.
    """

    def __init__(self, count: int, room: int):
        self.count, self.room = count, room
        self.memory = np.frombuffer(mmap.mmap(-1, max(room, 1)), np.uint8)
        # Row k: where image k begins in `memory`, its H, W, C (zeros: it is not kept), and the (width, height) of its
        # file. The last row holds the number of bytes used.
        self.table = np.frombuffer(mmap.mmap(-1, (count + 1) * 6 * 8), np.int64).reshape(count + 1, 6)
        self.lock = (fork_context() or multiprocessing).Lock()

    def __reduce__(self):
        return ImageCache, (self.count, self.room)

    @property
    def used(self) -> int:
        """The number of bytes used."""
        return int(self.table[-1, 0])

    def get(self, key: int) -> tuple[np.ndarray, tuple[int, int]] | None:
        """Return image number `key` (read-only) and the size of its file; None if it is not kept."""
        with self.lock:  # also orders what processors read: never the table's row before the pixels
            begin, *shape, width, height = self.table[key].tolist()
        if not any(shape):
            return None
        return self.memory[begin : begin + math.prod(shape)].reshape(shape), (width, height)

    def put(self, key: int, pixels: np.ndarray, file_size: tuple[int, int]) -> None:
        """Keep an image, unless it is kept already or does not fit."""
        with self.lock:
            begin, end = self.used, self.used + pixels.size
            if end <= self.room and not self.table[key].any():
                self.memory[begin:end] = pixels.reshape(-1)
                self.table[key] = (begin, *pixels.shape, *file_size)
                self.table[-1, 0] = end
