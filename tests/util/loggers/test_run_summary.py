"""The description of a run at the head of its pages and logs."""

from __future__ import annotations

import argparse
import sys
import time

import torch

from util.loggers.run_summary import run_header
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
    assert run_header(opt)["command"].startswith("torchrun --nproc_per_node 2 train.py --dataroot")


def test_a_custom_loop_has_a_header_too():
    assert run_header(argparse.Namespace(name="x"))["command"] == "python train.py"
