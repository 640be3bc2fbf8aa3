"""What is measured while training, and what follows from it: the best epoch, the learning rate, an early end."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
import torch
from conftest import make_aligned, make_unaligned, type_command
from PIL import Image
from terminal import equal, weights

import train as program
from options.train_options import TrainOptions, in_validation
from util.errors import UserError
from util.monitor import validation

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


def options(data, tmp_path, name="x", model="pix2pix", more=""):
    folder = data / ("unaligned" if model == "cycle_gan" else "aligned")
    words = f"--dataroot {folder} --name {name} --model {model} --checkpoints_dir {tmp_path} {TINY} {more}"
    return TrainOptions(words).parse()


@pytest.fixture
def train(data, tmp_path):
    def run(name="x", model="pix2pix", more=""):
        program.train(options(data, tmp_path, name, model, more))
        return tmp_path / name

    return run


@pytest.fixture
def measured(monkeypatch):
    """Have the validations measure given values, in turn."""

    def give(*values, metric="psnr"):
        rest = list(values)
        monkeypatch.setattr(validation.Validation, "measure", lambda self: ({metric: rest.pop(0)}, {}))
        return rest

    return give


def table(folder):
    with (folder / "validation.csv").open() as file:
        return list(csv.DictReader(file))


def lines(folder):
    return [
        json.loads(x[11:-2]) for x in (folder / "web/data.js").read_text().split("\n") if x.startswith("validation(")
    ]


# ---- what is measured ----


def test_training_is_the_same_with_and_without_and_each_value_is_that_of_the_pictures(train, run, data, tmp_path):
    without, folder = train("without"), train("with", more="--val_freq 2")
    assert equal(weights(without), weights(folder))
    assert (without / "metrics.csv").read_text().count("\n") == (folder / "metrics.csv").read_text().count("\n")
    assert not (without / "validation.csv").exists()
    rows = table(folder)
    assert [(row["epoch"], row["total_iters"]) for row in rows] == [("2", "6"), ("4", "12")]
    # test.py writes what was measured, but for dropout's draws: without dropout, as here, to the bit.
    done = run(
        *f"test.py --dataroot {data / 'aligned'} --name with --checkpoints_dir {tmp_path} --phase val --epoch 4 "
        f"--gpu_ids -1 --results_dir {tmp_path / 'results'}".split()
    )
    assert done.returncode == 0, done.stderr
    images = tmp_path / "results/with/val_4/images"
    pairs = [
        [np.asarray(Image.open(images / f"{i:02d}_{kind}_B.png"), dtype=np.float64) for kind in ("fake", "real")]
        for i in range(3)
    ]
    l1 = np.mean([np.abs(fake - real).mean() / 255 for fake, real in pairs])
    psnr = np.mean([10 * np.log10(255**2 / ((fake - real) ** 2).mean()) for fake, real in pairs])
    assert float(rows[1]["l1"]) == pytest.approx(l1, rel=1e-5)
    assert float(rows[1]["psnr"]) == pytest.approx(psnr, rel=1e-5)
    assert 0 < float(rows[1]["ssim"]) < 1


def test_the_last_epoch_is_measured_whatever_the_frequency(train):
    assert [row["epoch"] for row in table(train(more="--val_freq 3"))] == ["3", "4"]


def test_cyclegan_s_outputs_are_measured_each_by_itself(train, monkeypatch):
    monkeypatch.setattr(validation, "is_paired", lambda opt: True)  # only to do without a feature network here
    folder = train(model="cycle_gan", more="--val_freq 4 --netG resnet_6blocks")
    (row,) = table(folder)
    assert list(row)[:5] == ["epoch", "total_iters", "l1", "l1_B", "l1_A"]
    assert float(row["l1"]) == pytest.approx((float(row["l1_A"]) + float(row["l1_B"])) / 2, rel=1e-5)


def test_without_pairs_no_image_counts_twice_though_the_smaller_domain_comes_again():
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


def test_a_metric_without_a_value_is_an_error_that_names_it(train, measured):
    measured(float("nan"))
    with pytest.raises(UserError, match="psnr has no value on the split `val`"):
        train(more="--val_freq 1 --best_metric psnr")


def test_log_page_and_console_tell_the_same(train, capsys):
    folder = train(more="--val_freq 2")
    row, line = table(folder)[-1], lines(folder)[-1]
    told = f"validation after epoch 4: l1 {float(row['l1']):.4g}, psnr {float(row['psnr']):.4g}, "
    assert line in capsys.readouterr().out
    assert told in (folder / "loss_log.txt").read_text()
    assert (line["x"], line["total_iters"]) == (4, 12)
    assert line["values"]["ssim"] == pytest.approx(float(row["ssim"]), rel=1e-6)
    assert [[label for label, *_ in item] for item in line["items"]] == [["real_A", "fake_B", "real_B"]] * 3
    for item in line["items"]:
        for _, file, ratio in item:
            assert Image.open(folder / "web/images" / file).size == (32, 32)
            assert ratio == 1
    first = lines(folder)[0]["items"]
    for (_, before, _), (_, now, _) in [(first[k][0], line["items"][k][0]) for k in range(3)]:
        assert (folder / "web/images" / before).read_bytes() == (folder / "web/images" / now).read_bytes()


def test_images_are_whole_in_order_and_alone(data, tmp_path):
    for more, preprocess, load in (
        ("", "resize_and_crop", 32),
        ("--preprocess scale_width_and_crop", "scale_width", 36),
        ("--preprocess crop", "none", 36),
    ):
        opt = in_validation(options(data, tmp_path, more=f"{more} --batch_size 3 --max_dataset_size 2"))
        assert (opt.phase, opt.preprocess, opt.load_size, opt.batch_size) == ("val", preprocess, load, 1)
        assert (opt.serial_batches, opt.no_flip, opt.max_dataset_size) == (True, True, float("inf"))


def test_norms_keep_their_running_statistics():
    norm = torch.nn.BatchNorm2d(2)

    class Model:
        def networks(self):
            return {"G": norm}

    with validation.keep_statistics(Model()):
        norm(torch.randn(3, 2, 4, 4) + 5)
        assert norm.running_mean.abs().sum() > 0.1
    assert norm.running_mean.abs().sum() == 0
    assert norm.num_batches_tracked == 0


# ---- the best epoch ----


@pytest.mark.parametrize(("metric", "values", "best"), [("psnr", (3, 5, 4, 5), 2), ("l1", (0.3, 0.2, 0.1, 0.2), 3)])
def test_the_best_epoch_is_kept_and_none_that_is_no_better_replaces_it(train, measured, metric, values, best):
    measured(*values, metric=metric)
    folder = train(more=f"--val_freq 1 --best_metric {metric}")
    assert equal(weights(folder, "best"), weights(folder, str(best)))
    state = torch.load(folder / "best_state.pth", weights_only=True)
    assert state["best"] == [metric, values[best - 1], best]
    assert state["progress"] == [best + 1, 0, 3 * best]
    assert state["optimizers"][0]["state"]  # whole: training can go on from it
    assert torch.load(folder / "latest_state.pth", weights_only=True)["best"] == [metric, values[best - 1], best]


def test_without_best_metric_nothing_is_kept(train):
    assert not list(train(more="--val_freq 2").glob("best_*"))


def test_a_run_that_goes_on_remembers_the_best_epoch_and_tells_nothing_twice(train, measured):
    measured(3, 9)
    train(more="--val_freq 1 --best_metric psnr --n_epochs 2")
    measured(4, 5)
    folder = train(more="--continue_train --n_epochs 4")
    assert torch.load(folder / "best_state.pth", weights_only=True)["best"] == ["psnr", 9, 2]
    assert [row["psnr"] for row in table(folder)] == ["3", "9", "4", "5"]
    assert [line["x"] for line in lines(folder)] == [1, 2, 3, 4]


def test_going_on_within_an_epoch_s_end_measures_it_once_in_the_table(train, measured, monkeypatch):
    measured(3, 4)
    stopped = RuntimeError("killed")

    def killed(*_):
        raise stopped

    with monkeypatch.context() as patch:
        patch.setattr("models.base_model.BaseModel.update_learning_rate", killed)
        with pytest.raises(RuntimeError, match="killed"):  # latest was saved in the epoch's last step
            train(more="--val_freq 1 --n_epochs 1 --save_latest_freq 3")
    measured(3)
    folder = train(more="--continue_train --n_epochs 1 --val_freq 1")
    assert [row["psnr"] for row in table(folder)] == ["3"]
    assert len(lines(folder)) == 1


def test_another_metric_begins_its_own_best(train, measured):
    measured(3, 9)
    train(more="--val_freq 1 --best_metric psnr --n_epochs 2")
    measured(0.5, 0.4, metric="l1")
    folder = train(more="--continue_train --n_epochs 4 --best_metric l1")
    assert torch.load(folder / "best_state.pth", weights_only=True)["best"] == ["l1", 0.4, 4]


# ---- what follows ----


def test_training_ends_when_it_gets_no_better_and_says_so(train, measured, capsys):
    rest = measured(3, 5, 4, 5, 6, 7)
    folder = train(more="--val_freq 1 --early_stop 2 --n_epochs 6")
    assert rest == [6, 7]
    line = "stopping early: the best psnr, 5, was reached in epoch 2, 2 epochs ago (--early_stop 2)"
    assert line in capsys.readouterr().out
    assert equal(weights(folder), weights(folder, "4"))
    with pytest.raises(UserError, match=r"has stopped early: the best psnr, 5, was reached in epoch 2, 2 epochs ago"):
        train(more="--continue_train --n_epochs 6")
    measured(6, 7)
    train(more="--continue_train --n_epochs 6 --early_stop 0")
    assert torch.load(folder / "latest_state.pth", weights_only=True)["progress"] == [7, 0, 18]


def test_plateau_lowers_the_rate_by_what_is_measured(train, measured, capsys):
    measured(*[20.0] * 9)
    train(more="--val_freq 1 --lr_policy plateau --n_epochs 9")
    rates = re.findall(r"^learning rate \S+ -> (\S+)$", capsys.readouterr().out, re.MULTILINE)
    assert rates == ["0.0002000"] * 6 + ["0.0000400"] * 3


@pytest.mark.parametrize(
    ("metric", "worse", "better"), [("psnr", 20, 20.2), ("ssim", 0.5, 0.6), ("l1", 0.3, 0.2), ("kid_lite0", 0.1, -0.01)]
)
def test_a_better_value_is_a_loss_that_fell_by_more_than_a_hundredth(metric, worse, better):
    before, now = validation.as_loss(metric, worse), validation.as_loss(metric, better)
    assert 0 <= now < 0.99 * before


# ---- what is refused ----


@pytest.mark.parametrize(
    ("more", "model", "said"),
    [
        (
            "--best_metric psnr",
            "pix2pix",
            r"--best_metric psnr needs measurements on the split `val`: add --val_freq 1",
        ),
        ("--early_stop 3", "pix2pix", r"--early_stop 3 needs .* add --val_freq 1"),
        ("--lr_policy plateau", "pix2pix", r"--lr_policy plateau needs .* add --val_freq 1"),
        ("--lr_policy plateau --val_freq 2", "pix2pix", r"needs a measurement each epoch: --val_freq 1, not 2"),
        ("--val_freq 1 --best_metric pnsr", "pix2pix", r"allowed: l1, psnr.* Did you mean 'psnr'"),
        (
            "--val_freq 1 --best_metric psnr",
            "cycle_gan",
            r"compares each image with its ground truth, .* choose one of fid, kid",
        ),
        ("--val_freq -1", "pix2pix", r"--val_freq -1: must be at least 0"),
        ("--early_stop -2", "pix2pix", r"--early_stop -2: must be at least 0"),
    ],
)
def test_what_can_not_work_is_refused_as_it_is_typed(data, tmp_path, capsys, more, model, said):
    with pytest.raises(SystemExit) as stop:
        options(data, tmp_path, model=model, more=more)
    assert stop.value.code == 2
    assert re.search(said, capsys.readouterr().err)


def test_a_missing_split_is_refused_before_anything_is_trained(train, tmp_path, data):
    make_aligned(tmp_path / "pairs", ("train",), count=2)
    with pytest.raises(UserError, match=r"pairs/val"):
        program.train(options(data, tmp_path, more=f"--val_freq 1 --dataroot {tmp_path / 'pairs'}"))
    assert not (tmp_path / "x/metrics.csv").exists()


def test_a_model_that_shows_no_output_beside_a_truth_is_refused(train, monkeypatch):
    monkeypatch.setattr(validation, "outputs", lambda visuals: iter(()))
    with pytest.raises(UserError, match=r"shows no pair fake_X and real_X"):
        train(more="--val_freq 1")


# ---- two processes ----


def test_two_processes_measure_the_same_and_stop_together(data, tmp_path):
    words = (
        f"-m torch.distributed.run --standalone --nproc_per_node 2 train.py --dataroot {data / 'aligned'} --name x "
        f"--model pix2pix --checkpoints_dir {tmp_path} {TINY} --norm syncbatch --val_freq 1 "
        "--early_stop 1 --n_epochs 30 --lr 0"
    )
    done = type_command(*words.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation after epoch 1: ") == 1  # the main process alone tells
    assert "stopping early: the best psnr, " in done.stdout  # nothing is learned with a rate of 0
    rows = table(tmp_path / "x")
    assert len(rows) == 2
    assert rows[0]["psnr"] == rows[1]["psnr"]
    assert torch.load(tmp_path / "x/latest_state.pth", weights_only=True)["progress"] == [3, 0, 8]
