"""The loop: frequencies, learning rates, log, checkpoints, and going on where a run stopped."""

from __future__ import annotations

import csv
import errno
import os
import pickle
import re
import shutil

import pytest
import torch
from conftest import make_aligned, make_unaligned
from terminal import equal, weights

import train as program
from models.pix2pix_model import Pix2PixModel
from options.train_options import TrainOptions
from util.checkpoint.checkpointer import Checkpointer
from util.checkpoint.progress import Progress
from util.errors import UserError

TINY = (
    "--netG unet_32 --ngf 2 --ndf 2 --load_size 36 --crop_size 32 --num_threads 0 --display_id -1 --seed 7 "
    "--display_freq 4 --update_html_freq 4"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_aligned(folder / "aligned", count=5)
    make_unaligned(folder / "unaligned", count_A=5, count_B=4)
    return folder


class Train:
    """Type a training command in this process; `stop` raises in the n-th step, as a kill would."""

    def __init__(self, folders, tmp_path, monkeypatch):
        self.folders, self.tmp_path, self.monkeypatch = folders, tmp_path, monkeypatch

    def __call__(self, name, model="pix2pix", more="", stop=None):
        data = self.folders / ("unaligned" if model == "cycle_gan" else "aligned")
        line = f"--dataroot {data} --name {name} --model {model} --checkpoints_dir {self.tmp_path} {TINY} {more}"
        self.monkeypatch.setattr("sys.argv", ["train.py", *line.split()])
        opt = TrainOptions(line).parse()
        with self.monkeypatch.context() as patch:
            if stop:
                seen = []
                original = Progress.advance

                def advance(progress, images, begins):
                    seen.append(images)
                    if len(seen) > stop:
                        raise KeyboardInterrupt
                    original(progress, images, begins)

                patch.setattr(Progress, "advance", advance)
                with pytest.raises(KeyboardInterrupt):
                    program.train(opt)
            else:
                program.train(opt)
        return self.tmp_path / name


@pytest.fixture
def train(folders, tmp_path, monkeypatch):
    return Train(folders, tmp_path, monkeypatch)


def same(a, b):
    """Whether two values of a checkpoint are identical to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def log_lines(folder):
    """Return the loss lines without their times."""
    lines = (folder / "loss_log.txt").read_text().splitlines()
    return [re.sub(r"time: \S+, data: \S+\)", "", line) for line in lines if line.startswith("(")]


def metrics(folder):
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in ("time", "data")} for row in csv.DictReader(file)]


# ---- resuming ----


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("pix2pix", "--batch_size 2 --lr_policy step --lr_decay_iters 1 --gan_mode wgangp"),
        ("template", "--batch_size 3"),
    ],
)
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(train, model, more):
    more += " --n_epochs 2 --n_epochs_decay 1 --print_freq 1 --save_latest_freq 1"
    whole = train("whole", model, more)
    steps = 3 * -(-5 // int(more.split("--batch_size ")[1].split()[0]))
    for stop in range(1, steps):
        train("parts", model, more, stop=stop)
        parts = train(
            "parts", model, more.replace("--save_latest_freq 1", "--save_latest_freq 2") + " --continue_train"
        )
        for path in sorted(whole.glob("latest_*.pth")):
            old, new = (torch.load(f / path.name, weights_only=True) for f in (whole, parts))
            old.pop("networks", None), new.pop("networks", None)
            assert same(old, new), f"{path.name} after a stop at step {stop}"
        assert metrics(parts) == metrics(whole)
        assert (parts / "3_net_G.pth").is_file() or (parts / "3_net_G_A.pth").is_file()
        shutil.rmtree(parts)


def test_going_on_needs_no_epoch_count_and_appends_to_the_log(train):
    more = "--n_epochs 2 --n_epochs_decay 0 --print_freq 5 --save_epoch_freq 1"
    folder = train("x", more=more, stop=7)  # in the second epoch
    train("x", more=more + " --continue_train")
    assert [line.split(",")[0] for line in log_lines(folder)] == ["(epoch: 1", "(epoch: 2"]
    assert (folder / "loss_log.txt").read_text().count("Training Loss") == 2


def test_epochs_that_are_done_are_refused_with_a_command_that_works(train):
    more = "--n_epochs 1 --n_epochs_decay 1"
    train("x", more=more)
    with pytest.raises(
        UserError, match=r"nothing is left to train: epoch 3 .*\n  python train.py .*--continue_train --n_epochs 2$"
    ):
        train("x", more=more + " --continue_train")
    train("x", more=more.replace("--n_epochs 1 ", "--n_epochs 3 ") + " --continue_train")
    assert (train.tmp_path / "x/4_net_G.pth").is_file()


def test_networks_without_state_ask_for_the_epoch_and_then_go_on(train, capsys):
    more = "--n_epochs 2 --n_epochs_decay 2 --save_epoch_freq 2"
    folder = train("x", more=more)
    for path in folder.glob("*_state.pth"):
        path.unlink()  # as the reference project leaves them
    with pytest.raises(UserError, match=r"Add --epoch_count N.*--epoch_count 5"):
        train("x", more=more + " --continue_train")
    train("x", more=more + " --continue_train --epoch_count 3 --epoch 2")
    captured = capsys.readouterr()
    assert "moments" in captured.err
    assert "End of epoch 3 / 4" in captured.out


def test_epoch_count_renumbers_and_keeps_the_moments(train, capsys):
    more = "--n_epochs 2 --n_epochs_decay 2"
    folder = train("x", more=more, stop=None)
    capsys.readouterr()
    train("x", more=more + " --continue_train --epoch_count 4 --print_freq 5")
    assert "learning rate 0.0000667 -> 0.0000000" in capsys.readouterr().out
    state = torch.load(folder / "latest_state.pth", weights_only=True)
    assert state["progress"] == [5, 0, 25]
    assert state["optimizers"][0]["state"][0]["step"] == 25


def test_a_missing_checkpoint_is_refused_and_says_what_is_there(train):
    with pytest.raises(UserError, match=r"latest_net_G.pth does not exist; .*holds no networks"):
        train("x", more="--continue_train")
    train("x", more="--n_epochs 1 --n_epochs_decay 0")
    with pytest.raises(UserError, match=r"7_net_G.pth does not exist; .*1_net_D.pth, 1_net_G.pth"):
        train("x", more="--continue_train --epoch 7 --n_epochs 3")


def test_another_architecture_is_refused_with_the_flags_to_give(train, capsys):
    train("x", more="--n_epochs 1 --n_epochs_decay 0")
    with pytest.raises(SystemExit):
        train("x", more="--continue_train --n_epochs 3 --ngf 4")
    assert "latest_net_G.pth, which was trained with --ngf 2: leave --ngf out" in capsys.readouterr().err


# ---- rates, frequencies, files ----


@pytest.mark.parametrize(
    ("policy", "rates"),
    [
        ("linear --n_epochs 4 --n_epochs_decay 4", [2, 2, 2, 2, 1.6, 1.2, 0.8, 0.4, 0]),
        ("step --lr_decay_iters 2 --n_epochs 4 --n_epochs_decay 1", [2, 2, 0.2, 0.2, 0.02, 0.02]),
        ("cosine --n_epochs 2 --n_epochs_decay 2", [2, 1.7071068, 1, 0.2928932, 0]),
    ],
)
def test_the_learning_rate_follows_its_policy(train, capsys, policy, rates):
    train("x", more=f"--lr_policy {policy} --max_dataset_size 1")
    printed = [
        float(line.split()[2]) for line in capsys.readouterr().out.splitlines() if line.startswith("learning rate")
    ]
    assert printed == pytest.approx([rate * 1e-4 for rate in rates[:-1]], abs=6e-8)
    assert len(printed) == len(rates) - 1


def test_no_batch_size_skips_a_frequency(train):
    folder = train("x", more="--batch_size 3 --n_epochs 4 --n_epochs_decay 0 --print_freq 4")
    # 5 images in steps of 3 and 2, each counted as 3: after 6, 9, 12, ... of 24 images a multiple of 4 was passed
    assert [int(row["total_iters"]) for row in metrics(folder)] == [6, 9, 12, 18, 21, 24]
    progress = Progress()
    passed = []
    for _ in range(100):
        progress.advance(3)
        passed.append(progress.passed(100))
    assert sum(passed) == 3
    assert not Progress(total_iters=5, step=1).passed(0)


def test_the_loss_line_has_the_reference_s_form(train, capsys):
    folder = train("x", more="--n_epochs 1 --n_epochs_decay 0 --print_freq 2")
    pattern = r"\(epoch: \d+, iters: \d+, time: \d+\.\d{3}, data: \d+\.\d{3}\) (\w+: -?\d+\.\d{3} )+"
    lines = [line for line in (folder / "loss_log.txt").read_text().split("\n") if line.startswith("(")]
    assert len(lines) == 2
    assert all(re.fullmatch(pattern, line) for line in lines)
    assert lines[0].split(") ")[1].split()[::2] == ["G_GAN:", "G_L1:", "D_real:", "D_fake:"]
    out = capsys.readouterr().out
    assert set(lines) <= set(out.split("\n"))
    assert "End of epoch 1 / 1 \t Time Taken: " in out
    assert "The number of training images = 5" in out


def test_the_last_epoch_is_always_saved(train):
    folder = train("x", more="--n_epochs 3 --n_epochs_decay 0 --save_epoch_freq 2")
    names = {path.name for path in folder.glob("*.pth")}
    assert names == {f"{p}_{n}.pth" for p in ("latest", "2", "3") for n in ("net_G", "net_D", "state")}
    state = {p: torch.load(folder / f"{p}_state.pth", weights_only=True) for p in ("2", "3")}
    assert state["2"]["slim"]
    assert "optimizers" not in state["2"]
    assert state["2"]["progress"] == [3, 0, 10]
    assert (folder / "3_net_G.pth").samefile(folder / "latest_net_G.pth")


def test_iteration_checkpoints_have_the_reference_s_names(train):
    folder = train("x", more="--n_epochs 2 --n_epochs_decay 0 --save_by_iter --save_latest_freq 4")
    assert {path.name for path in folder.glob("iter_*_net_G.pth")} == {"iter_4_net_G.pth", "iter_8_net_G.pth"}
    train(
        "x", more="--n_epochs 2 --n_epochs_decay 0 --continue_train --load_iter 8 --save_by_iter --save_latest_freq 4"
    )
    assert torch.load(folder / "latest_state.pth", weights_only=True)["progress"] == [3, 0, 10]


def test_a_checkpoint_holds_bare_state_dicts_on_the_cpu(train):
    folder = train("x", "cycle_gan", "--n_epochs 1 --n_epochs_decay 0 --norm none")
    names = {path.name for path in folder.glob("latest_*.pth")}
    assert names == {f"latest_net_{n}.pth" for n in ("G_A", "G_B", "D_A", "D_B")} | {"latest_state.pth"}
    state = torch.load(folder / "latest_net_G_A.pth", weights_only=True)
    assert next(iter(state)) == "model.model.0.weight"
    assert all(value.device.type == "cpu" for value in state.values())
    assert not list(folder.glob("*.new"))


def test_a_damaged_or_replaced_network_is_noticed(train):
    folder = train("x", more="--n_epochs 1 --n_epochs_decay 0")
    path = folder / "latest_net_G.pth"
    content = path.read_bytes()
    path.unlink()  # it is a hard link
    path.write_bytes(content[:-100] + bytes(100))
    with pytest.raises(UserError, match=r"latest_net_G.pth has other content than .*delete .*latest_state.pth"):
        train("x", more="--continue_train --n_epochs 2")
    (folder / "latest_state.pth").unlink()
    for damaged, reason in (
        (content[: len(content) // 2], "damaged, cut short"),
        (b"", "it is empty"),
        (b"<!doctype html><p>404", "a web page"),
        (pickle.dumps({"net": Progress()}, protocol=2), "more than tensors"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"latest_net_G.pth can't be loaded .*{reason}"):
            train("x", more="--continue_train --n_epochs 2 --epoch_count 2")
    torch.save({"state_dict": {}, "step": torch.tensor(3)}, path)
    with pytest.raises(UserError, match=r"holds no state dict .*state_dict, step"):
        train("x", more="--continue_train --n_epochs 2 --epoch_count 2")
    path.unlink()
    with pytest.raises(UserError, match=r"latest_net_G.pth does not exist"):
        train("x", more="--continue_train --n_epochs 2 --epoch_count 2")


def test_starting_over_in_the_folder_of_an_earlier_run_is_said(train, capsys):
    train("x", more="--n_epochs 1 --n_epochs_decay 0")
    assert "earlier run" not in capsys.readouterr().err
    train("x", more="--n_epochs 1 --n_epochs_decay 0")
    assert "has networks of an earlier run, which this run replaces" in capsys.readouterr().err


def full_disk(monkeypatch, failing):
    """Let the n-th saves of the next training fail, for every n in `failing`."""
    original, count = Checkpointer._commit, iter(range(1, 100))

    def commit(*args):
        if next(count) in failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args)

    monkeypatch.setattr(Checkpointer, "_commit", commit)


def test_a_save_that_fails_is_told_and_training_goes_on(train, monkeypatch, capsys):
    whole = weights(train("whole", more="--n_epochs 1 --n_epochs_decay 0 --save_latest_freq 2"))
    full_disk(monkeypatch, {1})  # after 2 images; the saves after 4, and of the epoch, succeed
    folder = train("x", more="--n_epochs 1 --n_epochs_decay 0 --save_latest_freq 2")
    assert "latest can't be saved" in (message := capsys.readouterr().err)
    assert "No space left on device. What was saved before is intact. Training continues" in message
    assert equal(weights(folder), whole)


def test_a_last_save_that_fails_is_an_error_and_the_one_before_stands(train, monkeypatch):
    full_disk(monkeypatch, {2, 3})  # the epoch's end: 1, and latest
    with pytest.raises(UserError, match=r"latest can't be saved in .*No space left.*before is intact"):
        train("x", more="--n_epochs 1 --n_epochs_decay 0 --save_latest_freq 3")
    state = torch.load(train.tmp_path / "x" / "latest_state.pth", weights_only=True)
    assert state["progress"] == [1, 3, 3]


@pytest.mark.parametrize("threads", [0, 2])
def test_an_unreadable_image_stops_training_after_saving_it(train, capsys, threads):
    train.folders = train.tmp_path
    pairs = make_aligned(train.tmp_path / "aligned", phases=("train",), count=6)
    more = f"--n_epochs 2 --n_epochs_decay 0 --num_threads {threads}"
    whole = weights(train("whole", more=more))
    image = pairs / "train" / "03.png"
    content = image.read_bytes()
    image.write_bytes(content[:200])
    with pytest.raises(UserError, match=r"cannot read .*03\.png"):
        train("x", more=more)
    assert "training was saved; fix the data" in capsys.readouterr().err
    image.write_bytes(content)
    folder = train("x", more=more + " --continue_train")
    assert equal(weights(folder), whole)
    assert torch.load(folder / "latest_state.pth", weights_only=True)["progress"] == [3, 0, 12]


def test_a_save_that_was_cut_after_its_commit_is_completed(train, monkeypatch):
    from util.checkpoint import checkpointer

    more = "--n_epochs 1 --n_epochs_decay 0"
    folder = train("x", more=more)
    before = (folder / "latest_net_G.pth").read_bytes()
    original = checkpointer.publish

    def rename(path):
        if path.name != "latest_state.pth":
            raise KeyboardInterrupt
        original(path)

    monkeypatch.setattr(checkpointer, "publish", rename)
    with pytest.raises(KeyboardInterrupt):
        train("x", more="--n_epochs 2 --n_epochs_decay 0 --continue_train")
    monkeypatch.setattr(checkpointer, "publish", original)
    assert (folder / "latest_net_G.pth").read_bytes() == before
    train("x", more="--n_epochs 3 --n_epochs_decay 0 --continue_train")
    assert torch.load(folder / "latest_state.pth", weights_only=True)["progress"] == [4, 0, 15]


def test_plateau_without_a_metric_says_so(train, monkeypatch):
    monkeypatch.setattr("models.BUILT_IN", ())
    with pytest.raises(UserError, match=r"never sets self.metric; choose linear, step or cosine"):
        train("x", more="--lr_policy plateau --n_epochs 2 --n_epochs_decay 0")


def test_plateau_follows_the_metric_that_a_model_sets_and_resumes(train, monkeypatch, capsys):
    class Falling:
        def __get__(self, model, _):
            return 1.0  # never falls

        def __set__(self, model, value):
            pass

    monkeypatch.setattr(Pix2PixModel, "metric", Falling())
    monkeypatch.setattr("models.BUILT_IN", ())
    more = "--lr_policy plateau --max_dataset_size 1 --n_epochs 9 --n_epochs_decay 0 --save_epoch_freq 1"

    def rates():
        return [line.split()[4] for line in capsys.readouterr().out.splitlines() if line.startswith("learning rate")]

    train("whole", more=more)
    whole = rates()
    assert whole == ["0.0002000"] * 6 + ["0.0000400"] * 3
    train("parts", more=more, stop=4)
    parts = rates()
    train("parts", more=more + " --continue_train")
    assert parts + rates() == whole
