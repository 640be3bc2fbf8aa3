"""The scripts that make datasets, as users type them, and the recipes in scripts/."""

from __future__ import annotations

import io
import os
import re
import subprocess

import numpy as np
import pytest
from conftest import ROOT, make_image, pixels
from PIL import Image

from options.test_options import TestOptions
from options.train_options import TrainOptions

COMBINE = ROOT / "datasets/combine_A_and_B.py"
ALIGN = ROOT / "datasets/make_dataset_aligned.py"
CITYSCAPES = ROOT / "datasets/prepare_cityscapes_dataset.py"


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def two_folders(root, names=("train/1.png", "train/2.png", "test/3.png"), names_B=None):
    """Pictures for fold_A and fold_B."""
    for letter, some in (("A", names), ("B", names_B or names)):
        for seed, name in enumerate(some):
            make_image(root / letter / name, seed=seed + 50 * (letter == "B"))
    return root


def jpeg_of(path_A, path_B, **options):
    """The bytes of a JPEG that shows two pictures side by side."""
    with Image.open(path_A) as left, Image.open(path_B) as right, io.BytesIO() as file:
        both = Image.new("RGB", (2 * left.width, left.height))
        both.paste(left, (0, 0))
        both.paste(right, (left.width, 0))
        both.save(file, format="JPEG", **options)
        return file.getvalue()


def combine(run, root, *options, fold_AB="AB", status=0):
    return run(COMBINE, "--fold_A", "A", "--fold_B", "B", "--fold_AB", fold_AB, *options, cwd=root, status=status)


# ---- combine_A_and_B.py ----


@pytest.mark.parametrize("options", [[], ["--no_multiprocessing"]])
def test_pairs_are_joined_with_A_on_the_left_png_without_loss_and_jpeg_of_quality_95(run, tmp_path, options):
    two_folders(tmp_path, ["test/3.png", "train/1.png", "train/2.png", "train/4.jpg"])
    done = combine(run, tmp_path, *options)
    expected = jpeg_of(tmp_path / "A/train/4.jpg", tmp_path / "B/train/4.jpg", quality=95)
    assert (tmp_path / "AB/train/4.jpg").read_bytes() == expected
    assert files(tmp_path / "AB") == ["test/3.png", "train/1.png", "train/2.png", "train/4.jpg"]
    for name in files(tmp_path / "AB")[:3]:
        both = pixels(tmp_path / "AB" / name)
        assert both.shape == (32, 80, 3)
        assert np.array_equal(both[:, :40], pixels(tmp_path / "A" / name))
        assert np.array_equal(both[:, 40:], pixels(tmp_path / "B" / name))
    assert "split train: 3 pairs" in done.stdout
    assert "4 pairs written to AB" in done.stdout


def test_pairs_of_unlike_size_and_broken_files_are_errors(run, tmp_path):
    two_folders(tmp_path)
    make_image(tmp_path / "B/train/1.png", 44, 32)
    (tmp_path / "A/test/3.png").write_bytes((tmp_path / "A/test/3.png").read_bytes()[:300])
    done = combine(run, tmp_path, status=1)
    assert "error: 2 pairs failed" in done.stderr
    assert "must have one size: A/train/1.png is 40x32, B/train/1.png is 44x32." in done.stderr
    assert "cannot read A/test/3.png: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "1 pairs written" in done.stdout
    assert files(tmp_path / "AB") == ["train/2.png"]


def test_other_extensions_pair_by_stem_and_images_without_a_partner_are_listed(run, tmp_path):
    two_folders(
        tmp_path,
        ["train/1.png", "train/2.png", "train/4.png", "train/6.png", "val/5.png"],
        ["train/1.png", "train/2.jpg", "train/6.jpg", "train/6.bmp", "train/7.png"],
    )
    (tmp_path / "A/train/notes.txt").write_text("x")
    (tmp_path / "A/train/.hidden.png").write_text("x")
    done = combine(run, tmp_path)
    assert files(tmp_path / "AB") == ["train/1.png", "train/2.png"]
    assert "2 left out, without one partner in fold_B: 4.png, 6.png\n" in done.stdout
    assert "1 left out, without one partner in fold_A: 7.png\n" in done.stdout
    assert "split val: 0 pairs" in done.stdout
    assert np.array_equal(pixels(tmp_path / "AB/train/2.png")[:, 40:], pixels(tmp_path / "B/train/2.jpg"))


def test_use_AB_pairs_tagged_names_and_num_imgs_takes_the_first_of_each_split(run, tmp_path):
    names = ["train/1_A.png", "train/2_A.png", "train/3_A.png", "train/4.png", "test/9_A.png"]
    two_folders(tmp_path, names, [name.replace("_A", "_B") for name in names])
    combine(run, tmp_path, "--use_AB", "--num_imgs", "2")
    assert files(tmp_path / "AB") == ["test/9.png", "train/1.png", "train/2.png"]
    assert np.array_equal(pixels(tmp_path / "AB/train/1.png")[:, 40:], pixels(tmp_path / "B/train/1_B.png"))
    combine(run, tmp_path, "--num_imgs", "0", status=2)


def test_folders_without_splits_are_one_split_and_the_output_inside_fold_A_is_none(run, tmp_path):
    two_folders(tmp_path, ["1.png", "2.png"])
    for _ in range(2):
        combine(run, tmp_path, fold_AB="A/AB")
    assert files(tmp_path / "A/AB") == ["1.png", "2.png"]


def test_nothing_found_says_what_was_looked_for_and_where(run, tmp_path):
    two_folders(tmp_path, ["train/1.png"], ["train/2.png"])
    done = combine(run, tmp_path, status=1)
    assert "found no pairs: looked for images (.jpg .jpeg .png" in done.stderr
    assert "in A/train and B/train. A holds train/; B holds train/." in done.stderr
    assert not (tmp_path / "AB").exists()
    done = run(COMBINE, "--fold_A", "absent", "--fold_B", "B", "--fold_AB", "AB", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "error: --fold_A absent is no folder\n")


def test_sources_are_never_overwritten(run, tmp_path):
    two_folders(tmp_path, ["train/1.png"])
    before = (tmp_path / "B/train/1.png").read_bytes()
    done = combine(run, tmp_path, fold_AB="B", status=1)
    assert "would overwrite the images themselves: B/train/1.png" in done.stderr
    assert (tmp_path / "B/train/1.png").read_bytes() == before


@pytest.mark.parametrize("script", ["combine", "align"])
def test_values_that_training_refuses_are_refused_before_anything_is_written(run, tmp_path, script):
    make_image(tmp_path / "trainA/1.png", 64, 64)
    (tmp_path / "trainB").mkdir()
    ramp = np.tile(np.arange(64) / 63, (64, 1))
    for kind, factor, found in (
        ("f4", 1, "floats from 0 to 1"),
        ("i4", 99, "signed"),
        ("u2", 4095, "values from 0 to"),
    ):
        Image.fromarray((ramp * factor).astype(kind)).save(tmp_path / "trainB/1.tif")
        folders = ("--fold_A", "trainA", "--fold_B", "trainB", "--fold_AB", "train")
        done = run(*((COMBINE, *folders) if script == "combine" else (ALIGN, "--dataset-path", ".")), cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: trainB/1.tif: 1 of the first 1 images holds {found}")
        assert not (tmp_path / "train").exists()


def test_grey_16_bit_transparent_and_turned_pictures_become_8_bit_rgb(run, tmp_path):
    ramp = (np.arange(40 * 32, dtype=np.uint32).reshape(32, 40) * 51).astype(np.uint16)
    modes = {"grey": "L", "alpha": "RGBA", "palette": "P"}
    for letter in "AB":
        for name, mode in modes.items():
            make_image(tmp_path / letter / f"train/{name}.png", mode=mode)
        Image.fromarray(ramp).save(tmp_path / letter / "train/deep.png")
        upright = Image.open(make_image(tmp_path / "upright.png", 40, 32))
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees to see it upright
        upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / letter / "train/turned.png", exif=exif)
    done = combine(run, tmp_path)
    deep = pixels(tmp_path / "AB/train/deep.png")
    assert np.array_equal(deep[:, 40:, 1], np.round(ramp / 257).astype(int))
    for name in modes:
        both, left = (pixels(tmp_path / f"{folder}/train/{name}.png") for folder in ("AB", "A"))
        assert np.array_equal(both[:, :40], left)
    assert np.array_equal(pixels(tmp_path / "AB/train/turned.png")[:, :40], pixels(tmp_path / "upright.png"))
    said = sorted(line.partition(".png ")[2] for line in done.stdout.splitlines() if "said once" in line)
    assert [text[:27] for text in said] == ["has more than 8 bits (value", "has transparency (alpha), w"]


def test_make_dataset_aligned_reads_pictures_upright_and_reports_a_note_on_one_side(run, tmp_path):
    upright, exif = Image.open(make_image(tmp_path / "upright.png", 40, 32)), Image.Exif()
    exif[0x0112] = 6
    for side in "AB":
        (tmp_path / f"train{side}").mkdir()
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "trainA/1.png", exif=exif)
    upright.save(tmp_path / "trainB/1.png")
    done = run(ALIGN, "--dataset-path", ".", cwd=tmp_path, status=0)
    expected = jpeg_of(tmp_path / "upright.png", tmp_path / "upright.png")
    assert (tmp_path / "train/0000.jpg").read_bytes() == expected
    assert "trainA/1.png notes a rotation (EXIF) and its partner trainB/1.png none" in done.stdout


# ---- make_dataset_aligned.py ----


def test_make_dataset_aligned_joins_the_sorted_pictures_of_both_domains(run, tmp_path):
    for phase in ("train", "test"):
        for i in range(3):
            make_image(tmp_path / f"{phase}A/n{i}.png", seed=i)
            make_image(tmp_path / f"{phase}B/m{i}.jpg", seed=9 + i)
    run(ALIGN, "--dataset-path", tmp_path, status=0)
    for phase in ("train", "test"):
        assert files(tmp_path / phase) == ["0000.jpg", "0001.jpg", "0002.jpg"]
        for i in range(3):
            expected = jpeg_of(tmp_path / f"{phase}A/n{i}.png", tmp_path / f"{phase}B/m{i}.jpg")
            assert (tmp_path / phase / f"000{i}.jpg").read_bytes() == expected


def test_make_dataset_aligned_refuses_unlike_numbers_and_sizes_before_writing(run, tmp_path):
    done = run(ALIGN, "--dataset-path", tmp_path, status=1)
    assert "looked for images in" in done.stderr
    make_image(tmp_path / "trainA/1.png")
    make_image(tmp_path / "trainB/1.png", 44, 32)
    done = run(ALIGN, "--dataset-path", tmp_path, status=1)
    assert re.search(r"trainA/1.png has \(40, 32\) pixels, its partner .*trainB/1.png \(44, 32\)", done.stderr)
    (tmp_path / "trainB/1.png").unlink()
    done = run(ALIGN, "--dataset-path", tmp_path, status=1)
    assert re.search("1 in .*trainA and 0 in .*trainB", done.stderr)
    assert not (tmp_path / "train").exists()
    assert run(ALIGN).returncode == 2


# ---- prepare_cityscapes_dataset.py ----


def cityscapes(root, phase, count):
    for i in range(count):
        name = f"aachen/aachen_{i:06d}_000019"
        make_image(root / f"leftImg8bit/{phase}/{name}_leftImg8bit.png", 64, 32, seed=i)
        make_image(root / f"gtFine/{phase}/{name}_gtFine_color.png", 64, 32, seed=60 + i, mode="RGBA")
        make_image(root / f"gtFine/{phase}/{name}_gtFine_labelIds.png", 64, 32, mode="L")
    return ["--gtFine_dir", root / "gtFine", "--leftImg8bit_dir", root / "leftImg8bit", "--output_dir", root / "out"]


def test_cityscapes_become_pairs_and_domains_of_256_pixels(run, tmp_path):
    cityscapes(tmp_path, "train", 3)
    options = cityscapes(tmp_path, "val", 12)
    done = run(CITYSCAPES, *options, status=0)
    assert len(files(tmp_path / "out")) == 3 * (3 + 12)
    assert files(tmp_path / "out/train") == ["0.jpg", "1.jpg", "2.jpg"]
    assert files(tmp_path / "out/testB")[:3] == ["0_B.jpg", "10_B.jpg", "11_B.jpg"]
    source = tmp_path / "gtFine/val/aachen/aachen_000010_000019_gtFine_color.png"
    label = Image.open(source).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)
    label.save(tmp_path / "expected.jpg", quality=100, subsampling=0)
    assert (tmp_path / "out/testB/10_B.jpg").read_bytes() == (tmp_path / "expected.jpg").read_bytes()
    both = pixels(tmp_path / "out/test/10.jpg")
    assert both.shape == (256, 512, 3)
    for half, name in ((both[:, :256], "testA/10_A.jpg"), (both[:, 256:], "testB/10_B.jpg")):
        assert np.abs(half.astype(int) - pixels(tmp_path / "out" / name)).max() <= 3
    assert "test: 12 pairs\ntrain: 3 pairs" in done.stdout


def test_cityscapes_without_partners_or_in_the_wrong_place_are_errors(run, tmp_path):
    options = cityscapes(tmp_path, "val", 2)
    done = run(CITYSCAPES, *options, status=1)
    assert re.search(r"found neither .*gtFine/train/CITY/\*_color.png", done.stderr)
    cityscapes(tmp_path, "train", 2)
    (tmp_path / "leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png").unlink()
    done = run(CITYSCAPES, *options, status=1)
    assert "train: 1 have a photo or a label only: aachen_000001_000019" in done.stderr
    assert not (tmp_path / "out").exists()


# ---- recipes ----

FACADES = "--dataroot ./datasets/facades --name facades_pix2pix --model pix2pix --netG unet_256 --direction BtoA"
COLOR = "--dataroot ./datasets/colorization --name color_pix2pix --model colorization"
MAPS = "--dataroot ./datasets/maps --name maps_cyclegan --model cycle_gan"
SINGLE = "--dataroot ./datasets/facades/testB/ --name facades_pix2pix --model test --netG unet_256 --direction BtoA"
RECIPES = {
    "train_cyclegan.sh": f"train.py {MAPS} --pool_size 50 --no_dropout",
    "train_pix2pix.sh": f"train.py {FACADES} --lambda_L1 100 --dataset_mode aligned --norm batch --pool_size 0",
    "train_colorization.sh": f"train.py {COLOR}",
    "test_cyclegan.sh": f"test.py {MAPS} --phase test --no_dropout",
    "test_pix2pix.sh": f"test.py {FACADES} --dataset_mode aligned --norm batch",
    "test_single.sh": f"test.py {SINGLE} --dataset_mode single --norm batch",
    "test_colorization.sh": f"test.py {COLOR}",
    "install_deps.sh": "-m pip install -r requirements.txt",
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_types_its_command_with_the_users_options_from_any_folder(away, recipe):
    python = away / "python"
    python.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\nexit 3\n')
    python.chmod(0o755)
    command = ["bash", ROOT / "scripts" / recipe, "--name", "two words"]
    for env in ({"PYTHON": str(python)}, {"PYTHON": "", "PATH": f"{away}{os.pathsep}{os.environ['PATH']}"}):
        done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
        assert done.returncode == 3
        assert done.stdout.splitlines() == [str(ROOT), *RECIPES[recipe].split(), "--name", "two words"]
    program, *words = RECIPES[recipe].split()
    if program != "-m":
        options = {"train.py": TrainOptions, "test.py": TestOptions}[program](words)
        options.check(options.gather_options())


def test_every_citation_has_authors_a_title_a_venue_and_a_year():
    names = sorted(path.stem for path in (ROOT / "datasets/bibtex").glob("*.tex"))
    assert names == ["cityscapes", "facades", "handbags", "shoes", "transattr"]
    for name in names:
        text = (ROOT / f"datasets/bibtex/{name}.tex").read_text()
        assert text.count("{") == text.count("}")
        assert {"author", "title", "year"} <= set(re.findall(r"^ +(\w+) +=", text, re.MULTILINE))
        assert re.search(r"(booktitle|journal) +=", text)
