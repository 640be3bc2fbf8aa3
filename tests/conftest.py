"""Fixtures and functions for all tests: small images, and a way to type a command."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from file_server import serving
from PIL import Image

from data.formats import notes

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)  # tiny networks; the cores run tests side by side


def make_image(path, width=40, height=32, seed=0, mode="RGB"):
    """Write a smooth random picture, so that JPEG and resizing keep something of it; return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    small.resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(path)
    return path


def make_aligned(folder, phases=("train", "test"), count=4, side=32):
    """Write `count` side-by-side pairs of squares into each phase's folder."""
    for p, phase in enumerate(phases):
        for i in range(count):
            make_image(Path(folder) / phase / f"{i:02d}.png", 2 * side, side, seed=100 * p + i)
    return Path(folder)


def make_unaligned(folder, phases=("train", "test"), count_A=4, count_B=3, side=32):
    """Write the two domains' folders of each phase."""
    for p, phase in enumerate(phases):
        for i in range(count_A):
            make_image(Path(folder) / f"{phase}A" / f"a{i:02d}.png", side, side, seed=100 * p + i)
        for i in range(count_B):
            make_image(Path(folder) / f"{phase}B" / f"b{i:02d}.png", side, side, seed=500 + 100 * p + i)
    return Path(folder)


def names(folder):
    """Return the names of a folder's files."""
    return {path.name for path in Path(folder).iterdir()}


def pixels(path, mode="RGB"):
    """Read a picture as an array (H, W, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert(mode))


def type_command(*words, cwd=ROOT, timeout=300, env=None, status=None):
    """Run `python words...` as a user types it, see that it ends with `status`, and return it with its text."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **(env or {})},
        check=False,
    )
    assert status in (None, done.returncode), done.stderr
    return done


def program(name):
    """Import train.py or test.py as a new module (the standard library has a package test too)."""
    spec = importlib.util.spec_from_file_location(f"program_{name}", ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refused(capsys, parse, line):
    """Return the message of a command line that ends with exit status 2."""
    with pytest.raises(SystemExit) as stop:
        parse(line)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.fixture(autouse=True, scope="session")
def shared_experiments(tmp_path_factory):
    """Give support/experiments.py a folder that all workers of this run see."""
    import experiments

    base = tmp_path_factory.getbasetemp()
    experiments.shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "experiments"
    experiments.shared.mkdir(exist_ok=True)


@pytest.fixture(autouse=True)
def _notices_start_anew(monkeypatch):
    """Let each test see the notices that are printed once."""
    monkeypatch.setattr(notes, "_known", set())


@pytest.fixture
def away(tmp_path, monkeypatch):
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def in_float64():
    """Make new tensors and networks in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def run():
    """`run("train.py", "--dataroot", ...)`: the command as a user types it."""
    return type_command


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine: `server.files["/name"] = Served(...)`, `server.url`."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        yield server
