"""Files: which are images, how they are read, and what is said where there are none."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import make_image
from data_options import data_options
from PIL import Image

import data
from data.formats import pillow
from data.image_folder import IMG_EXTENSIONS, ImageFolder, default_loader, find_images, is_image_file, make_dataset
from util.errors import UserError


def test_image_files_are_found_by_suffix_in_any_case_and_plug_ins_add_suffixes(monkeypatch):
    for suffix in ("jpg", "jpeg", "png", "ppm", "bmp", "tif", "tiff", "webp"):
        for name in (f"a.{suffix}", f"a.{suffix.upper()}", f"a.b.{suffix.title()}"):
            assert is_image_file(name)
        assert {f".{suffix}", f".{suffix.upper()}"} <= set(IMG_EXTENSIONS)
    for name in ("a.txt", "png", "a.png.txt", "a.raw"):
        assert not is_image_file(name)
    monkeypatch.setattr("data.image_folder.IMG_EXTENSIONS", [*IMG_EXTENSIONS, ".RAW"])
    assert is_image_file("a.raw")


def test_a_folder_is_listed_whole_in_the_order_of_paths_and_then_cut(tmp_path):
    for name in ("b/2.png", "b-1.png", "a/z/1.JPG", "B.png", "b.png", "10.png", "9.Png"):
        make_image(tmp_path / name, 2, 2).exists()
    (tmp_path / "notes.txt").write_text("no image")
    found = [str(Path(path).relative_to(tmp_path)) for path in make_dataset(str(tmp_path))]
    assert found == ["10.png", "9.Png", "B.png", "a/z/1.JPG", "b-1.png", "b.png", "b/2.png"]
    assert make_dataset(tmp_path, 3) == [str(tmp_path / name) for name in found[:3]]
    assert make_dataset(tmp_path, math.inf) == make_dataset(tmp_path, 100) == make_dataset(tmp_path)


def test_links_are_followed_but_not_in_circles_and_what_is_no_file_is_left_out(tmp_path):
    make_image(tmp_path / "x/train/a.png", 2, 2)
    make_image(tmp_path / "elsewhere/b.png", 2, 2)
    top = tmp_path / "x/train"
    (top / "linked").symlink_to(tmp_path / "elsewhere")
    (top / "linked.png").symlink_to(tmp_path / "elsewhere/b.png")
    (top / "here").symlink_to(top)
    (top / "up").symlink_to(tmp_path / "x")
    (top / "self").symlink_to(top / "self")
    (tmp_path / "elsewhere/back").symlink_to(top)
    (top / "broken.png").symlink_to(top / "gone.png")
    (top / "folder.png").mkdir()
    os.mkfifo(top / "pipe.png")
    make_image(top / ".hidden.png", 2, 2)
    make_image(top / ".thumbs/c.png", 2, 2)
    assert make_dataset(top) == [str(top / name) for name in ("a.png", "linked.png", "linked/b.png")]


def test_a_missing_folder_is_an_error_and_an_empty_one_an_empty_list(tmp_path):
    (tmp_path / "empty").mkdir()
    assert make_dataset(tmp_path / "empty") == []
    with pytest.raises(UserError, match=r"emty is not there .* holds: empty/ \(0 images\)\."):
        make_dataset(tmp_path / "emty")
    with pytest.raises(UserError, match=r"empty has no images \(looked for jpg jpeg png .*\). .*empty holds: nothing."):
        find_images(tmp_path / "empty")


def test_the_current_folder_has_a_name_in_messages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"photos is not there .*\)\. The current folder holds: nothing\."):
        make_dataset("photos")


def test_image_folder_gives_images_and_paths(tmp_path):
    path = make_image(tmp_path / "a.png", 5, 4)
    folder = ImageFolder(str(tmp_path), transform=lambda image: image.size, return_paths=True)
    assert (len(folder), folder[0]) == (1, ((5, 4), str(path)))
    assert ImageFolder(str(tmp_path))[0].tobytes() == default_loader(path).tobytes()
    (tmp_path / "none").mkdir()
    with pytest.raises(RuntimeError, match="none has no images"):
        ImageFolder(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "values", "expected", "top"),
    [
        ("a.png", np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16), [0, 0, 1, 1, 128, 255], 65535),
        ("a.tif", np.array([[0, 257, 65535]], ">u2"), [0, 1, 255], 65535),
    ],
)
def test_deep_grey_is_scaled_to_eight_bits_and_a_notice_says_so_once(tmp_path, capsys, name, values, expected, top):
    Image.fromarray(values).save(tmp_path / name)
    for _ in range(2):
        image = pillow.load(tmp_path / name)
        assert image.mode == "RGB"
        assert np.asarray(image).tolist() == [[[v, v, v] for v in expected]]
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert f"has more than 8 bits (values 0 to {values.max():g}): 0..{top} becomes 0..255" in said


def test_looking_for_what_may_be_meant_reads_a_thousand_entries_at_most(tmp_path, monkeypatch):
    for folder in range(30):
        (tmp_path / f"tree/{folder}/deep").mkdir(parents=True)
        for file in range(40):
            (tmp_path / f"tree/{folder}/deep/{file}.txt").touch()
    seen, scandir = [], os.scandir
    monkeypatch.setattr("os.scandir", lambda folder: contextlib.closing(seen.append(e) or e for e in scandir(folder)))
    with pytest.raises(UserError, match=r"tree holds: 0/ \(0 images\)"):
        data.create_dataset(data_options(tmp_path / "tree", "aligned"))
    with pytest.raises(UserError, match="is not there"):
        data.create_dataset(data_options(tmp_path / "tere/maps", "aligned"))
    assert 500 < len(seen) <= 2000


def test_looking_for_what_may_be_meant_takes_a_second_at_most(tmp_path, monkeypatch):
    for number in range(1000):
        (tmp_path / f"{number}").mkdir()
    clock = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: next(clock) / 100)  # 10 ms for each entry
    with pytest.raises(UserError, match="is not there"):
        data.create_dataset(data_options(tmp_path / "maps", "aligned"))
    assert next(clock) < 120
