"""The training loop: frequencies, learning rates, log, checkpoints, and resuming."""

from __future__ import annotations

import csv
import errno
import os
from contextlib import nullcontext

import pytest
import torch
from conftest import make_aligned, make_unaligned
from terminal import equal, weights

import train as program
from models.pix2pix_model import Pix2PixModel
from options.train_options import TrainOptions
from util.checkpoint import run_folder
from util.checkpoint.checkpointer import Checkpointer
from util.checkpoint.progress import Progress
from util.errors import UserError, explained_errors

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


@pytest.fixture
def train(folders, tmp_path, monkeypatch):
    """`train("x", ...)`: train in this process; return the folder x. `stop=n` ends it in the n-th step, as Ctrl-C."""

    def run(name, model="pix2pix", more="", data=folders, stop=0):
        data /= "unaligned" if model == "cycle_gan" else "aligned"
        line = f"--dataroot {data} --name {name} --model {model} --checkpoints_dir {tmp_path} {TINY} {more}"
        monkeypatch.setattr("sys.argv", ["train.py", *line.split()])
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) if stop else nullcontext():
            steps = iter(range(1, 1000))
            step = Pix2PixModel.optimize_parameters
            patch.setattr(Pix2PixModel, "optimize_parameters", lambda self: stopped(next(steps) == stop) or step(self))
            program.train(TrainOptions(line).parse())
        return tmp_path / name

    def stopped(now):
        if now:
            raise KeyboardInterrupt

    return run


# ---- resuming ----


def test_epochs_that_are_done_are_refused_with_a_command_that_works(train, tmp_path):
    more = "--n_epochs 1 --n_epochs_decay 1"
    train("x", more=more)
    with pytest.raises(UserError, match=r"nothing is left to train: epoch 3 .* the same command with --n_epochs 2$"):
        train("x", more=more + " --continue_train")
    train("x", more=more.replace("--n_epochs 1 ", "--n_epochs 3 ") + " --continue_train")
    assert (tmp_path / "x/4_net_G.pth").is_file()


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
    folder = train("x", more=more)
    capsys.readouterr()
    train("x", more=more + " --continue_train --epoch_count 4 --print_freq 5")
    assert "learning rate 0.0000667 -> 0.0000000" in capsys.readouterr().out
    state = torch.load(folder / "latest_state.pth", weights_only=True)
    assert state["progress"] == [5, 0, 25]
    assert state["optimizers"][0]["state"][0]["step"] == 25


def test_a_missing_checkpoint_is_refused_and_says_what_is_there(train, tmp_path):
    with pytest.raises(UserError, match=r"there is no folder .*x\. .* where there is nothing to resume: .* auto$"):
        train("x", more="--continue_train")
    assert list(tmp_path.iterdir()) == []
    train("x", more="--n_epochs 1 --n_epochs_decay 0")
    with pytest.raises(UserError, match=r"7_net_G.pth does not exist; .*1_net_D.pth, 1_net_G.pth"):
        train("x", more="--continue_train --epoch 7 --n_epochs 3")


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
    lines = capsys.readouterr().out.splitlines()
    printed = [float(line.split()[2]) for line in lines if line.startswith("learning rate")]
    assert printed == pytest.approx([rate * 1e-4 for rate in rates[:-1]], abs=6e-8)
    assert len(printed) == len(rates) - 1


def test_no_batch_size_skips_a_frequency(train):
    folder = train("x", more="--batch_size 3 --n_epochs 4 --n_epochs_decay 0 --print_freq 4")
    # 5 images in steps of 3 and 2, each counted as 3: after 6, 9, 12, ... of 24 images a multiple of 4 was passed
    with (folder / "metrics.csv").open() as file:
        assert [int(row["total_iters"]) for row in csv.DictReader(file)] == [3, 6, 9, 12, 18, 21, 24]  # 3: the first
    assert (folder / "loss_log.txt").read_text().count("(epoch: ") == 6
    assert not Progress(total_iters=5, step=1).passed(0)


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
    more = "--n_epochs 2 --n_epochs_decay 0 --save_by_iter --save_latest_freq 4"
    folder = train("x", more=more)
    assert {path.name for path in folder.glob("iter_*_net_G.pth")} == {"iter_4_net_G.pth", "iter_8_net_G.pth"}
    train("x", more=f"{more} --continue_train --load_iter 8")
    assert torch.load(folder / "latest_state.pth", weights_only=True)["progress"] == [3, 0, 10]


def test_a_damaged_or_replaced_network_is_noticed(train):
    folder = train("x", more="--n_epochs 1 --n_epochs_decay 0")
    path = folder / "latest_net_G.pth"
    content = path.read_bytes()
    path.unlink()  # it is a hard link
    path.write_bytes(content[:-100] + bytes(100))
    with pytest.raises(UserError, match=r"latest_net_G.pth has other content than .*delete .*latest_state.pth"):
        train("x", more="--continue_train --n_epochs 2")
    (folder / "latest_state.pth").unlink()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"latest_net_G.pth can't be loaded .*damaged, cut short"):
        train("x", more="--continue_train --n_epochs 2 --epoch_count 2")


ONE_EPOCH = "--n_epochs 1 --n_epochs_decay 0"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_starting_over_moves_the_earlier_run_aside_and_prints_the_command_that_resumes_it(train, tmp_path, capsys):
    runs = [contents(train("x", more=f"{ONE_EPOCH} --seed {seed}")) for seed in (1, 2, 3)]
    assert contents(tmp_path / "x.previous") == runs[1]  # one generation is kept
    assert contents(tmp_path / "x") == runs[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "x.previous"]
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("the earlier run in"))
    assert line.startswith(f"the earlier run in {tmp_path / 'x'} is now {tmp_path / 'x.previous'}. To resume it (if ")
    resumed = TrainOptions(f"{line.partition(' train.py ')[2]} --n_epochs 2").parse()
    assert (resumed.name, resumed.continue_train, resumed.seed, resumed.ngf) == ("x.previous", True, 2, 2)


def test_a_start_over_that_saves_nothing_leaves_the_earlier_run(train, tmp_path, folders, monkeypatch):
    folder = train("x", more=ONE_EPOCH)
    before = contents(folder)
    train("x", more=ONE_EPOCH, stop=1)  # in the first step
    image = make_aligned(tmp_path / "data" / "aligned", phases=("train",), count=1) / "train" / "00.png"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(UserError, match=r"cannot read .*00\.png"):
        train("x", more=ONE_EPOCH, data=tmp_path / "data")
    assert contents(folder) == before
    train("x", more="--n_epochs 1", stop=3)  # after the first step it has moved, and the next start brings it back
    assert not run_folder.has_checkpoint(folder)
    run_folder.settle(folder)
    assert contents(folder) == before
    assert not (tmp_path / "x.previous").exists()


def test_auto_starts_resumes_and_is_content_with_a_finished_run(train, tmp_path, capsys):
    more = "--n_epochs 2 --n_epochs_decay 0 --save_latest_freq 3 --continue_train auto"
    whole = weights(train("whole", more=more))
    train("x", more=more, stop=9)
    train("x", more=more)
    assert equal(weights(tmp_path / "x"), whole)
    with explained_errors():
        train("x", more=f"{more} --init_from whole")
    assert capsys.readouterr().out.splitlines()[-1].startswith("nothing is left to train: epoch 3 ")
    with pytest.raises(SystemExit):
        train("x", more=f"{more} --epoch 1")
    assert "--continue_train auto takes the last checkpoint: leave out --epoch" in capsys.readouterr().err
    (tmp_path / "x" / "latest_state.pth").unlink()
    for path in (tmp_path / "x").glob("latest_net_*"):
        path.unlink()  # killed between the saves of an epoch and of `latest`
    assert (
        TrainOptions(f"--dataroot data --checkpoints_dir {tmp_path} --name x --continue_train auto").parse().epoch
        == "2"
    )


def test_failed_starts_leave_no_folder(train, tmp_path, folders):
    with pytest.raises(UserError, match="is not there"):
        train("x", more=ONE_EPOCH, data=tmp_path / "nothing")
    train("x", more=ONE_EPOCH, stop=1)
    with pytest.raises(SystemExit):
        train("x", more="--n_epochs 0 --n_epochs_decay 0 --epoch_count 2")
    assert list(tmp_path.iterdir()) == []
    train("facades", more=ONE_EPOCH)
    with pytest.raises(UserError, match=r"there is no folder .*facade\. Did you mean 'facades'\?"):
        train("facade", more="--continue_train")
    assert [path.name for path in tmp_path.iterdir()] == ["facades"]


def full_disk(monkeypatch, failing):
    """Let the n-th saves of the next training fail, for every n in `failing`."""
    original, count = Checkpointer._commit, iter(range(1, 100))

    def commit(*args):
        if next(count) in failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args)

    monkeypatch.setattr(Checkpointer, "_commit", commit)


def test_a_save_that_fails_is_printed_and_training_continues(train, monkeypatch, capsys):
    more = "--n_epochs 1 --n_epochs_decay 0 --save_latest_freq 2"
    whole = weights(train("whole", more=more))
    full_disk(monkeypatch, {1})  # after 2 images; the saves after 4, and of the epoch, succeed
    folder = train("x", more=more)
    message = capsys.readouterr().err
    assert "latest can't be saved" in message
    assert "No space left on device. The earlier checkpoint is intact. Training continues" in message
    assert equal(weights(folder), whole)


def test_a_last_save_that_fails_is_an_error_and_the_one_before_stands(train, tmp_path, monkeypatch):
    full_disk(monkeypatch, {2, 3})  # the epoch's end: 1, and latest
    with pytest.raises(UserError, match=r"latest can't be saved in .*No space left.*checkpoint is intact"):
        train("x", more="--n_epochs 1 --n_epochs_decay 0 --save_latest_freq 3")
    state = torch.load(tmp_path / "x" / "latest_state.pth", weights_only=True)
    assert state["progress"] == [1, 3, 3]


def test_an_unreadable_image_stops_training_after_saving_it(train, tmp_path, capsys):
    pairs = make_aligned(tmp_path / "aligned", phases=("train",), count=6)
    more = "--n_epochs 2 --n_epochs_decay 0 --num_threads 2"
    whole = weights(train("whole", more=more, data=tmp_path))
    image = pairs / "train" / "01.png"
    content = image.read_bytes()
    image.write_bytes(content[:200])
    with pytest.raises(UserError, match=r"cannot read .*01\.png"):
        train("x", more=more, data=tmp_path)
    assert "training was saved; fix the data" in capsys.readouterr().err
    image.write_bytes(content)
    folder = train("x", more=more + " --continue_train", data=tmp_path)
    assert equal(weights(folder), whole)
    assert torch.load(folder / "latest_state.pth", weights_only=True)["progress"] == [3, 0, 12]


def test_plateau_without_a_metric_says_so(train, monkeypatch):
    monkeypatch.setattr("models.BUILT_IN", ())
    with pytest.raises(UserError, match=r"never sets self.metric; choose linear, step or cosine"):
        train("x", more="--lr_policy plateau --n_epochs 2 --n_epochs_decay 0")
