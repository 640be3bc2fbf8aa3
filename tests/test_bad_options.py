"""What users type: accepted, it trains two steps or translates; else the message names the flag, and nothing is done."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shlex
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, make_aligned, make_unaligned
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from terminal import TINY

import data
from options.base_options import CHOICES, size_or_inf
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.util import explained_errors

STEPS = 2
SHORT = f"--name exp {TINY} --netG resnet_6blocks --n_epochs 1 --print_freq 1 --display_freq 1 --update_html_freq 1"
TRAIN = {
    "pix2pix": f"--dataroot pairs --model pix2pix {SHORT}",
    "cycle_gan": f"--dataroot two --model cycle_gan {SHORT}",
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
    """`type_here("train", words)`: run the program in this process, for two steps: its status, and what it complained of."""
    folder, steps, scripts = (
        tmp_path_factory.mktemp("here"),
        Steps(),
        {name: script(name) for name in ("train", "test")},
    )
    make_aligned(folder / "pairs")
    make_unaligned(folder / "two")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.setenv("CUDA_VISIBLE_DEVICES", "")
    patch.setenv("WANDB_MODE", "offline")
    patch.setattr(data.CustomDatasetDataLoader, "__iter__", lambda loader: steps(loader))

    def run(name: str, words: list[str]) -> SimpleNamespace:
        steps.left, said = STEPS, SimpleNamespace(status=0, out=io.StringIO(), err=io.StringIO())
        program = (
            (lambda: scripts["train"].train(TrainOptions(words).parse()))
            if name == "train"
            else (lambda: scripts["test"].translate(TestOptions(words).parse()))
        )
        try:
            with contextlib.redirect_stdout(said.out), contextlib.redirect_stderr(said.err), explained_errors():
                program()
        except Enough:
            pass
        except SystemExit as end:
            said.status = 1 if isinstance(end.code, str) else end.code
            said.err.write(end.code if isinstance(end.code, str) else "")
        finally:
            torch.use_deterministic_algorithms(False)
            for left in ("checkpoints/exp", "results", "out"):
                shutil.rmtree(left, ignore_errors=True)
        said.err = said.err.getvalue()
        return said

    done = run(
        "train", [*TRAIN["pix2pix"].split(), "--name", "trained", "--n_epochs_decay", "0", "--max_dataset_size", "2"]
    )
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


def values(action) -> list[str]:
    """The words that may follow an option."""
    if action.dest in OWN:
        return OWN[action.dest]
    if action.dest in CHOICES:
        return [*CHOICES[action.dest], "nope", "", str(next(iter(CHOICES[action.dest]))).upper()]
    return {int: WHOLE, float: REAL, size_or_inf: SIZE}.get(action.type, TEXT)


def flags(options, base: str):
    """A strategy for the flags of a parser with their values: `--lr=nan`, `--no_flip`."""
    options = options(base.split())
    options.gather_options()
    actions = [action for action in options.parser._actions if action.dest != "help"]
    assert len(actions) > 40
    with_value = {a.option_strings[0]: values(a) for a in actions if a.nargs != 0}
    alone = [a.option_strings[0] for a in actions if a.nargs == 0]
    typed = st.sampled_from(sorted(with_value)).flatmap(
        lambda flag: st.sampled_from(with_value[flag]).map(lambda value: f"{flag}={value}")
    )
    return st.lists(st.one_of(typed, typed, typed, typed, st.sampled_from(alone)), min_size=1, max_size=3)


def check(said: SimpleNamespace, words: list[str]) -> None:
    """Accepted, and it ran; or refused, with the name of one of the flags."""
    assert said.status in (0, 1, 2), said
    if said.status:
        text = said.err.rpartition("error: ")[2]
        assert text, said
        assert any(word.split("=")[0] in text for word in words) or said.status == 1, (words, said.err)
        assert len(said.err) < 20_000


QUICK = settings(
    max_examples=int(os.environ.get("HYPO", 60)),
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
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
