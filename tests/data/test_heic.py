"""HEIC photos are read where pillow-heif is installed, else it is named; AVIF needs nothing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import ROOT, make_image
from data_options import data_options, epochs, to_floats
from PIL import Image, features
from test_bad_images import HEIC

from data.formats import pillow
from data.image_folder import make_dataset
from util.errors import UserError


def test_without_the_package_a_heic_photo_is_an_error_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(HEIC)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert make_dataset(tmp_path) == [str(tmp_path / "a.heic")]
    with pytest.raises(UserError, match=r"a.heic: a HEIC image needs .* Install it: pip install pillow-heif$"):
        pillow.load(tmp_path / "a.heic")


def test_heic_photos_are_read_upright_and_joined_as_png(tmp_path, run, capsys):
    heif = pytest.importorskip("pillow_heif")
    stored, exif = Image.open(make_image(tmp_path / "A/a.png", 64, 48)), Image.Exif()
    exif[pillow.ORIENTATION] = 6
    exact = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    heif.from_pillow(stored).save(tmp_path / "B.heic", exif=exif.tobytes(), **exact)
    (tmp_path / "A/a.png").unlink()
    for side in "AB":
        (tmp_path / side).mkdir(exist_ok=True)
        (tmp_path / side / "a.heic").write_bytes((tmp_path / "B.heic").read_bytes())
    expected = np.rot90(np.asarray(stored), -1)
    assert np.array_equal(pillow.load(tmp_path / "B.heic"), expected)
    assert pillow.read_header(tmp_path / "B.heic")[:4] == (48, 64, "RGB", "HEIF")
    (batch, *_) = epochs(data_options(tmp_path / "A", "single", preprocess="none", no_flip=True))
    assert np.array_equal(batch["A"][0], to_floats(expected))
    assert "EXIF" not in capsys.readouterr().out
    words = ("--fold_A", "A", "--fold_B", "B", "--fold_AB", "AB", "--no_multiprocessing")
    done = run(ROOT / "datasets/combine_A_and_B.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.asarray(Image.open(tmp_path / "AB/a.png")), np.concatenate([expected, expected], axis=1))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_files_are_found_and_read_and_never_overwrite_a_pair(tmp_path, run):
    image = Image.open(make_image(tmp_path / "a.png", 64, 48))
    (tmp_path / "a.png").unlink()
    image.save(tmp_path / "a.avif", quality=100, subsampling="4:4:4")
    assert make_dataset(tmp_path) == [str(tmp_path / "a.avif")]
    found = np.asarray(pillow.load(tmp_path / "a.avif")).astype(int)
    assert np.abs(found - np.asarray(image)).max() <= 6
    for folder in ("A", "B"):
        (tmp_path / folder).mkdir()
        image.save(tmp_path / folder / "a.png")
    (tmp_path / "a.avif").rename(tmp_path / "A/a.avif")  # both of A have the partner B/a.png
    done = run(ROOT / "datasets/combine_A_and_B.py", "--fold_A", "A", "--fold_B", "B", "--fold_AB", "AB", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "error: two pairs would be written to one file: AB/a.png\n")
