"""Images kept in memory, as bytes, that the processes which load them share (`--cache`)."""

from __future__ import annotations

import math
import mmap
import multiprocessing
import os
import sys

import numpy as np

from util.errors import UserError, format_bytes
from util.runtime.machine import main_memory

SHARE = 0.5  # of the memory that is free when training starts
UNKNOWN = 2**30  # bytes, where the system does not say how much is free

NOT_KEPT, BEING_WRITTEN, KEPT = range(3)


def fork_context():
    """Return the way of starting workers by which they share this memory: fork, on Linux; elsewhere None.

    macOS's frameworks do not survive a fork, and Windows has none: there each worker keeps images of its own.
    """
    return multiprocessing.get_context("fork") if sys.platform == "linux" else None


def create_cache(count: int, bytes_each: int | None, workers: int) -> ImageCache:
    """Make a cache of `count` images, which take `bytes_each` at most (None: it varies), and say what fits.

    torchrun's processes on one machine share the memory out, and so do workers that are not forked.
    """
    _, free = main_memory()
    alone = 1 if fork_context() else max(workers, 1)
    room = int(free * SHARE if free else UNKNOWN) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) // alone
    print(f"--cache: {what_fits(count, bytes_each, room)}{f', in each of {alone} workers' if alone > 1 else ''}")
    try:
        return ImageCache(count, min(room, count * bytes_each) if bytes_each else room)
    except OSError as error:
        raise UserError(
            f"--cache: the system does not give {format_bytes(room)} of memory ({error.strerror})"
        ) from error


def what_fits(count: int, bytes_each: int | None, room: int) -> str:
    """Say how many of `count` images fit into `room` bytes."""
    if not bytes_each:
        return f"room for {format_bytes(room)}, which {count:,} images may fill"
    fitting = min(count, room // bytes_each)
    return f"room for {format_bytes(room)}: {'all' if fitting == count else f'{fitting:,} of'} {count:,} images"


class ImageCache:
    """Up to `room` bytes of images (H, W, C), each written once by whoever reads it first, and never moved.

    The memory is anonymous, so that no container's small /dev/shm limits it, and is taken only as it fills up. It must
    be made before the workers are forked; a copy that is pickled for a worker begins empty.
    """

    def __init__(self, count: int, room: int):
        self.count, self.room = count, room
        self.memory = np.frombuffer(mmap.mmap(-1, max(room, 1)), np.uint8)
        # An image's state, its place in `memory`, its shape, and the (width, height) of its file
        self.table = np.frombuffer(mmap.mmap(-1, count * 7 * 8 or 8), np.int64)[: count * 7].reshape(count, 7)
        self.used = np.frombuffer(mmap.mmap(-1, 8), np.int64)
        self.lock = (fork_context() or multiprocessing).Lock()

    def __reduce__(self):
        return ImageCache, (self.count, self.room)

    def get(self, key: int) -> tuple[np.ndarray, tuple[int, int]] | None:
        """Return image number `key`, not to be written to, and the size of its file; None if it is not kept."""
        with self.lock:  # also orders what processors read: never the table's row before the pixels
            state, begin, *shape, width, height = self.table[key].tolist()
        if state != KEPT:
            return None
        return self.memory[begin : begin + math.prod(shape)].reshape(shape), (width, height)

    def put(self, key: int, pixels: np.ndarray, file_size: tuple[int, int]) -> None:
        """Keep an image, unless another process keeps it already, or it does not fit."""
        with self.lock:
            begin = int(self.used[0])
            if self.table[key, 0] != NOT_KEPT or begin + pixels.size > self.room:
                return
            self.used[0] += pixels.size
            self.table[key, 0] = BEING_WRITTEN
        self.memory[begin : begin + pixels.size] = pixels.reshape(-1)
        with self.lock:
            self.table[key] = (KEPT, begin, *pixels.shape, *file_size)
