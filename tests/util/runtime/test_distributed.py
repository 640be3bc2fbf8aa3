"""Several processes (torchrun, gloo) compute what one process computes with their whole batch."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import make_aligned, make_unaligned
from faults import launches, resume
from terminal import table, weights

TINY = [
    *"--netG unet_32 --ngf 2 --ndf 2 --load_size 36 --crop_size 32 --num_threads 0 --display_id -1".split(),
    *"--gpu_ids -1 --n_epochs 1 --n_epochs_decay 1 --norm instance --no_dropout --pool_size 0".split(),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_aligned(folder / "aligned", count=7)
    make_unaligned(folder / "unaligned", count_A=7, count_B=5)
    return folder


def processes(count, folder, *words):
    """Train `folder`/run in float64 on `count` processes and return what they print."""
    statuses = resume.start(" ".join(map(str, words)), folder, count, doubles=True)
    output = (folder / "log.txt").read_text()
    assert statuses == [0] * count, output
    return output


def assert_same_weights(one, two):
    mine, theirs = weights(one), weights(two)
    assert mine.keys() == theirs.keys() > set()
    assert {key for key in mine if (mine[key] - theirs[key]).abs().max() > 1e-9} == set()


@pytest.mark.parametrize("model", ["pix2pix", "cycle_gan"])
def test_two_processes_compute_what_one_does_with_their_whole_batch(data, tmp_path, model):
    """Seven images in steps of 2 x 2 and 4: the last step has two images here and one there."""
    folder = data / ("aligned" if model == "pix2pix" else "unaligned")
    common = ["--dataroot", folder, "--model", model, *TINY, "--print_freq", 4]
    out = processes(2, tmp_path / "two", *common, "--batch_size", 2)
    drawn = json.loads((tmp_path / "two/run/train_opt.json").read_text())["seed"]  # one for both processes
    processes(1, tmp_path / "one", *common, "--batch_size", 4, "--seed", drawn)
    assert_same_weights(tmp_path / "one/run", tmp_path / "two/run")
    for a, b in zip(*(table(tmp_path / f"{n}/run/metrics.csv") for n in ("one", "two")), strict=True):
        figures = [{k: float(v) for k, v in row.items() if k not in ("time", "data")} for row in (a, b)]
        assert figures[0] == pytest.approx(figures[1], rel=1e-6)
    assert out.count("The number of training images = 7") == 1
    assert out.count("End of epoch 1 / 2") == 1
    log = (tmp_path / "two/run/loss_log.txt").read_text()
    assert log.count("Training Loss") == 1
    assert len([line for line in log.splitlines() if line.startswith("(")]) == 4


def test_sync_batch_norm_gives_one_process_s_statistics(data, tmp_path):
    common = ["--dataroot", data / "aligned", "--model", "pix2pix", *TINY, "--seed", 7]
    common += ["--max_dataset_size", 4, "--n_epochs", 2]
    processes(1, tmp_path / "one", *common, "--batch_size", 4, "--norm", "syncbatch")
    processes(2, tmp_path / "two", *common, "--batch_size", 2, "--norm", "sync_batch")
    assert_same_weights(tmp_path / "one/run", tmp_path / "two/run")


def test_a_killed_process_of_torchrun_is_restarted_and_the_run_ends_as_if_it_had_not_been(data, tmp_path):
    """Typed without --continue_train, after an earlier run of that name; then again, with nothing left to train."""
    words = f"--dataroot {data / 'unaligned'} --model cycle_gan {' '.join(TINY)} --gan_mode wgangp --pool_size 2"
    words += " --netD pixel --seed 7 --save_latest_freq 2"
    assert resume.start(words, tmp_path / "whole", 2) == [0, 0], (tmp_path / "whole/log.txt").read_text()
    shutil.copytree(tmp_path / "whole/run", tmp_path / "run")
    (tmp_path / "run/latest_state.pth").rename(tmp_path / "run/3_state.pth")  # `latest` will be the new run's
    for path in (tmp_path / "whole").glob("steps_*.txt"):
        path.unlink()
    words += f" --checkpoints_dir {tmp_path} --name run"
    status, text = launches.kill_a_worker(words, tmp_path / "run")
    assert status == 0, text
    assert text.count("resuming with the options in") == 1
    assert resume.differences(tmp_path / "whole", tmp_path) == []
    state = torch.load(tmp_path / "run/latest_state.pth", weights_only=True)
    assert [len(pools["fake_A_pool"]["images"]) for pools in state["pools"]] == [2, 2]
    again = launches.torchrun(f"{words} --continue_train auto")
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert out.splitlines()[-1].startswith("nothing is left to train: epoch 3 ")
    assert "threads of the process group are left" not in text + err  # one of them may abort the process as it ends
