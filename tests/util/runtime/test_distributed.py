"""Several processes (torchrun, gloo) compute what one process computes with their whole batch."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys

import distributed_run
import pytest
import torch
from conftest import ROOT, make_aligned, make_unaligned

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


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def torchrun(count, *words):
    """Type `torchrun --nproc_per_node N train.py words...` and return its text."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(count)]
    command = [*launcher, "--master_addr", "127.0.0.1", "--master_port", str(free_port()), "train.py", *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def processes(count, tmp_path, *words):
    """Train in float64 on `count` processes and return what they print."""
    output = tmp_path / f"output{len(list(tmp_path.glob('output*')))}"
    statuses = distributed_run.fork(count, free_port(), output, list(map(str, words)))
    assert statuses == [0] * count, output.read_text()
    return output.read_text()


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in ("time", "data")} for row in csv.DictReader(file)]


def assert_same_weights(one, two):
    paths = sorted(one.glob("latest_net_*.pth"))
    assert paths
    for path in paths:
        a, b = torch.load(path, weights_only=True), torch.load(two / path.name, weights_only=True)
        for key in a:
            assert (a[key] - b[key]).abs().max() <= 1e-9, f"{path.name}: {key}"


@pytest.mark.parametrize("model", ["pix2pix", "cycle_gan"])
def test_two_processes_compute_what_one_does_with_their_whole_batch(data, tmp_path, model):
    """Seven images in steps of 2 x 2 and 4: the last step has two images here and one there."""
    folder = data / ("aligned" if model == "pix2pix" else "unaligned")
    common = ["--dataroot", folder, "--checkpoints_dir", tmp_path, "--model", model, *TINY, "--print_freq", 4]
    out = processes(2, tmp_path, *common, "--name", "two", "--batch_size", 2)
    drawn = json.loads((tmp_path / "two" / "train_opt.json").read_text())["seed"]  # one for both processes
    processes(1, tmp_path, *common, "--name", "one", "--batch_size", 4, "--seed", drawn)
    assert_same_weights(tmp_path / "one", tmp_path / "two")
    for a, b in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert list(a) == list(b)
        assert [float(v) for v in a.values()] == pytest.approx([float(v) for v in b.values()], rel=1e-6)
    assert out.count("The number of training images = 7") == 1
    assert out.count("End of epoch 1 / 2") == 1
    log = (tmp_path / "two" / "loss_log.txt").read_text()
    assert log.count("Training Loss") == 1
    assert len([line for line in log.splitlines() if line.startswith("(")]) == 4


def test_three_processes_share_one_last_image_and_resume_as_two(data, tmp_path):
    common = ["--dataroot", data / "aligned", "--checkpoints_dir", tmp_path, "--model", "pix2pix", *TINY, "--seed", 7]
    processes(1, tmp_path, *common, "--name", "one", "--batch_size", 6)
    processes(3, tmp_path, *common, "--name", "three", "--batch_size", 2, "--save_epoch_freq", 1)
    assert_same_weights(tmp_path / "one", tmp_path / "three")
    # Epoch 2 once more, from epoch 1's weights, by two processes
    common += ["--name", "three", "--batch_size", 3]
    processes(2, tmp_path, *common, "--continue_train", "--epoch", 1, "--epoch_count", 2)
    assert torch.load(tmp_path / "three" / "latest_state.pth", weights_only=True)["progress"][0] == 3


def test_sync_batch_norm_gives_one_process_s_statistics(data, tmp_path):
    common = ["--dataroot", data / "aligned", "--checkpoints_dir", tmp_path, "--model", "pix2pix", *TINY, "--seed", 7]
    common += ["--max_dataset_size", 4, "--n_epochs", 2]
    processes(1, tmp_path, *common, "--name", "one", "--batch_size", 4, "--norm", "syncbatch")
    processes(2, tmp_path, *common, "--name", "two", "--batch_size", 2, "--norm", "sync_batch")
    assert_same_weights(tmp_path / "one", tmp_path / "two")


def test_wgangp_and_pools_work_on_two_processes_of_torchrun(data, tmp_path):
    common = ["--dataroot", data / "unaligned", "--checkpoints_dir", tmp_path, "--model", "cycle_gan", *TINY]
    common += ["--gan_mode", "wgangp", "--pool_size", 2, "--name", "x", "--netD", "pixel"]
    torchrun(2, *common)
    state = torch.load(tmp_path / "x" / "latest_state.pth", weights_only=True)
    assert [len(pools["fake_A_pool"]["images"]) for pools in state["pools"]] == [2, 2]
    out = torchrun(2, *common, "--continue_train", "--n_epochs", 2)
    assert "End of epoch 3 / 3" in out
