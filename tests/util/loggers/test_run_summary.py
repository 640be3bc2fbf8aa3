"""The description of a run at the head of its pages and logs."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from util.checkpoint.progress import Best
from util.loggers.run_summary import closing_lines, run_header
from util.runtime.run_facts import set_facts


def test_a_header_has_the_command_as_typed_the_options_given_and_versions(monkeypatch):
    typed = ["--dataroot", "my photos", "--lr", "0.1", "--name", "x"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", *typed])
    opt = argparse.Namespace(name="x", model="pix2pix", lr=0.1, dataroot="my photos", crop_size=256, isTrain=True)
    opt.device = torch.device("cpu")
    set_facts(opt, words=tuple(typed), typed=frozenset({"lr", "dataroot", "name"}))
    header = run_header(opt)
    assert header["command"] == "python train.py --dataroot 'my photos' --lr 0.1 --name x"
    assert header["options"] == {"dataroot": "my photos", "lr": 0.1}
    assert header["versions"]["PyTorch"] == torch.__version__
    assert header["device"].startswith("CPU, ")
    assert abs(header["time"] - time.time()) < 5
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_header(opt)["command"].startswith("torchrun --standalone --nproc_per_node 2 train.py --dataroot")


def test_a_custom_loop_has_a_header_too():
    assert run_header(argparse.Namespace(name="x"))["command"] == "python train.py"


def test_the_last_lines_have_time_speed_best_epoch_page_and_the_next_command(tmp_path):
    opt = argparse.Namespace(name="x", dataroot=f"{tmp_path}/a b", checkpoints_dir="runs", phase="train")
    opt.device = torch.device("cpu")
    for folder in ("valA", "valB", "trainA", "trainB"):
        (tmp_path / "a b" / folder).mkdir(parents=True)
    assert closing_lines(opt, 6000, 1200.0, Best("psnr", 21.25, 40), Path("runs/x/web/index.html")) == [
        "trained on 6000 images in 20 min 0 s, 5.0 images/s: runs/x",
        "best epoch: 40, psnr 21.25",
        "page: runs/x/web/index.html",
        f"next: python test.py --dataroot '{tmp_path}/a b' --name x --checkpoints_dir runs --epoch best --phase val",
    ]
    (tmp_path / "a b/test").mkdir()
    set_facts(opt, typed=frozenset({"gpu_ids"}))
    first, last = closing_lines(opt, 10, 0.0, None, None)
    assert first.startswith("trained on 10 images in 0.0 s")
    assert last == f"next: python test.py --dataroot '{tmp_path}/a b' --name x --checkpoints_dir runs --gpu_ids -1"
