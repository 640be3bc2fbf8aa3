"""Whether two images are a pair: the dataset's answer, and its users in training, validation and evaluation."""

from __future__ import annotations

import re
import sys

import pytest
from conftest import make_aligned, make_unaligned

import data
from data.aligned_dataset import AlignedDataset
from data.base_dataset import BaseDataset
from data.colorization_dataset import ColorizationDataset
from data.single_dataset import SingleDataset
from data.unaligned_dataset import UnalignedDataset
from options.train_options import TrainOptions
from scripts import doctor
from util.monitor import validation
from util.monitor.diagnosis import Diagnosis
from util.runtime.run_facts import run_facts

PLUGINS = {
    "photos": "from data.unaligned_dataset import UnalignedDataset\nclass PhotosDataset(UnalignedDataset): pass\n",
    "strange": "from data.aligned_dataset import AlignedDataset\nclass StrangeDataset(AlignedDataset):\n"
    "    def __getitem__(self, index):\n        return super().__getitem__(index)\n",
}


class Mixin:
    def __getitem__(self, index):
        return {}


def subclass(*bases, **members):
    return type("OwnDataset", bases, members)


@pytest.mark.parametrize(
    ("dataset", "answer"),
    [
        (AlignedDataset, True),
        (ColorizationDataset, True),
        (UnalignedDataset, False),
        (SingleDataset, False),
        (BaseDataset, None),
        (subclass(UnalignedDataset), False),
        (subclass(AlignedDataset, __getitem__=Mixin.__getitem__), None),
        (subclass(subclass(UnalignedDataset, __getitem__=Mixin.__getitem__)), None),
        (subclass(Mixin, AlignedDataset), None),
        (subclass(UnalignedDataset, __getitem__=Mixin.__getitem__, is_paired=staticmethod(lambda: True)), True),
        (subclass(AlignedDataset, is_paired=lambda self: False), False),
    ],
)
def test_a_dataset_that_makes_its_own_items_answers_for_itself(dataset, answer):
    assert dataset.is_paired() is answer


@pytest.fixture
def parse(tmp_path, monkeypatch):
    """Parse options of train.py for `--dataset_mode`, with plug-ins; return the options and the words printed."""
    for name, code in PLUGINS.items():
        (tmp_path / f"{name}_dataset.py").write_text(code)
    monkeypatch.setattr(data, "__path__", [*data.__path__, str(tmp_path)])
    make_aligned(tmp_path / "data", ("train", "val"), count=2)
    make_unaligned(tmp_path / "data", ("train", "val"))
    words = f"--dataroot {tmp_path}/data --name x --checkpoints_dir {tmp_path} --gpu_ids -1 --netG unet_32 --ngf 2"
    yield lambda more: TrainOptions(f"{words} {more}").parse()
    for name in PLUGINS:
        sys.modules.pop(f"data.{name}_dataset", None)


@pytest.mark.parametrize("mode", ["unaligned", "photos"])
def test_a_model_that_learns_from_pairs_is_warned_about_a_dataset_without_them(parse, mode, capsys):
    opt = parse(f"--model pix2pix --dataset_mode {mode}")
    warning = f"warning: --model pix2pix learns from pairs, and --dataset_mode {mode} has none: the B of an item is not"
    assert capsys.readouterr().err.count(warning) == 1
    assert run_facts(opt).paired is False
    assert run_facts(opt).saved["paired"] is False  # written to train_opt.json with the run
    for advice in (f"--model cycle_gan --dataset_mode {mode}", "--model pix2pix --dataset_mode aligned"):
        parse(advice)
        assert "learns from pairs" not in "".join(capsys.readouterr())
    with pytest.raises(SystemExit):
        parse(f"--model pix2pix --dataset_mode {mode} --val_freq 1 --best_metric psnr")
    assert "--best_metric psnr compares each image with its ground truth, which" in capsys.readouterr().err


def test_an_unknown_answer_is_reported_and_metrics_of_pairs_are_measured_only_by_name(parse, monkeypatch, capsys):
    line = "--dataset_mode strange does not say whether A and B are pairs"
    words = "--model pix2pix --dataset_mode strange --val_freq 1"
    opt = parse(f"{words} --early_stop 3")
    out, err = capsys.readouterr()
    assert line in out
    assert "which --model pix2pix learns from" in out
    assert "learns from pairs" not in err
    assert run_facts(opt).paired is None
    assert not Diagnosis(opt, print).paired
    assert validation.watched_metric(opt) == "kid_lite0"
    parse("--model cycle_gan --dataset_mode strange")
    assert line not in capsys.readouterr().out

    model = type("Model", (), {"device": "cpu", "best_so_far": None, "progress": type("P", (), {"epoch": 1})})

    def measured(more):
        return validation.Validation(parse(f"{words} {more}"), model, ({},)).names

    assert measured("") == ["fd_lite0", "kid_lite0"]
    assert measured("--best_metric psnr") == ["psnr"]


def test_the_doctor_reports_a_model_without_its_pairs(tmp_path, capsys):
    make_unaligned(tmp_path / "data", ("train",))
    words = f"--dataroot {tmp_path}/data --name x --checkpoints_dir {tmp_path} --gpu_ids -1 --netG unet_32 --ngf 2"
    doctor.main(f"{words} --load_size 32 --crop_size 32 --model pix2pix --dataset_mode unaligned".split())
    out, err = capsys.readouterr()
    assert re.search(
        r"^warn +options +--model pix2pix learns from pairs, and --dataset_mode unaligned has none", out, re.M
    )
    assert not err
