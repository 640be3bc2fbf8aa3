"""Every suggestion that a message prints is typed here as it stands, and works."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, make_image, program
from experiments import trained_copy
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
    """Write images, and other files empty; after `=` images are as wide as two."""
    side, *names = (32, *shlex.split(names)) if not names.startswith("=") else (64, *shlex.split(names[1:]))
    for seed, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".py"):
            Path(name).touch()
        else:
            make_image(name, side, 32, seed=seed)


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
    ("", "train.py --dataroot photos", "photos/a.png", ""),
    ("", "train.py --dataroot photo.png", "photo.png", "docs/datasets.md has the layouts"),
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
