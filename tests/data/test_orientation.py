"""Photos are read upright, in all eight orientations that EXIF knows; runs of earlier versions read them as stored."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import make_image
from data_options import data_options, epochs, to_floats
from experiments import trained_copy
from PIL import Image

import data
from data.formats import pillow
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.errors import UserError
from util.runtime.run_facts import RunFacts, run_facts

# How a camera stores an upright picture (H, W, 3) for each orientation.
STORED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, -1),
}
BEFORE = RunFacts(saved={"exif_orientation": False})


def stored(path, upright, orientation, **options):
    """Write an upright picture (H, W, 3) as a camera with this orientation does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image, exif = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))), Image.Exif()
    exif[pillow.ORIENTATION] = orientation
    tags = {"tiffinfo": {pillow.ORIENTATION: orientation}} if path.suffix == ".tif" else {"exif": exif}
    image.save(path, **tags, **options)
    return path


def picture(side=(30, 40), seed=0):
    return np.random.default_rng(seed).integers(1, 256, (*side, 3), dtype=np.uint8)


@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_of_every_format_is_turned_upright(tmp_path, orientation):
    upright = picture()
    files = {"a.png": {}, "a.webp": {"lossless": True}, "a.tif": {}, "lzw.tif": {"compression": "tiff_lzw"}}
    for name, options in files.items():
        path = stored(tmp_path / name, upright, orientation, **options)
        assert np.array_equal(pillow.load(path), upright), name
        header = pillow.read_header(path)
        assert (header.width, header.height, header.orientation) == (40, 30, orientation), name
    grey = upright[..., :1].astype(np.uint16) * 257
    tags = {"tiffinfo": {pillow.ORIENTATION: orientation}}
    Image.fromarray(np.ascontiguousarray(STORED[orientation](grey)[..., 0])).save(tmp_path / "deep.tif", **tags)
    assert np.array_equal(np.asarray(pillow.load(tmp_path / "deep.tif"))[..., :1], upright[..., :1])
    smooth = np.asarray(Image.open(make_image(tmp_path / "smooth.png")))
    photo = pillow.load(stored(tmp_path / "a.jpg", smooth, orientation, quality=98, subsampling=0))
    assert np.abs(np.asarray(photo).astype(int) - smooth).max() < 12


@pytest.mark.parametrize("fast", [False, True])
def test_crops_of_an_oriented_tiff_show_the_upright_picture(tmp_path, fast):
    upright = picture((90, 33))
    stored(tmp_path / "a.tif", upright, 6)
    opt = data_options(tmp_path, "single", preprocess="crop", crop_size=32, no_flip=True, fast=fast)
    crops = [batch["A"][0] for batch in epochs(opt, 8)]
    windows = to_floats(upright).unfold(1, 32, 1).unfold(2, 32, 1)  # (C, y, x, 32, 32)
    for crop in crops:
        assert (windows - crop[:, None, None]).abs().amax((0, 3, 4)).min() < 1e-6


def test_a_run_of_an_earlier_version_reads_photos_as_stored_and_says_so_once(tmp_path, capsys):
    upright = picture()
    for name in ("a", "b"):
        stored(tmp_path / f"{name}.png", upright, 6)
    opt = data_options(tmp_path, "single", preprocess="none", no_flip=True, serial_batches=True)
    assert all(batch["A"].shape == (1, 3, 30, 40) for batch in epochs(opt))
    opt._facts = BEFORE
    for workers in (0, 1):
        opt.num_threads = workers
        for batch in epochs(opt):
            assert np.array_equal(batch["A"][0], to_floats(np.rot90(upright)))
    said = [line for line in capsys.readouterr().out.splitlines() if "EXIF" in line]
    text = "notes a rotation (EXIF), which is not applied, as when this run was trained: it is read as stored, 30x40."
    assert said == [f"{tmp_path}/a.png {text} (said once)"]


def test_the_orientation_is_saved_with_a_run_and_a_run_without_it_keeps_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(trained_copy("pix2pix", tmp_path))
    saved = tmp_path / "checkpoints/toy/train_opt.json"
    values = json.loads(saved.read_text())
    assert values["facts"]["exif_orientation"] is True
    for facts, expected in ((values.pop("facts"), True), (None, False), ({"exif_orientation": False}, False)):
        saved.write_text(json.dumps(values | ({"facts": facts} if facts else {})))
        resumed = TrainOptions("--dataroot data --name toy --model pix2pix --gpu_ids -1 --continue_train")
        for options in (resumed, TestOptions("--dataroot data --name toy --gpu_ids -1")):
            opt = options.parse(begin=False)
            assert run_facts(opt).saved["exif_orientation"] is expected
            assert data.find_dataset_using_name("aligned")(opt).as_before is not expected
    new = TrainOptions("--dataroot data --name toy --model pix2pix --gpu_ids -1").parse(begin=False)
    assert run_facts(new).saved["exif_orientation"] is True


def test_a_pair_with_the_orientation_on_one_side_is_reported(tmp_path, capsys):
    upright = picture((40, 40))
    for name, orientation in (("trainA/1.png", 6), ("trainB/1.png", 1), ("trainA/2.png", 8), ("trainB/2.png", 8)):
        stored(tmp_path / name, upright, orientation)
    opt = data_options(tmp_path, preprocess="none", no_flip=True)
    for batch in epochs(opt):
        assert np.array_equal(batch["A"], batch["B"])
    text = f"{tmp_path}/trainA/1.png notes a rotation (EXIF) and its partner {tmp_path}/trainB/1.png none"
    assert capsys.readouterr().out.count(text) == 1
    stored(tmp_path / "trainA/1.png", picture((40, 30)), 6)
    Image.fromarray(np.rot90(picture((40, 30)))).save(tmp_path / "trainB/1.png")
    with pytest.raises(UserError, match=r"must have one size: .*A/1.png is 30x40, .*B/1.png is 40x30"):
        epochs(opt)
