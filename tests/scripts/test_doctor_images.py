"""The doctor on images of unusual values: it says what they look like, and never advises deleting a whole side."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_image
from PIL import Image

from data.base_dataset import BaseDataset
from data.image_folder import make_dataset
from options.train_options import TrainOptions
from scripts import doctor
from scripts.checks.networks import Case
from scripts.checks.report import Report

TINY = "--netG unet_32 --ngf 8 --ndf 8 --load_size 36 --crop_size 32 --gpu_ids -1"
RAMP = np.tile(np.arange(64) / 63, (64, 1))


@pytest.fixture
def examine(tmp_path, capsys):
    """Return the lines of the doctor's checks of the data in tmp_path."""

    def examine(options="--model pix2pix"):
        case, report = Case(TrainOptions(f"--dataroot {tmp_path} {options} {TINY}").parse(begin=False)), Report()
        capsys.readouterr()
        report.show(doctor.check_data(case))
        return capsys.readouterr().out.splitlines()

    return examine


def two_folders(root, make_B, count=3):
    for i in range(count):
        make_image(root / f"trainA/{i}.png", 64, 64, seed=i)
        (root / "trainB").mkdir(exist_ok=True)
        make_B(root / "trainB", i)


def classes(top, extra=None):
    """Write masks of class numbers 0 to `top`, and `extra`."""

    def write(folder, i):
        values = np.random.default_rng(i).integers(0, top + 1, (64, 64), dtype=np.uint8)
        if extra is not None:
            values[:9] = extra
        Image.fromarray(values).save(folder / f"{i}.png")

    return write


@pytest.mark.parametrize(
    ("top", "extra", "text"),
    [
        (2, None, "all values are 0 to 2 of 0 to 255, like class numbers"),
        (33, 255, "all values are 0 to 33 and 255 of 0 to 255, like class numbers"),
    ],
)
def test_masks_of_class_numbers_are_named_as_such(examine, tmp_path, top, extra, text):
    two_folders(tmp_path, classes(top, extra))
    lines = examine()
    (line,) = [line for line in lines if "class numbers" in line]
    advice = f"--labels B={top + 1}"
    assert line == (
        f"warn  values      images B: {text}; a network sees one dark grey: {advice} gives each class a channel"
    )
    assert not any("take" in line for line in lines)
    assert not any(line.startswith("FAIL") or "class numbers" in line for line in examine(f"--model pix2pix {advice}"))


def test_a_side_of_single_colours_is_not_to_be_deleted(examine, tmp_path):
    two_folders(tmp_path, lambda folder, i: Image.new("L", (64, 64), 100 + i).save(folder / f"{i}.png"))
    (line,) = [line for line in examine() if "single colour" in line]
    assert line.startswith("warn  flat        images B: all 3 images of a single colour (")
    assert line.endswith("): make sure that they were written as meant")
    for i in range(3):
        Image.new("L", (64, 64), 100).save(tmp_path / f"trainB/{i}.png")
        Image.new("L", (64, 64), 100).save(tmp_path / f"trainA/{i}.png")
    assert not any("take" in line for line in examine("--model cycle_gan"))


def test_values_that_training_refuses_fail_with_those_of_the_whole_folder(examine, tmp_path):
    def deep(top):
        return lambda folder, i: Image.fromarray((RAMP * top).astype(np.uint16)).save(folder / f"{i}.png")

    two_folders(tmp_path, deep(4095), 20)
    first, second = (line for line in examine() if line.startswith(("FAIL", "warn")))
    assert first.startswith(f"FAIL  values      {tmp_path}/trainB/0.png: the first 16 files hold uint16 from 0 to 4095")
    assert second == "warn  values      all 20 files hold unsigned values of 16 bits from 0 to 4095"
    deep(65535)(tmp_path / "trainB", 9)
    assert examine()[-1].endswith(
        "from 0 to 65535: the first ones alone are dark: rename a bright one, so that it comes first"
    )
    deep(65535)(tmp_path / "trainB", 0)
    assert not any(line.startswith("FAIL") for line in examine())


def test_what_is_left_out_or_turned_is_counted(examine, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    two_folders(tmp_path, lambda folder, i: make_image(folder / f"{i}.png", 64, 64, seed=9 + i, mode="RGBA"))
    page = Image.open(tmp_path / "trainA/0.png")
    page.save(tmp_path / "trainA/0.tif", save_all=True, append_images=[page])
    (tmp_path / "trainA/0.png").unlink()
    Image.open(tmp_path / "trainA/1.png").save(tmp_path / "trainA/1.png", exif=exif)
    lines = examine()
    A, B = (f"{tmp_path}/train{side}" for side in "AB")
    fix = "make sure that the images of a pair fit each other"
    for line in (
        f"warn  files       3 with transparency (alpha), which is dropped ({B}/0.png, {B}/1.png and 1 more)",
        f"warn  files       1 with further pages or frames; the first one is read ({A}/0.tif)",
        f"ok    files       1 with a rotation (EXIF), which is applied ({A}/1.png)",
        f"warn  pairs       1 pairs with a rotation (EXIF) on one side only ({A}/1.png, {B}/1.png): {fix}",
    ):
        assert line in lines


def test_each_broken_file_has_a_short_line(examine, tmp_path):
    for i in range(9):
        make_image(tmp_path / f"train/{i}.png", 128, 64, seed=i)
        if i < 7:
            (tmp_path / f"train/{i}.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    lines = [line for line in examine() if line.startswith("FAIL")]
    head, *files, rest = lines
    assert head.endswith("all 9 pairs decoded, 7 can't be read: replace them, or take them out")
    for i, line in enumerate(files):
        text = f"cannot read {tmp_path}/train/{i}.png: it is a Git LFS pointer, not an image: type git lfs pull"
        assert line == f"FAIL  pixels      {text}"
    assert (len(files), rest) == (5, "FAIL  pixels      and 2 more")


class FooTwoDataset(BaseDataset):
    """A dataset that reads float TIFFs itself."""

    def __init__(self, opt):
        super().__init__(opt)
        self.A_paths, self.B_paths = (make_dataset(f"{opt.dataroot}/train{side}") for side in "AB")

    def __len__(self):
        return len(self.A_paths)

    def __getitem__(self, index):
        return {}


def test_a_plug_in_dataset_is_described_without_claims_about_its_reader(examine, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "data.foo_two_dataset", SimpleNamespace(FooTwoDataset=FooTwoDataset, __spec__=()))
    for side in "AB":
        (tmp_path / f"train{side}").mkdir()
        for i in range(3):
            Image.fromarray((RAMP * (i + 1)).astype(np.float32)).save(tmp_path / f"train{side}/{i}.tif")
            make_image(tmp_path / f"train{side}/{i}.png", 64, 64, seed=i + 50 * (side == "B"), mode="RGBA")
    lines = examine("--model pix2pix --dataset_mode foo_two")
    assert not any(line.startswith("FAIL") for line in lines)
    assert not any(word in line for line in lines for word in ("8 are read", "dropped", "G_A"))
    (line,) = [line for line in lines if "direction" in line]
    assert line.startswith("ok    direction   the network reads A, trainA/, and draws B, trainB/.")
