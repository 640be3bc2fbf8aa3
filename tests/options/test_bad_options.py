"""Any value of any option: the program runs, or its message names the option."""

from __future__ import annotations

import contextlib
import io
import random
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import make_aligned, make_unaligned, program
from terminal import TINY

import data
from options.parser import size_or_inf
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.errors import explained_errors

SHORT = f"--name exp {TINY} --netG resnet_6blocks --n_epochs 1 --n_epochs_decay 0 --print_freq 1 --display_freq 1"
COMMANDS = {
    "pix2pix": f"--dataroot pairs --model pix2pix {SHORT}",
    "cycle_gan": f"--dataroot two --model cycle_gan {SHORT}",
    "colorization": f"--dataroot pairs --model colorization {SHORT}",
    "template": f"--dataroot pairs --model template --dataset_mode template {SHORT}",
    "test": "--dataroot pairs --name trained --num_test 2 --gpu_ids -1",
    "test one generator": "--dataroot pairs/test --name trained --model test --num_test 2 --gpu_ids -1",
}


class Enough(BaseException):
    """Two steps are done."""


def two_batches(load):
    """Let a loader give two batches and end the program at the third."""

    def batches(loader):
        for number, batch in enumerate(load(loader)):
            if number == 2:
                raise Enough
            yield batch

    return batches


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """`run("test", words)`: the program in this process, for two steps; returns its exit status and its message."""
    folder = tmp_path_factory.mktemp("here")
    train, test = program("train"), program("test")
    make_aligned(folder / "pairs")
    make_unaligned(folder / "two")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.setenv("CUDA_VISIBLE_DEVICES", "")
    patch.setattr(data.CustomDatasetDataLoader, "__iter__", two_batches(data.CustomDatasetDataLoader.__iter__))

    def run(kind: str, words: list[str]) -> SimpleNamespace:
        status, err = 0, io.StringIO()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err), explained_errors():
                if kind.startswith("test"):
                    test.translate(TestOptions(words).parse())
                else:
                    train.train(TrainOptions(words).parse())
        except Enough:
            pass
        except SystemExit as end:
            status = 1 if isinstance(end.code, str) else end.code
            err.write(end.code if isinstance(end.code, str) else "")
        finally:
            torch.use_deterministic_algorithms(False)
            for left in ("checkpoints/exp", "exp", "results", "out"):
                shutil.rmtree(left, ignore_errors=True)
        return SimpleNamespace(status=status, message=err.getvalue().rpartition("error: ")[2])

    done = run("pix2pix", [*COMMANDS["pix2pix"].split(), "--name", "trained", "--max_dataset_size", "2"])
    assert done.status == 0, done.message
    yield run
    patch.undo()


# ---- sensible and silly values of every option ----

WHOLE = ["0", "1", "2", "5", "-1", str(2**31), str(2**63), "9" * 30, "", "nan", "1.5", "x", "٣", " 4"]
REAL = ["0", "1", "0.5", "2", "-1", "1e-30", "1e30", "nan", "inf", "-inf", "1e999", "", "x", "1,5"]
SIZE = ["1", "3", "inf", "Infinity", "0", "-1", "nan", "1e9", "", "9" * 30]
TEXT = ["", " ", "x", "ünï", "a b", "../out", ".", "-1", "--", "{", "{0}", "{name:{lr}}", "{netG}", "%s%n", "a\nb", "'"]
TEXT += ["n" * 300, "pairs", "two", "trained", "pix2pix", "aligned", "latest", "/dev/null", "\udcff"]
OWN = {  # options for which other values would be slow, or a call to another machine
    "num_threads": ["0", "1", "-1", "65536", str(2**63), "x"],
    "gpu_ids": ["-1", "0", "", "a", "0,0", "1.5", "-1,-1", "9" * 30],
    "display_server": ["http://127.0.0.1", "", "http://[::1", "x y"],
    "display_id": ["-1", "0", "1", "x"],
    "display_port": ["9", "0", "-1", "65536", "x"],
    "checkpoints_dir": ["out", "out/a b", "/dev/null", "/proc/x", "", "n" * 300],
    "results_dir": ["out", "out/a b", "/dev/null", "n" * 300],
    "name": ["exp", "", "exp/a b", "exp/\udcff", "exp/{x}", "n" * 300],
    "n_layers_D": ["1", "2", "5", "0", "-1", "13", str(2**63), "x"],
}


def words_to_type(kind: str) -> list[list[str]]:
    """Return each option of a program with all its values: `--lr=nan`, `--no_flip`."""
    options = (TestOptions if kind.startswith("test") else TrainOptions)(COMMANDS[kind].split())
    options.gather_options()
    words = []
    for action in options.parser._actions:
        option, row = action.option_strings[0], options.parser.row(action)
        values = {int: WHOLE, float: REAL, size_or_inf: SIZE}.get(action.type, TEXT)
        if row and row.values:
            values = [*row.values, "nope", "", str(next(iter(row.values))).upper()]
        if action.nargs != 0:
            words.append([f"{option}={value}" for value in OWN.get(action.dest, values)])
        elif action.dest not in ("help", "use_wandb", "use_tensorboard"):  # start services, or may not be installed
            words.append([option])
    assert len(words) > 40
    return words


@pytest.mark.parametrize("kind", COMMANDS)
def test_any_values_run_two_steps_or_are_refused_by_name(run, kind):
    words, rng = words_to_type(kind), random.Random(kind)
    for _ in range(10):
        typed = [rng.choice(values) for values in rng.choices(words, k=rng.randint(1, 3))]
        done = run(kind, [*shlex.split(COMMANDS[kind]), *typed])
        assert done.status in (0, 1, 2), (typed, done)  # 1: an error that only data and files show
        assert done.status == 0 or done.message, (typed, done)
        assert done.status < 2 or any(word.split("=")[0] in done.message for word in typed), (typed, done)


REFUSED = {
    "pix2pix": """
        --lr=nan --lr=inf --lr=-1 --lr=abc --lr= --init_gain=-0.1 --beta1=1 --lambda_L1=-inf --ema=1 --display_winsize=0
        --display_port=65536 --name= --suffix={ --suffix={0} --suffix={name:999999999} --suffix={name:{batch_size}}
        --suffix={lr!x} --n_epochs=0 --n_epochs=1e3 --n_epochs_decay=-1 --epoch_count=0 --epoch_count=99 --crop_size=0
        --crop_size=1000000000 --load_size=1000000000 --load_size=16 --batch_size=99999999999999999999 --batch_size=-1
        --num_threads=-1 --num_threads=1000000 --max_dataset_size=nan --max_dataset_size=0 --max_dataset_size=1e9
        --seed=x --seed=9999999999999999999999 --gpu_ids=1.5 --ngf=0 --ngf=1000000000 --ndf=0 --n_layers_D=1000
        --input_nc=0 --output_nc=-3 --pool_size=-1 --grad_accum=0 --lr_decay_iters=0 --save_epoch_freq=0 --netG=unet
        --netD= --model=os --model=../x --model= --model=base --dataset_mode=nope --dataset_mode=base
        --init_from=nothing --init_from=pairs --dataroot=-- --unknown=3""",
    "test": """
        --aspect_ratio=nan --aspect_ratio=inf --aspect_ratio=0 --aspect_ratio=-1 --aspect_ratio=1e30 --num_test=0
        --num_test=-1 --num_test=x --crop_size=0 --crop_size=99999 --netG=nope --seed=0.5 --suffix={} --model=nope""",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_each_bad_value_is_refused_by_name_before_anything_is_done(run, kind):
    for word in REFUSED[kind].split():
        done = run(kind, [*COMMANDS[kind].split(), word])
        assert done.status == (1 if word.startswith(("--model", "--dataset_mode")) else 2), (word, done)
        assert word.split("=")[0] in done.message, (word, done)
        assert not Path("checkpoints/exp").exists()
