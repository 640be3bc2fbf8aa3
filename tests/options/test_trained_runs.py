"""test.py on trained runs: the reference's record of options, directions, crops, and pairs taken for images."""

from __future__ import annotations

import shlex
import shutil

import numpy as np
import pytest
import torch
from conftest import make_aligned, make_image, program
from experiments import trained_copy
from PIL import Image

from models import networks
from options.test_options import TestOptions as TestingOptions
from options.train_options import TrainOptions
from util.checkpoint import sources

TEST_PY = program("test")
TABLE = """----------------- Options ---------------
               batch_size: 1
             dataset_mode: aligned
                direction: BtoA                          \t[default: AtoB]
                init_gain: 0.02
                  isTrain: True                          \t[default: None]
                load_iter: 0                             \t[default: 0]
         max_dataset_size: inf
                    model: pix2pix                       \t[default: cycle_gan]
                    netG: unet_32                        \t[default: unet_256]
                niter_decay: 3
                      ngf: 4                             \t[default: 64]
               no_dropout: True                          \t[default: False]
                     norm: sync_batch
                  verbose: False
                   suffix:
----------------- End -------------------
"""


def test(words):
    TEST_PY.translate(TestingOptions(words).parse())


test.__test__ = False


@pytest.fixture
def reference(away):
    """A folder as the reference project leaves it: a network and a table of options."""
    folder = away / "checkpoints/toy"
    folder.mkdir(parents=True)
    for name, net in (
        ("G", networks.define_G(3, 3, 4, "unet_32", "batch", False)),
        ("D", networks.define_D(6, 64, "basic", norm="batch")),
    ):
        torch.save(net.state_dict(), folder / f"latest_net_{name}.pth")
    (folder / "train_opt.txt").write_text(TABLE)
    return folder


# ---- the reference's options ----


def test_the_reference_s_table_of_options_gives_the_defaults(reference, capsys):
    words = "--dataroot data --name toy --gpu_ids -1"
    opt = TestingOptions(words).parse()
    assert (opt.model, opt.netG, opt.norm, opt.no_dropout) == ("pix2pix", "unet_32", "syncbatch", True)
    assert (opt.direction, opt.dataset_mode, opt.load_size) == ("BtoA", "aligned", 256)
    assert TestingOptions(f"{words} --direction AtoB").parse().direction == "AtoB"
    assert "warning" in capsys.readouterr().err
    opt = TrainOptions(f"{words} --continue_train --epoch_count 2 --n_epochs 5").parse()
    assert (opt.model, opt.direction, opt.no_dropout, opt.n_epochs_decay) == ("pix2pix", "BtoA", True, 3)
    out, err = capsys.readouterr()
    assert "resuming with the options in checkpoints/toy/train_opt.txt" in out
    assert "damaged" not in err


def test_a_run_of_the_reference_is_translated_without_dropout_and_in_its_direction(reference, away, capsys):
    make_aligned(away / "data", ("test",), count=2)
    test("--dataroot data --name toy --gpu_ids -1 --crop_size 32")
    first = {path.name: path.read_bytes() for path in (away / "results/toy/test_latest/images").iterdir()}
    test(
        "--dataroot data --name toy --gpu_ids -1 --crop_size 32 --model pix2pix --direction BtoA --no_dropout --seed 4"
    )
    second = {path.name: path.read_bytes() for path in (away / "results/toy/test_latest/images").iterdir()}
    assert first == second
    shown, pair = (
        Image.open(away / "results/toy/test_latest/images/00_real_A.png"),
        Image.open(away / "data/test/00.png"),
    )
    assert np.abs(np.int16(shown) - np.int16(pair)[:, 32:]).max() <= 1  # 8 bits are truncated


@pytest.mark.parametrize(
    "text",
    [
        TABLE.replace("isTrain: True", "isTrain: False"),
        "",
        "\xff\xfe",
        TABLE.replace("pix2pix", "../x"),
        "x: 1\n" * 300_000,
    ],
    ids=["of test.py", "empty", "no text", "a path", "too long"],
)
def test_a_table_that_is_damaged_or_of_test_py_gives_one_warning(reference, capsys, text):
    (reference / "train_opt.txt").write_bytes(text.encode("latin-1"))
    opt = TestingOptions("--dataroot data --name toy --gpu_ids -1").parse()
    assert (opt.model, opt.direction, opt.netG) == ("test", "AtoB", "unet_32")
    warnings = [line for line in capsys.readouterr().err.splitlines() if "train_opt.txt" in line]
    expected = "warning: checkpoints/toy/train_opt.txt is damaged or not of train.py and not used: type the options"
    assert [line.startswith(expected) for line in warnings] == [True]


def test_json_wins_over_the_table(reference):
    (reference / "train_opt.json").write_text('{"model": "pix2pix", "direction": "AtoB", "no_dropout": false}')
    assert sources.saved_options(reference)["direction"] == "AtoB"


# ---- directions ----


def test_a_direction_that_was_not_trained_is_one_warning(away, capsys):
    trained_copy("pix2pix", away)
    words = "--dataroot data --name toy --gpu_ids -1 --num_test 1"
    test(f"{words} --direction BtoA")
    err = capsys.readouterr().err
    expected = (
        "warning: the network of checkpoints/toy was trained with --direction AtoB: --direction BtoA gives it the "
        "images that it was trained to make; leave --direction out\n"
    )
    assert err.count("warning") == err.count(expected) == 1
    for right in ("", "--direction AtoB"):
        TestingOptions(f"{words} {right}").parse()
    assert "warning" not in capsys.readouterr().err
    TestingOptions(f"{words} --model test --direction BtoA").parse()
    assert "--direction BtoA has no effect; leave --direction out" in capsys.readouterr().err


def test_both_directions_of_a_cyclegan_are_translated_without_a_word(away, capsys):
    trained_copy("cycle_gan", away)
    for model in ("test", "cycle_gan"):
        TestingOptions(f"--dataroot data/testB --name toy --gpu_ids -1 --direction BtoA --model {model}").parse()
    assert capsys.readouterr().err == ""


# ---- crops, and pairs ----


def advice(capsys, words):
    """Translate; return the words of the command that the only warning prints."""
    test(words)
    err = capsys.readouterr().err
    assert err.count("warning: ") == 1
    command = shlex.split(err.partition("type\n  python test.py ")[2].strip())
    return err, command


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("--preprocess scale_width_and_crop", "--preprocess scale_width"),
        ("--preprocess=crop", "--preprocess none"),
        ("--load_size 40", "--load_size 32"),
    ],
)
def test_a_random_crop_is_one_warning_with_the_command_for_whole_images(away, capsys, typed, right):
    trained_copy("pix2pix", away)
    make_image(away / "photos/a b.png", 80, 48)
    words = f"--dataroot photos --name toy --gpu_ids -1 --model test {typed}"
    err, command = advice(capsys, words)
    assert "translates a random piece of each image. For whole images type\n" in err
    image = away / "results/toy/test_latest/images/a b_fake.png"
    assert Image.open(image).size == (32, 32)
    assert shlex.join(command).endswith(right)
    test(command)
    assert "warning" not in capsys.readouterr().err
    expected = {"--preprocess scale_width": (32, 32), "--preprocess none": (80, 48), "--load_size 32": (32, 32)}
    assert Image.open(image).size == expected[right]


def halves(path, seed):
    """Two smooth pictures side by side, which do not continue across the middle."""
    y, x = np.mgrid[:64, :64] / 64
    A = 120 + 100 * np.sin(7 * x + 3 * y + seed)
    B = 120 + 100 * np.cos(5 * y - 4 * x * y + 2 + seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.hstack([A, B]).astype("u1")).convert("RGB").save(path)


def test_splits_of_images_twice_as_wide_as_high_are_pairs_whatever_they_show(away, capsys):
    trained_copy("pix2pix", away)
    make_aligned(away / "even", count=1)  # one smooth picture across both halves
    _, command = advice(capsys, "--dataroot even --name toy --gpu_ids -1 --model test")
    assert command[:6] == ["--dataroot", str(away / "even"), "--phase", "test", "--model", "pix2pix"]
    test(command)
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["pairs", "pairs/test", "pairs/val"])
def test_a_bare_network_on_pairs_is_one_warning_with_the_command_for_pairs(away, capsys, folder):
    trained_copy("pix2pix", away)
    shutil.move(away / "checkpoints/toy", away / "old")
    (away / "checkpoints/toy").mkdir()
    shutil.move(away / "old/latest_net_G.pth", away / "checkpoints/toy")
    for phase in ("train", "test", "val"):
        for i in range(3):
            halves(away / f"pairs/{phase}/{i}.png", i)
    err, command = advice(capsys, f"--dataroot {folder} --name toy --gpu_ids -1 --crop_size 32")
    assert "look like pairs, A and B side by side, and each file is translated as one image" in err
    test(command)
    assert "warning" not in capsys.readouterr().err
    phase = "val" if "val" in folder else "test"
    images = away / f"results/toy/{phase}_latest/images"
    assert {path.name for path in images.glob("0_*_B.png")} == {"0_fake_B.png", "0_real_B.png"}
    shutil.rmtree(away / "pairs")
    y, x = np.mgrid[:64, :128] / 64
    (away / folder).mkdir(parents=True)
    Image.fromarray((120 + 100 * np.sin(7 * x + 3 * y)).astype("u1")).save(away / folder / "wide.png")
    test(f"--dataroot {folder} --name toy --gpu_ids -1 --crop_size 32")
    assert "pairs" not in capsys.readouterr().err
