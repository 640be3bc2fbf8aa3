"""Loading runs no code: hostile, strange, cut and damaged files give one error that says which and what they are."""

from __future__ import annotations

import json
import os
import sys

import pytest
import torch
from conftest import ROOT
from experiments import trained_copy
from faults import checkpoints, hostile
from faults.checkpoints import NET, STATE, Run, good, judge
from terminal import TINY, type_fast

from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.checkpoint.safe_reader import read
from util.errors import UserError

# ---- files in forked processes, as the fault campaign reads them all ----

TRIALS = {  # with how many of them may load
    "hostile files run nothing and are refused with what they are": (checkpoints.hostile_files(), 1, {0}),
    "hostile files in a training state's place are refused too": (checkpoints.hostile_files(for_state=True), 6, {0}),
    "networks in unusual dress load whole, with a warning if values are not finite": (
        checkpoints.unusual_networks(),
        1,
        {17},
    ),
    "states that make no sense are refused by name, and none breaks training": (checkpoints.strange_states(), 4, None),
    "files cut at any place are refused": (checkpoints.truncations(12), 1, {0}),
    "damaged files give one error or what was saved": (checkpoints.mutants(150, seed=11), 1, range(40)),
}


@pytest.mark.parametrize("title", TRIALS)
def test_files(title):
    trials, step, loaded = TRIALS[title]
    trials = list(trials)[::step]
    report = judge(trials)
    assert report.wrong == []
    assert loaded is None or report.loaded in loaded
    assert len(trials) == 125 or "run nothing" not in title


def test_the_trials_notice_code_that_runs_and_files_that_load(monkeypatch):
    monkeypatch.setattr(
        "util.checkpoint.checkpointer.read", lambda path, peek=False: torch.load(path, weights_only=False)
    )
    titles = ("call os.system", "call builtins.eval", "call shutil.rmtree", "protocol 4")
    wrong = judge([trial for trial in checkpoints.hostile_files() if trial.title in titles]).wrong
    assert len(wrong) == len(titles)
    assert all(f"{title}: executed" in what for title, what in zip(titles, wrong, strict=True))


# ---- reading ----


def test_peeking_reads_no_more_than_it_must(tmp_path):
    weights = {"a": torch.arange(1000.0), "deep.weight": torch.arange(5000.0, 7000.0)}
    content = hostile.saved(weights)
    at = content.index(weights["deep.weight"].numpy().tobytes()[:400])
    (tmp_path / NET).write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    assert read(tmp_path / NET, peek=True)["a"][3] == 3


def test_what_is_read_are_plain_dictionaries_lists_and_tensors_without_history(tmp_path):
    weight = torch.nn.Parameter(torch.ones(2))
    net = torch.nn.BatchNorm2d(2)
    value = {"net": net.state_dict(), "w": weight, "again": weight, "n": [1, 2.5, None, "x", True, (1, 2)]}
    torch.save(value, tmp_path / NET)
    found = read(tmp_path / NET)
    assert [type(item) for item in (found, found["net"], found["w"])] == [dict, dict, torch.Tensor]
    assert not found["w"].requires_grad
    assert found["again"] is found["w"]
    assert found["n"] == value["n"]
    assert list(found["net"]) == list(net.state_dict())


@pytest.mark.parametrize("version", ["2.9.1+cu128", "2.10.0"])
def test_a_file_from_elsewhere_costs_a_warning_where_pytorchs_own_safety_has_a_hole(
    tmp_path, monkeypatch, capsys, version
):
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion(version))
    (tmp_path / NET).write_bytes(good()[NET])
    Run(tmp_path, "net").load()
    foreign = "load only files that you trust" in capsys.readouterr().err
    assert foreign == version.startswith("2.9")
    (tmp_path / STATE).write_bytes(good()[STATE])
    Run(tmp_path).load()
    assert "trust" not in capsys.readouterr().err


# ---- through the command line ----


def error_of(done, path) -> str:
    """Check that a command ended with one error that names its file; return it."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == done.stderr.splitlines()[-1:]
    assert path in done.stderr
    return done.stderr


def test_the_commands_refuse_a_hostile_file_and_a_strange_state_in_one_line(tmp_path):
    folder = trained_copy("pix2pix", tmp_path) / "checkpoints"
    state = torch.load(folder / "toy" / STATE, weights_only=True)
    (folder / "toy" / STATE).unlink()  # a hard link
    torch.save({**state, "optimizers": [{"state": {0: {}}}] * 2}, folder / "toy" / STATE)
    words = f"--dataroot {tmp_path}/data --checkpoints_dir {folder}"
    done = type_fast(f"train.py {words} --name toy --continue_train --n_epochs 2 {TINY}", ROOT)
    assert "optimizers" in error_of(done, f"toy/{STATE}")
    (folder / "bad").mkdir()
    (folder / "bad" / NET).write_bytes(hostile.archive(hostile.in_dict(hostile.call("os.system", "x"))))
    done = type_fast(f"test.py {words} --name bad --model test --dataset_mode single --gpu_ids -1", ROOT)
    assert "more than tensors and plain values (os.system at" in error_of(done, f"checkpoints/bad/{NET}")


# ---- saved options ----

OPTIONS = [  # None: a pipe, which must not be waited for
    None,
    "",
    "[" * 100_000,
    '{"model": "pix2pix"',
    '{"model": ["pix2pix"]}',
    '{"model": "../../evil"}',
    '{"model": "pix2pix", "dataset_mode": 7}',
    "\xff\xfe",
]
VALUES = [[1], {"a": 1}, "sixty-four", "", True, 1.5, float("nan"), -1]
FLAGS = ["ngf", "netG", "no_dropout", "preprocess"]


def parse(options, folder, text):
    """Parse a command of an experiment whose saved options are `text`; return the error that users see, if any."""
    (folder / "x").mkdir(parents=True, exist_ok=True)
    path = folder / "x/train_opt.json"
    path.unlink(missing_ok=True)
    os.mkfifo(path) if text is None else path.write_bytes(text.encode("latin-1"))
    more = "--continue_train" if options is TrainOptions else ""
    modules = set(sys.modules)
    said = None
    try:
        options(f"--dataroot . --name x --checkpoints_dir {folder} --gpu_ids -1 {more}").parse()
    except (UserError, SystemExit) as error:
        said = str(error)
    assert all(name.startswith(("models.", "data.")) for name in set(sys.modules) - modules)
    return said


@pytest.mark.parametrize("options", [TestOptions, TrainOptions])
def test_damaged_saved_options_are_not_used_and_that_is_told(tmp_path, capsys, options):
    for text in OPTIONS:
        assert parse(options, tmp_path, text) is None
        assert "train_opt.json is damaged and not used" in capsys.readouterr().err


@pytest.mark.parametrize("options", [TestOptions, TrainOptions])
def test_saved_values_of_any_type_give_no_traceback(tmp_path, capsys, options):
    for name in FLAGS:
        for value in VALUES:
            parse(options, tmp_path, json.dumps({"model": "pix2pix", name: value}))
    capsys.readouterr()
    assert parse(options, tmp_path, '{"model": "pix2pix", "ngf": "64", "netG": 5}') is None
    told = capsys.readouterr().err.splitlines()
    assert sorted(told) == [
        "warning: saved options: netG can't be 5; the default 'unet_256' is used",
        "warning: saved options: ngf can't be '64'; the default 64 is used",
    ]


@pytest.mark.parametrize("model", ["os", "evil", "networks"])
def test_saved_models_come_from_the_models_folder_alone(tmp_path, monkeypatch, model):
    (tmp_path / "evil_model.py").write_text("raise SystemExit('imported')")
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    said = parse(TestOptions, tmp_path, json.dumps({"model": model}))
    assert "--model" in said
