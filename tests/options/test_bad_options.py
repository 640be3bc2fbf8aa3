"""What users type: accepted, it trains two steps or translates; refused, the message names the flag."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shlex
import shutil
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, make_aligned, make_unaligned
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from terminal import TINY, copy_tree, type_fast

import data
from options.parser import size_or_inf
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.errors import explained_errors

STEPS = 2
SHORT = f"--name exp {TINY} --netG resnet_6blocks --n_epochs 1 --n_epochs_decay 0 --print_freq 1 --display_freq 1"
TRAIN = {
    "pix2pix": f"--dataroot pairs --model pix2pix {SHORT}",
    "cycle_gan": f"--dataroot two --model cycle_gan {SHORT}",
    "colorization": f"--dataroot pairs --model colorization {SHORT}",
    "template": f"--dataroot pairs --model template --dataset_mode template {SHORT}",
}
TEST = {
    "experiment": "--dataroot pairs --name trained --num_test 2 --gpu_ids -1",
    "one generator": "--dataroot pairs/test --name trained --model test --num_test 2 --gpu_ids -1",
}


def script(name: str):
    """Import train.py or test.py as a module (a package of Python's own is called test, too)."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Enough(BaseException):
    """The steps that are to be seen are done."""


class Steps:
    """Let every loader give two batches, and end the program when it asks for a third."""

    def __init__(self):
        self.whole = data.CustomDatasetDataLoader.__iter__

    def __call__(self, loader):
        for batch in self.whole(loader):
            if self.left == 0:
                raise Enough
            self.left -= 1
            yield batch


@pytest.fixture(scope="module")
def type_here(tmp_path_factory):
    """`type_here("train", words)`: run a program in this process, for two steps: its status, and its complaints."""
    folder, steps = tmp_path_factory.mktemp("here"), Steps()
    scripts = {name: script(name) for name in ("train", "test")}
    make_aligned(folder / "pairs")
    make_unaligned(folder / "two")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.setenv("CUDA_VISIBLE_DEVICES", "")
    patch.setattr(data.CustomDatasetDataLoader, "__iter__", lambda loader: steps(loader))

    def run(name: str, words: list[str]) -> SimpleNamespace:
        steps.left, said = STEPS, SimpleNamespace(status=0, out=io.StringIO(), err=io.StringIO())
        try:
            with contextlib.redirect_stdout(said.out), contextlib.redirect_stderr(said.err), explained_errors():
                if name == "train":
                    scripts["train"].train(TrainOptions(words).parse())
                else:
                    scripts["test"].translate(TestOptions(words).parse())
        except Enough:
            pass
        except SystemExit as end:
            said.status = 1 if isinstance(end.code, str) else end.code
            said.err.write(end.code if isinstance(end.code, str) else "")
        finally:
            torch.use_deterministic_algorithms(False)
            for left in ("checkpoints/exp", "exp", "results", "out"):
                shutil.rmtree(left, ignore_errors=True)
        said.err = said.err.getvalue()
        return said

    done = run("train", [*TRAIN["pix2pix"].split(), "--name", "trained", "--max_dataset_size", "2"])
    assert done.status == 0, done.err
    yield run
    patch.undo()


# ---- what may be typed: values of every option that a parser has, sensible and silly ----

WHOLE = [
    "0",
    "1",
    "2",
    "3",
    "5",
    "-1",
    "-7",
    str(2**31),
    str(2**63),
    "9" * 30,
    "",
    "nan",
    "1.5",
    "1e3",
    "x",
    "٣",
    "1_0",
    " 4",
]
REAL = ["0", "1", "0.5", "2", "-1", "1e-30", "1e30", "nan", "inf", "-inf", "1e999", "", "x", "1,5", "٣"]
SIZE = ["1", "3", "inf", "Infinity", "0", "-1", "nan", "1e9", "", "9" * 30]
TEXT = [
    "",
    " ",
    "x",
    "ünï",
    "a b",
    "../out",
    ".",
    "-1",
    "--",
    "{",
    "{0}",
    "{name:{lr}}",
    "{netG}",
    "%s%n",
    "a\nb",
    "'\"",
    "n" * 300,
]
TEXT += ["pairs", "two", "trained", "pix2pix", "aligned", "latest", "/dev/null", "\udcff"]
# Values for which "whatever" would be wrong, slow, or a call to another machine.
OWN = {
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


def values(action, row) -> list[str]:
    """The words that may follow an option."""
    if action.dest in OWN:
        return OWN[action.dest]
    if row and row.values:
        return [*row.values, "nope", "", str(next(iter(row.values))).upper()]
    return {int: WHOLE, float: REAL, size_or_inf: SIZE}.get(action.type, TEXT)


def flags(options, base: str):
    """A strategy for the flags of a parser with their values: `--lr=nan`, `--no_flip`."""
    options = options(base.split())
    options.gather_options()
    actions = [action for action in options.parser._actions if action.dest != "help"]
    assert len(actions) > 40
    with_value = {a.option_strings[0]: values(a, options.parser.row(a)) for a in actions if a.nargs != 0}
    elsewhere = ("--use_wandb", "--use_tensorboard")  # start services, or need what may not be installed
    alone = [a.option_strings[0] for a in actions if a.nargs == 0 and a.option_strings[0] not in elsewhere]
    typed = st.sampled_from(sorted(with_value)).flatmap(
        lambda flag: st.sampled_from(with_value[flag]).map(lambda value: f"{flag}={value}")
    )
    return st.lists(st.one_of(typed, typed, typed, typed, st.sampled_from(alone)), min_size=1, max_size=3)


def check(said: SimpleNamespace, words: list[str]) -> None:
    """Accepted, and it ran; or refused at once, naming a flag; or an error of which only data and files could tell."""
    text = said.err.rpartition("error: ")[2]
    assert said.status in (0, 1, 2), (words, said)
    assert said.status == 0 or text, (words, said)
    assert said.status < 2 or any(word.split("=")[0] in text for word in words), (words, said)


QUICK = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("kind", TRAIN)
def test_whatever_is_typed_trains_two_steps_or_is_refused_by_name(type_here, kind):
    @QUICK
    @given(flags(TrainOptions, TRAIN[kind]))
    def type_and_check(words):
        check(type_here("train", [*shlex.split(TRAIN[kind]), *words]), words)

    type_and_check()


@pytest.mark.parametrize("kind", TEST)
def test_whatever_is_typed_translates_or_is_refused_by_name(type_here, kind):
    @QUICK
    @given(flags(TestOptions, TEST[kind]))
    def type_and_check(words):
        check(type_here("test", [*shlex.split(TEST[kind]), *words]), words)

    type_and_check()


# ---- each bad value, refused before anything is done ----

REFUSED = {
    "train": """
        --lr=nan --lr=inf --lr=-1 --lr=abc --lr= --init_gain=nan --init_gain=-0.1 --init_gain=inf --beta1=nan --beta1=1
        --beta1=-0.1 --lambda_L1=nan --lambda_L1=-inf --ema=1 --ema=nan --ema=-1 --display_winsize=0
        --display_winsize=1.5 --display_port=0 --display_port=65536 --display_port=x --name= --suffix={ --suffix={}
        --suffix={0} --suffix={no} --suffix={name:999999999} --suffix={name:{batch_size}} --suffix={lr!x} --n_epochs=-1
        --n_epochs=0 --n_epochs=1e3 --n_epochs_decay=-1 --epoch_count=0 --epoch_count=99 --crop_size=0 --crop_size=-5
        --crop_size=1000000000 --load_size=0 --load_size=1000000000 --load_size=16 --batch_size=0 --batch_size=-1
        --batch_size=99999999999999999999 --num_threads=-1 --num_threads=1000000 --num_threads=two
        --max_dataset_size=nan --max_dataset_size=0 --max_dataset_size=-inf --max_dataset_size=1e9 --seed=x
        --seed=9999999999999999999999 --gpu_ids=a --gpu_ids=0,1 --gpu_ids=1.5 --ngf=0 --ngf=1000000000 --ndf=0
        --ndf=99999999999 --n_layers_D=0 --n_layers_D=1000 --input_nc=0 --output_nc=-3 --pool_size=-1 --grad_accum=0
        --lr_decay_iters=0 --save_epoch_freq=0 --lr_policy=nope --lr_policy=plateau --netG=unet --netD= --norm=batchnorm
        --init_type=x --gan_mode=LSGAN --direction=AtoA --preprocess=squash --model=os --model=../x --model=
        --model=base --dataset_mode=nope --dataset_mode=base --init_from=nothing --init_from=pairs
        --dataroot=-- --unknown=3""".split(),
    "test": """
        --aspect_ratio=nan --aspect_ratio=inf --aspect_ratio=0 --aspect_ratio=-1 --aspect_ratio=1e-30
        --aspect_ratio=1e30 --num_test=0 --num_test=-1 --num_test=x --num_test=1.5 --load_size=0 --crop_size=0
        --crop_size=99999 --load_size=99999 --netG=nope --norm=nope --direction=up --preprocess=x --gpu_ids=x --seed=0.5
        --display_winsize=-1 --suffix={} --name= --model=nope""".split(),
}  # fmt: skip


@pytest.mark.parametrize(("program", "word"), [(program, word) for program in REFUSED for word in REFUSED[program]])
def test_a_bad_value_is_refused_by_name_before_anything_is_done(type_here, program, word):
    base = TRAIN["pix2pix"] if program == "train" else TEST["experiment"]
    said = type_here(program, [*base.split(), word])
    assert said.status == (1 if word.startswith(("--model", "--dataset_mode")) else 2), said
    assert word.split("=")[0] in said.err.rpartition("error: ")[2]
    assert not os.path.exists("checkpoints/exp")  # noqa: PTH110


def test_bad_values_are_refused_in_a_terminal(tmp_path):
    there = sorted(copy_tree(tmp_path).iterdir())
    for words in ("--lr nan", "--load_size 1000000000", "--suffix {name:999999999}", "--num_threads 1000000"):
        done = type_fast(f"train.py {TRAIN['pix2pix']} {words}", tmp_path)
        assert done.returncode == 2
        assert words.split()[0] in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == there
