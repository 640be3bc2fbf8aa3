"""Validation during training: scores, the best epoch, early stopping."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from types import SimpleNamespace

import conftest
import numpy as np
import pytest
import torch
from conftest import make_aligned, make_unaligned, pixels, refused
from faults import resume
from PIL import Image
from terminal import equal, weights

import train as program
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.errors import UserError
from util.monitor import validation
from util.monitor.validation import Validation
from util.pages.data_file import PageData

TINY = (
    "--netG unet_32 --ngf 2 --ndf 2 --load_size 36 --crop_size 32 --num_threads 0 --display_id -1 --seed 7 "
    "--gpu_ids -1 --n_epochs 4 --n_epochs_decay 0 --save_epoch_freq 1 --print_freq 1"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_aligned(folder / "aligned", ("train", "val", "test"), count=3)
    make_unaligned(folder / "unaligned", ("train", "val"), count_A=3, count_B=2)
    return folder


def words(data, folder, more="", model="pix2pix"):
    images = data / ("unaligned" if model == "cycle_gan" else "aligned")
    return f"--dataroot {images} --name x --model {model} --checkpoints_dir {folder} {TINY} {more}"


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Train for four epochs, without validation and with one every three epochs; return folders and printed text."""
    without, scored = tmp_path_factory.mktemp("without"), tmp_path_factory.mktemp("scored")
    program.train(TrainOptions(words(data, without)).parse())
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        program.train(TrainOptions(words(data, scored, "--val_freq 3")).parse())
    return SimpleNamespace(without=without / "x", scored=scored / "x", printed=printed.getvalue())


def table(folder):
    with (folder / "validation.csv").open() as file:
        return list(csv.DictReader(file))


def lines(folder):
    return [values[0] for call, values in PageData(folder / "web").read() if call == "validation"]


def state(folder, prefix):
    return torch.load(folder / f"{prefix}_state.pth", weights_only=True)


# ---- scores ----


def test_training_is_the_same_with_and_without_validation_and_the_last_epoch_is_always_measured(trained):
    assert equal(weights(trained.without), weights(trained.scored))
    sizes = [(folder / "metrics.csv").read_text().count("\n") for folder in (trained.without, trained.scored)]
    assert sizes[0] == sizes[1]
    assert not (trained.without / "validation.csv").exists()
    assert [(row["epoch"], row["total_iters"]) for row in table(trained.scored)] == [("3", "9"), ("4", "12")]
    assert not list(trained.scored.glob("best_*"))  # only with --best_metric


def test_scores_are_those_of_the_pictures_that_test_py_writes(trained, data, tmp_path):
    line = f"--dataroot {data / 'aligned'} --name x --checkpoints_dir {trained.scored.parent} --phase val --epoch 4 "
    conftest.program("test").translate(TestOptions(f"{line} --gpu_ids -1 --results_dir {tmp_path}").parse())
    images = tmp_path / "x/val_4/images"
    pairs = [[pixels(images / f"{i:02d}_{kind}_B.png") / 1.0 for kind in ("fake", "real")] for i in range(3)]
    l1 = np.mean([np.abs(fake - real).mean() / 255 for fake, real in pairs])
    psnr = np.mean([10 * np.log10(255**2 / ((fake - real) ** 2).mean()) for fake, real in pairs])
    row = table(trained.scored)[1]
    assert [float(row["l1"]), float(row["psnr"])] == pytest.approx([l1, psnr], rel=1e-5)
    assert 0 < float(row["ssim"]) < 1


def test_log_page_and_console_report_the_same(trained):
    folder, row, line = trained.scored, table(trained.scored)[-1], lines(trained.scored)[-1]
    reported = f"validation after epoch 4: l1 {float(row['l1']):.4g}, psnr {float(row['psnr']):.4g}, "
    assert reported in trained.printed
    assert reported in (folder / "loss_log.txt").read_text()
    assert (line["x"], line["total_iters"]) == (4, 12)
    assert line["values"]["ssim"] == pytest.approx(float(row["ssim"]), rel=1e-6)
    assert [[label for label, *_ in item] for item in line["items"]] == [["real_A", "fake_B", "real_B"]] * 3
    first, last = ([item[0] for item in line["items"]] for line in lines(folder))
    for (_, before, _), (_, file, ratio) in zip(first, last, strict=True):
        assert (Image.open(folder / "web/images" / file).size, ratio) == ((32, 32), 1)
        assert (folder / "web/images" / before).read_bytes() == (folder / "web/images" / file).read_bytes()


def test_without_pairs_no_image_counts_twice_although_the_smaller_domain_repeats():
    counts = {"fake": 0, "real": 0}

    class Counting:
        def add_fake(self, images):
            counts["fake"] += len(images)

        def add_real(self, images):
            counts["real"] += len(images)

    fakes, reals = torch.randint(0, 256, (7, 1, 3, 4, 4)).byte(), torch.randint(0, 256, (3, 1, 3, 4, 4)).byte()
    seen = set()
    for k in range(7):
        validation.add_once(Counting(), (fakes[k], reals[k % 3]), seen)
    assert counts == {"fake": 7, "real": 3}


# ---- decisions ----


@pytest.fixture
def validate(data, tmp_path):
    """Make a validation of a model without networks that shows `visuals`."""

    def make(more="", visuals=(), dataset=({},)):
        opt = TrainOptions(words(data, tmp_path, f"--val_freq 1 {more}")).parse()
        model = SimpleNamespace(opt=opt, device=torch.device("cpu"), best_so_far=None, networks=dict)
        model.progress = SimpleNamespace(epoch=1, total_iters=3)
        model.set_input = model.test = lambda *_: None
        model.get_current_visuals = lambda: dict(visuals)
        return Validation(opt, model, dataset)

    return make


def decide(validate, monkeypatch, metric, values):
    """Validate epochs that have these scores; return which were the best so far, and the lines printed."""
    best, said = [], []
    loggers = SimpleNamespace(say=said.append, display_validation=lambda *_: None)
    for epoch, value in enumerate(values, 1):
        monkeypatch.setattr(validate, "measure", lambda value=value: ({metric: value}, {}))
        validate(epoch, loggers)
        best += [epoch] * validate.improved
        assert validate.model.metric == validation.as_loss(metric, value)
        if validate.over:
            break
    return best, said


def test_several_outputs_are_measured_separately_and_averaged(validate):
    images = dict(zip(("fake_A", "real_A", "fake_B", "real_B"), torch.rand(4, 1, 3, 16, 16), strict=True))
    values, samples = validate(visuals=images).measure()
    assert list(values)[:3] == ["l1", "l1_A", "l1_B"]
    assert values["l1"] == pytest.approx((values["l1_A"] + values["l1_B"]) / 2)
    assert list(samples) == list(images)
    with pytest.raises(UserError, match=r"shows no pair fake_X and real_X"):
        validate(visuals={"fake_B": images["fake_B"]}).measure()


@pytest.mark.parametrize(("metric", "values"), [("psnr", (3, 5, 4, 5, 6)), ("l1", (0.3, 0.2, 0.25, 0.2, 0.1))])
def test_only_a_better_epoch_replaces_the_best_one(validate, monkeypatch, metric, values):
    measured = validate(f"--best_metric {metric} --n_epochs 5")
    best, said = decide(measured, monkeypatch, metric, values)
    assert best == [1, 2, 5]
    assert said[-1] == f"epoch 5 is the best so far by {metric}: {values[-1]:.4g}"
    assert measured.model.best_so_far == (metric, values[-1], 5)
    other = "psnr" if metric == "l1" else "l1"
    measured.opt.best_metric = other
    assert Validation(measured.opt, measured.model, measured.dataset).model.best_so_far is None  # a new metric


def test_a_metric_without_a_value_raises_an_error_that_names_it(validate, monkeypatch):
    with pytest.raises(UserError, match="psnr has no value on the split `val`"):
        decide(validate("--best_metric psnr"), monkeypatch, "psnr", [float("nan")])


@pytest.mark.parametrize(
    ("metric", "worse", "better"), [("psnr", 20, 20.2), ("ssim", 0.5, 0.6), ("l1", 0.3, 0.2), ("kid_lite0", 0.1, -0.01)]
)
def test_lr_policy_plateau_sees_a_better_value_fall_by_more_than_a_hundredth(metric, worse, better):
    before, now = validation.as_loss(metric, worse), validation.as_loss(metric, better)
    assert 0 <= now < 0.99 * before


def test_a_run_keeps_its_best_epoch_stops_early_and_resumes_without_early_stop(data, tmp_path, monkeypatch, capsys):
    scores = [3, 5, 4, 5, 6, 7]
    monkeypatch.setattr(Validation, "measure", lambda self: ({"psnr": scores.pop(0)}, {}))

    def train(more):
        program.train(TrainOptions(words(data, tmp_path, f"--val_freq 1 --n_epochs 6 {more}")).parse())

    train("--early_stop 2")
    folder, printed = tmp_path / "x", capsys.readouterr().out
    assert scores == [6, 7]
    line = "stopping early: the best psnr, 5, was reached in epoch 2, 2 epochs ago (--early_stop 2)"
    assert line in printed
    assert equal(weights(folder), weights(folder, "4"))
    assert equal(weights(folder, "best"), weights(folder, "2"))
    best = state(folder, "best")
    assert (best["best"], best["progress"]) == (["psnr", 5, 2], [3, 0, 6])
    assert best["optimizers"][0]["state"]  # complete: training can resume from it
    assert state(folder, "latest")["best"] == ["psnr", 5, 2]
    with pytest.raises(UserError, match=r"has stopped early: the best psnr, 5, was reached in epoch 2, 2 epochs ago"):
        train("--continue_train")
    train("--continue_train --early_stop 0 --best_metric psnr")
    assert state(folder, "latest")["progress"] == [7, 0, 18]
    assert state(folder, "best")["best"] == ["psnr", 7, 6]
    assert [row["psnr"] for row in table(folder)] == ["3", "5", "4", "5", "6", "7"]
    assert [line["x"] for line in lines(folder)] == [1, 2, 3, 4, 5, 6]


def test_a_run_killed_at_the_end_of_an_epoch_has_its_scores_once_after_it_resumes(data, tmp_path, monkeypatch):
    def killed(*_):
        raise RuntimeError("killed")

    more = "--val_freq 1 --n_epochs 1 --save_latest_freq 3"
    with monkeypatch.context() as patch:
        patch.setattr("models.base_model.BaseModel.update_learning_rate", killed)
        with pytest.raises(RuntimeError, match="killed"):  # `latest` was saved in the epoch's last step
            program.train(TrainOptions(words(data, tmp_path, more)).parse())
    program.train(TrainOptions(words(data, tmp_path, f"{more} --continue_train")).parse())
    assert [row["epoch"] for row in table(tmp_path / "x")] == ["1"]
    assert len(lines(tmp_path / "x")) == 1


# ---- errors ----


@pytest.mark.parametrize(
    ("more", "model", "message"),
    [
        ("--early_stop 3", "pix2pix", r"--early_stop 3 needs measurements on the split `val`: add --val_freq 1"),
        ("--lr_policy plateau --val_freq 2", "pix2pix", r"needs a measurement each epoch: --val_freq 1, not 2"),
        ("--val_freq 1 --best_metric psnr", "cycle_gan", r"with its ground truth, .* choose one of fid, kid"),
    ],
)
def test_options_that_can_not_work_are_errors_of_the_command_line(data, tmp_path, capsys, more, model, message):
    said = refused(capsys, lambda line: TrainOptions(line).parse(), words(data, tmp_path, more, model))
    assert re.search(message, said)


def test_a_missing_split_raises_before_training(data, tmp_path):
    make_aligned(tmp_path / "pairs", ("train",), count=2)
    with pytest.raises(UserError, match=r"pairs/val"):
        program.train(TrainOptions(words(data, tmp_path, f"--val_freq 1 --dataroot {tmp_path / 'pairs'}")).parse())
    assert not (tmp_path / "x/metrics.csv").exists()


def test_two_processes_measure_the_same_and_stop_together(data, tmp_path):
    more = "--norm syncbatch --val_freq 1 --early_stop 1 --n_epochs 30 --lr 0"  # nothing is learned with a rate of 0
    statuses = resume.start(words(data, tmp_path, more), tmp_path, 2)
    output = (tmp_path / "log.txt").read_text()
    assert statuses == [0, 0], output
    assert output.count("validation after epoch 1: ") == 1  # only the main process reports
    assert "stopping early: the best psnr, " in output
    rows = table(tmp_path / "run")
    assert len(rows) == 2
    assert rows[0]["psnr"] == rows[1]["psnr"]
    assert state(tmp_path / "run", "latest")["progress"] == [3, 0, 8]
