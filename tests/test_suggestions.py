"""Every suggestion that a message prints is typed here as it stands, and works."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, make_image, program
from experiments import trained_copy
from PIL import Image
from terminal import TINY

from options.test_options import TestOptions as TestingOptions
from options.train_options import TrainOptions
from util.errors import UserError

TRAIN = f"{TINY} --netG unet_32 --n_epochs 1 --n_epochs_decay 0 --max_dataset_size 1 --no_html --name new"
TEST = "--gpu_ids -1 --num_test 1 --name toy"


TRAIN_PY, TEST_PY = program("train"), program("test")


def run(command: str) -> None:
    """Run `train.py ...` or `test.py ...` in this process."""
    name, *words = shlex.split(command)
    if name == "train.py":
        TRAIN_PY.train(TrainOptions(words).parse())
    else:
        TEST_PY.translate(TestingOptions(words).parse())


def refusal(command: str, capsys) -> str:
    """Return the message with which a command ends."""
    with pytest.raises((UserError, SystemExit)) as stop:
        run(command)
    return str(stop.value) if stop.type is UserError else capsys.readouterr().err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders with a trained pix2pix and a trained CycleGAN called toy."""
    return {kind: trained_copy(kind, tmp_path_factory.mktemp(kind)) for kind in ("pix2pix", "cycle_gan")}


@pytest.fixture
def here(away):
    """A folder to stand in, with the project's scripts as a clone has them."""
    (away / "datasets").symlink_to(ROOT / "datasets")
    return away


def put(names: str) -> None:
    """Write images, after `=` two side by side in each file; other files are empty."""
    pairs, names = names.startswith("="), shlex.split(names.removeprefix("="))
    for seed, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".py"):
            Path(name).touch()
        else:
            A, B = (np.asarray(Image.open(make_image(name, 32, 32, seed=seed + of))) for of in (50, 0))
            Image.fromarray(np.hstack([A, B]) if pairs else B).save(name)


# ---- data folders ----

COMBINE = "type python datasets/combine_A_and_B.py --fold_A new/before --fold_B new/after --fold_AB new_AB/train"
COMBINE += ", then --dataroot new_AB"
# The words typed, the images that are there (`=`: two images side by side), and what is suggested.
FOLDERS = [
    ("pix2pix", "test.py --dataroot new", "new/testA/a.png", "Type --dataroot new/testA --model test"),
    ("pix2pix", "test.py --dataroot new/testA", "new/testA/a.png", "Type --dataroot new/testA --model test"),
    ("pix2pix", "test.py --dataroot new/testA", "new/testA/a.png new/testB/a.png", "Type --dataroot new"),
    ("pix2pix", "test.py --dataroot new", "new/testA/a.png new/testB/b.png", "Type --dataroot new/testA --model test"),
    ("pix2pix", "test.py --dataroot new", "= new/train/a.png", "Type --dataroot new --phase train"),
    ("pix2pix", "test.py --dataroot new", "= new/a.png", "Type --dataroot new --model test"),
    ("pix2pix", "test.py --dataroot photo.JPG", "photo.JPG",
     "Type mkdir -p photo && cp photo.JPG photo, then --dataroot photo --model test"),
    ("pix2pix", "test.py --dataroot phots", "photos/a.png other/b.png",
     "Did you mean --dataroot photos --model test?"),
    ("pix2pix", "test.py --dataroot 'my photo'", "'my photos/a.png'",
     "Did you mean --dataroot 'my photos' --model test?"),
    ("cycle_gan", "test.py --dataroot new", "new/testA/a.png",
     "Type --dataroot new/testA --model test --direction AtoB"),
    ("cycle_gan", "test.py --dataroot new/testB", "new/testB/a.png",
     "Type --dataroot new/testB --model test --direction BtoA"),
    ("cycle_gan", "test.py --dataroot new", "= new/test/a.png", "Type --dataroot new --dataset_mode aligned"),
    ("cycle_gan", "test.py --dataroot photos", "photos/a.png",
     "Type --dataroot photos --model test --direction AtoB"),
    ("cycle_gan", "test.py --dataset_mode unaligned --dataroot photos", "photos/a.png",
     "Type --dataroot photos --model test --dataset_mode single --direction AtoB"),
    ("cycle_gan", "test.py --model test --dataroot photo.JPG", "photo.JPG photo/b.png",
     "Type mkdir -p photo_images && cp photo.JPG photo_images, then --dataroot photo_images"),
    ("", "train.py --dataroot new", "= new/train/a.png", "Type --dataroot new --model pix2pix"),
    ("", "train.py --dataset_mode unaligned --dataroot new", "= new/train/a.png",
     "Type --dataroot new --dataset_mode aligned"),
    ("", "train.py --model pix2pix --dataroot new/train", "= new/train/a.png", "Type --dataroot new"),
    ("", "train.py --model pix2pix --dataroot new", "= new/a.png", "Type --dataroot . --phase new"),
    ("", "train.py --model pix2pix --dataroot new", "new/trainA/a.png new/trainB/b.png",
     "Type --dataroot new --model cycle_gan"),
    ("", "train.py --model pix2pix --dataroot new", "= new/maps/train/a.png", "Type --dataroot new/maps"),
    ("", "train.py --model pix2pix --dataroot nwe", "= new/train/a.png", "Did you mean --dataroot new?"),
    ("", "train.py --model pix2pix --dataroot new", "new/before/a.png new/after/a.jpg", COMBINE),
    ("", "train.py --dataroot new", "new/before/a.png new/after/a.jpg", f"{COMBINE} --model pix2pix"),
    ("", "train.py --model cycle_gan --dataroot new", "new/summer/a.png new/winter/b.jpg",
     "type ln -s summer new/trainA && ln -s winter new/trainB, then the same command again"),
    ("", "train.py --dataroot photos", "options/parser.py", ""),
    ("", "train.py --dataroot photos", "photos/a.png", "docs/datasets.md has the layouts of data folders"),
    ("", "train.py --dataroot photo.png", "photo.png", "docs/datasets.md has the layouts of data folders"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "command", "files", "suggested"), FOLDERS)
def test_words_to_type_for_a_data_folder_work(here, trained, capsys, kind, command, files, suggested):
    put(files)
    if kind:
        (here / "checkpoints").symlink_to(trained[kind] / "checkpoints")
    command += f" {TRAIN if command.startswith('train') else TEST}"
    message = refusal(command, capsys)
    assert message.endswith(suggested), message
    words = re.search(r"(?:Type|type|Did you mean) (.*)", message)
    assert bool(words) == bool(re.search("[Tt]ype |mean", suggested))
    if words:
        type_suggestion(command, words[1].rstrip("?"))


def type_suggestion(command: str, words: str) -> None:
    """Add suggested words to a command, after the commands that the suggestion begins with, and run it."""
    *before, words = words.removesuffix(", then the same command again").split(", then ")
    if before or not words.startswith("--"):
        bash = f'python() {{ {shlex.quote(sys.executable)} "$@"; }}; {before[0] if before else words}'
        subprocess.run(["bash", "-ec", bash], check=True, capture_output=True)
    run(f"{command} {words}" if words.startswith("--") else command)


# ---- the end of a training ----


@pytest.mark.parametrize(
    ("phases", "more"), [("train", ""), ("train val", "--val_freq 1 --best_metric psnr"), ("train test", "")]
)
def test_the_command_after_a_training_works(here, capsys, phases, more):
    put("= " + " ".join(f"'my data/{phase}/{name}.png'" for phase in phases.split() for name in "ab"))
    run(f"train.py --dataroot 'my data' --model pix2pix {TRAIN} --name 'my run' --checkpoints_dir 'my runs' {more}")
    command = re.search(r"^next: python (.*)$", capsys.readouterr().out, re.MULTILINE)[1]
    assert ("--phase" in command, "--epoch best" in command) == ("test" not in phases, bool(more))
    run(command)
    assert list(here.glob("results/my run/*/images/a_fake_B.png"))


# ---- other messages ----

# The words typed, the images that are there, and what is suggested: each `--option value` is added and run.
MESSAGES = [
    ("", "train.py --dataroot d --model pix2pix --load_size 32 --crop_size 64", "= d/train/a.png",
     "Type (--load_size 64) or (--crop_size 32)"),
    ("", "train.py --dataroot d --model pix2pix --preprocess crop --load_size 64 --crop_size 64", "= d/train/a.png",
     "Type (--preprocess resize_and_crop), or (--crop_size 32) or less"),
    ("", "train.py --dataroot d --model pix2pix --dataset_mode single", "= d/train/a.png",
     "type (--dataset_mode aligned) for pairs"),
    ("pix2pix", "test.py --dataroot d --dataset_mode single", "d/a.png", "type (--model test)"),
    ("", "train.py --dataroot d --model pix2pix --best_metric psnr", "= d/train/a.png d/val/a.png",
     "add (--val_freq 1)"),
    ("", "train.py --dataroot d --model test", "d/trainA/a.png d/trainB/b.png",
     "train with --model pix2pix or cycle_gan, or type test.py"),
    ("", "train.py --dataroot d --model pix2pix --netG unet_23", "= d/train/a.png", "Did you mean '(unet_32)'"),
    ("", "train.py --dataroot d --model pix2pix --epoch_count 9", "= d/train/a.png", "with (--n_epochs 9)"),
    ("pix2pix", "test.py --dataroot d --netG resnet_6blocks", "= d/test/a.png",
     "leave --netG out, or type (--netG unet_256)"),
    ("pix2pix", "test.py --dataroot d --name tyo", "= d/test/a.png", "Did you mean '(toy)'"),
    ("pix2pix", "train.py --dataroot d --model pix2pix --netG unet_256 --init_from tyo", "= d/train/a.png",
     "Did you mean '(toy)'"),
    ("pix2pix", "test.py --dataroot d --model cycle_gan", "d/testA/a.png d/testB/b.png",
     "type (--model test), or"),
    ("cycle_gan", "test.py --dataroot d --model pix2pix", "= d/test/a.png", "or (--model test)"),
    ("pix2pix", "test.py --dataroot d --model test --preprocess crop --crop_size 16", "d/a.png",
     "For whole images type\n  python (test.py .*)"),
    ("pix2pix", "test.py --dataroot d --model test", "= d/a.png d/b.png", "For pairs type\n  python (test.py .*)"),
    ("", "train.py --dataroot d --model colorization --input_nc 3", "d/train/a.png",
     "it needs (--input_nc 1 --output_nc 2 --direction AtoB),"),
    ("", "train.py --dataroot d --model pix2pix --dataset_mode unaligned", "d/trainA/a.png d/trainB/a.png",
     "Type (--model cycle_gan) for images without pairs, or (--dataset_mode aligned) for pairs"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "command", "files", "pattern"), MESSAGES)
def test_words_to_type_in_other_messages_work(here, trained, capsys, kind, command, files, pattern):
    put(files)
    if kind:
        (here / "checkpoints").mkdir()
        (here / "checkpoints/toy").symlink_to(trained[kind] / "checkpoints/toy")
    typed = shlex.split(command)
    defaults = shlex.split(TRAIN if command.startswith("train") else TEST)
    command = shlex.join([typed[0], *defaults, *typed[1:]])
    try:
        run(command)  # some messages are warnings
        error = ""
    except (UserError, SystemExit) as stop:
        error = str(stop)
    message = "".join([*capsys.readouterr(), error])
    found = re.search(pattern, message)
    assert found, message
    for words in found.groups():
        if words.startswith("test.py"):
            run(words)
        elif words.startswith("--"):
            run(f"{command} {words}")
        else:  # a value in place of a mistyped one
            run(command.replace(typed[-1], words))


TYPOS = [("--n_epoch 1", "--n_epochs"), ("--crop_szie 32", "--crop_size"), ("--epochs 1", "--n_epochs")]
TYPOS += [("--n-epochs 1", "--n_epochs"), ("\u2014model pix2pix", "--model"), ("\u2013model pix2pix", "--model")]
TYPOS += [("-gpu_ids -1", "--gpu_ids"), ("--batchsize 1", "--batch_size"), ("--learning_rate 0.1", "--lr")]


@pytest.mark.parametrize(("words", "meant"), TYPOS)
def test_the_option_that_a_mistyped_one_may_mean_is_taken(here, capsys, words, meant):
    message = refusal(f"train.py --dataroot d {words}", capsys)
    near = re.search(r"Did you mean (--\w+)(?: or (--\w+))?\?\n$", message)
    assert meant in near.groups()
    for option in filter(None, near.groups()):
        TrainOptions(f"--dataroot d {option} {words.split()[1]}").parse(begin=False)


@pytest.mark.parametrize("before", ["combine_A_and_B.py --fold_A d/A --fold_B d/B --fold_AB 'd/A B'",
                                    "combine_A_and_B.py --fold_A d/A --fold_B d/B --fold_AB 'd/A B/train'",
                                    "combine_A_and_B.py --fold_A d/A --fold_B d/B --fold_AB d/pairs/more",
                                    "split_dataset.py d 'a b' --test 0.5"])  # fmt: skip
def test_the_command_that_a_dataset_script_prints_last_works(here, before):
    split = "train/" if before.endswith("A B'") else ""
    put(" ".join(f"d/{side}/{split}{name}.png" for side in "AB" for name in "abc"))
    name, *words = shlex.split(before)
    done = subprocess.run(
        [sys.executable, ROOT / "datasets" / name, *words], capture_output=True, text=True, check=True
    )
    run(re.search("^next: python (.*)$", done.stdout, re.MULTILINE)[1] + f" {TRAIN}")
