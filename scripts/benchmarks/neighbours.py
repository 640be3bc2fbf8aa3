"""Neighbours: the part of scripts/benchmark.py that measures training steps beside busy programs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest.mock import patch

import torch

from scripts.benchmarks import steps
from scripts.benchmarks.common import say

SETTINGS = {  # ways to run PyTorch's threads: name -> environment
    "as chosen": {},
    "spinning": {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"},  # what OpenMP's libraries do by themselves
    "asleep at once": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    sum(range(100_000))
"""


def neighbours(args, work: Path) -> Iterator[dict]:
    """Measure training steps beside 0, 1 and 2 busy programs, with PyTorch's threads in several settings."""
    settings = [*SETTINGS][: 2 if args.quick else None]
    for model in args.models or ["pix2pix"]:
        with contextlib.ExitStack() as stack:
            pools = {name: stack.enter_context(process(args, model, name)) for name in settings}
            threads = {name: pool.submit(torch.get_num_threads).result() for name, pool in pools.items()}
            for count in range(2 if args.quick else 3):
                say(f"neighbours: {model}, {count} busy")
                samples = {name: [] for name in settings}
                with busy(count):
                    for _ in range(args.rounds):
                        for name, pool in pools.items():
                            samples[name].append(pool.submit(run, 1 if args.quick else 3).result())
                for name in settings:
                    head = {"model": model, "neighbours": count, "setting": name, "threads": threads[name]}
                    yield {**head, "samples": samples[name]}


def process(args, model: str, setting: str) -> ProcessPoolExecutor:
    """Start a process that trains in a setting, which OpenMP reads at its start."""
    spawn = multiprocessing.get_context("spawn")
    with patch.dict(os.environ, SETTINGS[setting]):
        pool = ProcessPoolExecutor(1, spawn, initializer=prepare, initargs=(args, model))
        pool.submit(os.getpid)  # starts the process
    return pool


def prepare(args, model: str) -> None:
    """Make the model of this process, and its first step."""
    global arm
    arm = steps.prepare(args, {"model": model, "batch_size": 1}, "default")


def run(count: int) -> float:
    """Make steps; return seconds per step."""
    return arm.run(count)


@contextlib.contextmanager
def busy(count: int):
    """Run busy programs beside the body. They also end when this program is killed."""
    programs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()
