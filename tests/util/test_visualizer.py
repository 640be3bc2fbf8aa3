"""The log, the training page and the progress of a run, in both generations' calls."""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import io
import re
import shutil
import sys
import threading
import time

import numpy as np
import pytest
from conftest import ROOT
from logged_run import image, logger_options, optimizer, progress
from PIL import Image

from util.checkpoint.progress import Progress
from util.loggers import console
from util.loggers.base import Sink
from util.loggers.console import TranslationLines
from util.pages.data_file import PageData
from util.pages.results_writer import write_png
from util.visualizer import Visualizer

LOSSES = {"G_GAN": 0.7021, "G_L1": 39.28, "D_real": 0.6864, "D_fake": 0.7195}
LINE = "(epoch: 1, iters: 100, time: 0.035, data: 0.008) G_GAN: 0.702 G_L1: 39.280 D_real: 0.686 D_fake: 0.720 "
HEADER = re.compile(r"={16} Training Loss \(.+\) ={16}")


def options(folder, **changes):
    """Options of a training run with a page."""
    values = {"no_html": False, "display_winsize": 200, "continue_train": False, "n_epochs": 2, "n_epochs_decay": 1}
    return logger_options(folder, **values | changes)


class Batches(list):
    """Batches of two items; like a dataset's, the length counts the epoch's images."""

    total = None  # where a part of the epoch is done already

    def __len__(self):
        return self.total or 2 * super().__len__()


def batches(count):
    paths = {f"{k}_paths": [f"/d/{k}0.png", f"/d/{k}1.png"] for k in "AB"}
    return Batches({"A": image(-1, 4, 4, 2), "B": image(1, 4, 4, 2), **paths} for _ in range(count))


def data(folder, *calls):
    """The calls in data.js, without times."""
    read = [(call, values[0]) for call, values in PageData(folder / "exp" / "web").read()]
    return [{**value, "time": 0} for call, value in read if call in calls]


def shown(folder):
    """The names of the calls in data.js that show something."""
    return [call for call, _ in PageData(folder / "exp" / "web").read() if call in ("losses", "images", "validation")]


def table(folder):
    """The rows of metrics.csv."""
    with (folder / "exp" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def train(folder, epochs, **changes):
    """Show epochs of 8 images, two a step, displayed every 4 images and saved every 12."""
    done = progress()
    with contextlib.closing(Visualizer(options(folder, **changes))) as visualizer:
        visualizer.resume(done, [optimizer(0.02)])
        for done.epoch in range(1, epochs + 1):
            visualizer.reset()
            for batch in visualizer.track(batches(4), done):
                done.epoch_iter += 2
                done.total_iters += 2
                if done.total_iters % 4 == 0:
                    visuals = {"real_A": batch["A"], "fake_B": image(done.total_iters / 100, 4, 4)}
                    visualizer.display_current_results(visuals, done.epoch, done.total_iters, done.total_iters % 3 == 0)
                losses = {"G": done.total_iters / 7, "D": -1.0}
                visualizer.print_current_losses(done.epoch, done.epoch_iter, losses, *visualizer.timing())
                visualizer.plot_current_losses(done.total_iters, losses)
            done.epoch_iter = 0


# ---- the interface ----


def test_older_calls_keep_their_meaning(tmp_path):
    visualizer = Visualizer(options(tmp_path))
    for epoch in (1, 2):
        visualizer.reset()
        for step in range(1, 5):
            visualizer.display_current_results({"fake": image(step / 10)}, epoch, step == 3)
            visualizer.plot_current_losses(epoch, step / 4, {"G": step})
            visualizer.print_current_losses(epoch, 2 * step, {"G": step}, 0.1, 0.2)
        assert (visualizer.saved, visualizer.current_epoch) == (True, epoch)
    visualizer.display_current_results({"fake": image(0)}, 2, save_result=True)
    visualizer.flush()
    assert [value["x"] for value in data(tmp_path, "losses")] == [n / 4 for n in range(1, 9)]
    rows = [value["id"] for value in data(tmp_path, "images")]
    assert [row[:8] for row in rows] == ["epoch001", "epoch001", "epoch002", "epoch002", "epoch002"]
    assert len(set(rows)) == 5
    assert len(table(tmp_path)) == 8


def test_other_processes_print_and_write_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    train(tmp_path, 2, use_wandb=True, use_tensorboard=True, display_id=1)
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_no_dashboard_package_is_needed(monkeypatch):
    for package in ("wandb", "tensorboard", "visdom"):
        monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    for file in (*(ROOT / "util" / "loggers").glob("*.py"), ROOT / "util" / "visualizer.py"):
        spec = importlib.util.spec_from_file_location(f"fresh_{file.stem}", file)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


# ---- log files ----


def test_the_loss_line_is_the_reference_s_to_the_byte_in_console_and_log(tmp_path, capsys):
    visualizer = Visualizer(options(tmp_path, no_html=True))
    visualizer.print_current_losses(1, 100, LOSSES, 0.0351, 0.0079)
    assert capsys.readouterr().out == LINE + "\n"
    header, line, rest = (tmp_path / "exp" / "loss_log.txt").read_text().split("\n")
    assert HEADER.fullmatch(header)
    assert (line, rest) == (LINE, "")
    assert not (tmp_path / "exp/web").exists()


def test_metrics_csv_has_every_printed_step_and_a_column_for_each_loss(tmp_path):
    visualizer = Visualizer(options(tmp_path))
    visualizer.resume(done := progress(2, 100, 500))
    for done.total_iters, losses in ((500, LOSSES), (600, {"feat, new": 2.0, "G_L1": float("nan")}), (700, LOSSES)):
        visualizer.print_current_losses(2, 100, losses, 0.0351, 0.0079)
    first, second, third = table(tmp_path)
    assert list(first) == ["epoch", "iters", "total_iters", "time", "data", *LOSSES, "feat, new"]
    assert list(first.values())[:3] == ["2", "100", "500"]
    assert (first["G_L1"], first["feat, new"]) == ("39.28", "")
    assert float(first["time"]) == 0.0351
    assert (second["G_GAN"], second["G_L1"], second["feat, new"]) == ("", "nan", "2")
    assert (third["total_iters"], third["G_L1"]) == ("700", "39.28")


# ---- the page ----


def test_the_page_has_each_epoch_s_first_images_those_that_are_saved_and_all_losses(tmp_path, capsys):
    train(tmp_path, 3)
    assert f"create web directory {tmp_path / 'exp' / 'web'}...\n" in capsys.readouterr().out
    rows, names = data(tmp_path, "images"), ["epoch001", "epoch002", "epoch003", "epoch003_000000024"]
    assert [(row["id"], row["total_iters"]) for row in rows] == list(zip(names, (4, 12, 20, 24), strict=True))
    assert {row["width"] for row in rows} == {200}
    assert rows[0]["items"] == [
        [["real_A", "epoch001_real_A.png", 1.0], ["fake_B", "epoch001_fake_B.png", 1.0]],
        [["real_A", "epoch001_real_A_1.png", 1.0]],
    ]
    files = {f"{name}_{label}.png" for name in names for label in ("real_A", "real_A_1", "fake_B")}
    assert {file.name for file in (tmp_path / "exp/web/images").iterdir()} == files
    picture = np.array(Image.open(tmp_path / "exp/web/images/epoch003_000000024_fake_B.png"))
    assert np.array_equal(picture, np.full((4, 4, 3), int((0.24 + 1) / 2 * 255)))
    points = data(tmp_path, "losses")
    assert [(p["total_iters"], p["x"]) for p in points] == [(2 * n, n / 4) for n in range(1, 13)]
    assert points[-1]["losses"] == {"G": pytest.approx(24 / 7, rel=1e-6), "D": -1.0}
    assert {point["lr"] for point in points} == {0.02}
    (start,), (end,) = data(tmp_path, "start"), data(tmp_path, "end")
    assert (start["epochs"], end["epoch"]) == (3, 2)


def test_training_continues_while_images_are_written_and_their_row_follows_them(tmp_path, monkeypatch):
    go, seen = threading.Event(), []

    def slow(image, path):
        assert go.wait(20)
        seen.append(len(data(tmp_path, "images")))
        write_png(image, path)

    monkeypatch.setattr("util.pages.training_page.write_png", slow)
    visualizer = Visualizer(options(tmp_path))
    for epoch in (1, 2):
        visualizer.display_current_results({"real": image(0), "fake": image(1)}, epoch, 10 * epoch)
        visualizer.plot_current_losses(10 * epoch, {"G": 1.0})
    assert shown(tmp_path) == []
    go.set()
    visualizer.close()
    assert seen == [0, 0, 1, 1]
    assert shown(tmp_path) == ["images", "losses"] * 2


# ---- the first step and the last one ----


def short_run(folder, images=41, epochs=1, saved=None, until=None, **changes):
    """Report every step of a run with train.py's usual frequencies; continue from `saved`, stop after `until`."""
    frequencies = {"display_freq": 400, "update_html_freq": 1000, "print_freq": 100, "early_stop": 0, "val_freq": 0}
    values = {"continue_train": saved is not None, "n_epochs": epochs, "n_epochs_decay": 0}
    visualizer = Visualizer(options(folder, **frequencies | values | changes))
    done = saved or Progress()
    losses = lambda: {"G": done.total_iters / 7}  # noqa: E731
    pictures = lambda: {"fake_B": image(done.total_iters / 500, 4, 4)}  # noqa: E731
    model = argparse.Namespace(progress=done, compute_visuals=lambda: None)
    model.get_current_visuals, model.get_current_losses = pictures, losses
    with contextlib.closing(visualizer):
        visualizer.resume(done, [optimizer(0.02)])
        for epoch in range(done.epoch, epochs + 1):
            done.epoch, dataset = epoch, Batches([{}] * (images - done.epoch_iter))
            dataset.total = images
            for _ in visualizer.track(dataset, done):
                done.advance(1)
                visualizer.report_step(model)
                if done.total_iters == until:
                    return
            done.epoch_iter = 0


def test_a_short_run_shows_its_first_and_last_step_and_prints_as_before(tmp_path, capsys):
    short_run(tmp_path)
    rows = [(row["id"], row["total_iters"]) for row in data(tmp_path, "images")]
    assert rows == [("epoch000", 1), ("epoch001", 41)]
    assert [point["total_iters"] for point in data(tmp_path, "losses")] == [1, 41]
    assert [(row["total_iters"], float(row["G"])) for row in table(tmp_path)] == [
        ("1", pytest.approx(1 / 7)),
        ("41", pytest.approx(41 / 7)),
    ]
    assert "(epoch: " not in capsys.readouterr().out + (tmp_path / "exp/loss_log.txt").read_text()


def test_a_resumed_run_shows_the_steps_of_an_unbroken_one(tmp_path):
    for saved in (20, 41, 60):
        short_run(tmp_path / "whole", epochs=3)
        short_run(tmp_path / "broken", epochs=3, until=70)
        epoch, done = divmod(saved, 41)
        short_run(tmp_path / "broken", epochs=3, saved=Progress(epoch + 1, done, saved, 1))
        assert [row["total_iters"] for row in table(tmp_path / "whole")] == ["1", "100", "123"]
        lines = [[{**row, "time": "", "data": ""} for row in table(tmp_path / run)] for run in ("whole", "broken")]
        assert lines[0] == lines[1]
        assert data(tmp_path / "whole", "losses", "images") == data(tmp_path / "broken", "losses", "images")


def test_a_step_at_which_early_stopping_may_end_the_run_is_shown(tmp_path):
    short_run(tmp_path, epochs=5, early_stop=1, val_freq=2, best_metric="psnr")
    assert [row["total_iters"] for row in table(tmp_path)] == ["1", "82", "100", "164", "200", "205"]


# ---- failures ----


def test_images_that_can_not_be_written_cost_a_warning_and_their_row(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    visualizer = Visualizer(options(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("util.pages.training_page.write_png", full)
        for epoch in (1, 2, 3):
            visualizer.display_current_results({"fake": image(0)}, epoch, 10 * epoch)
            visualizer.plot_current_losses(10 * epoch, {"G": 1.0})
        visualizer.flush()
    visualizer.display_current_results({"fake": image(0)}, 4, 40)
    visualizer.close()
    assert capsys.readouterr().out.count("warning: web page: OSError: [Errno 28] No space left on device") == 1
    assert shown(tmp_path) == ["losses"] * 3 + ["images"]


def test_a_failing_logger_costs_one_warning_and_no_run(tmp_path, capsys):
    class Broken(Sink):
        def losses(self, step, losses):
            raise OSError(f"no space at {step.total_iters}")

        images = losses

    visualizer = Visualizer(options(tmp_path))
    visualizer._add_sink("broken", Broken)
    shutil.rmtree(tmp_path / "exp" / "web")
    (tmp_path / "exp" / "web").touch()
    (tmp_path / "exp" / "metrics.csv").mkdir()
    capsys.readouterr()
    for step in (10, 20, 30):
        visualizer.display_current_results({"fake": image(0)}, step, step, False)
        visualizer.plot_current_losses(step, {"G": 1.0})
        visualizer.print_current_losses(step, step, {"G": 1.0}, 0, 0)
    visualizer.close()
    out = capsys.readouterr().out
    assert out.count("warning: web page: ") == 1
    assert out.count("warning: log files: IsADirectoryError") == 1
    assert len(re.findall(r"warning: broken: OSError: no space at \d+ \(the run continues\)\n", out)) == 1
    assert len(out.splitlines()) == 6


# ---- progress ----


def test_the_first_batch_is_drawn_once_and_a_file_gets_plain_lines(tmp_path, capsys):
    train(tmp_path, 2)
    sheet = np.array(Image.open(tmp_path / "exp" / "first_batch.png"))
    black = (sheet == 0).all(axis=2).sum(axis=0) >= 8  # A: two pictures, 4 pixels high and wide
    assert black.sum() >= 4
    out, err = capsys.readouterr()
    assert out.count("first_batch.png") == 1
    assert [line.split(" has a ")[1] for line in err.splitlines()] == [
        f"single colour ({side}): instance norm can't scale it" for side in "AABB"
    ]
    assert "\r" not in out
    assert len(out.splitlines()) == 2 + 8  # the web folder, the first batch, eight times losses


def test_times_are_means_per_image_since_the_last_call(tmp_path, monkeypatch):
    now, found = [0.0], []
    monkeypatch.setattr(console, "time", argparse.Namespace(perf_counter=lambda: now[0]))

    class Slow(Batches):
        def __iter__(self):
            for batch in super().__iter__():
                now[0] += 0.04
                yield batch

    visualizer, done = Visualizer(options(tmp_path)), progress(1, 0, 100)
    for _ in visualizer.track(Slow(batches(4)), done):
        now[0] += 0.02
        done.total_iters += 2
        if done.total_iters in (104, 108):
            found += visualizer.timing()
            with visualizer.meter.showing():
                now[0] += 0.1  # counted as neither
    assert found == pytest.approx([0.01, 0.02] * 2)


def test_a_terminal_shows_progress_from_where_the_epoch_resumes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := io.StringIO())
    terminal.isatty = lambda: True
    visualizer, done = Visualizer(options(tmp_path)), progress(3, 8, 108)
    for _ in visualizer.track(batches(10), done):
        done.epoch_iter += 2
        if done.epoch_iter == 10:
            time.sleep(0.6)
    assert "epoch 3/3  40%" in terminal.getvalue()
    assert "| 8/20 [" in terminal.getvalue()
    assert re.search(r"10/20 \[00:\d\d<00:\d\d,\s+[\d.]+ images/s, data 0%, display \d+%\]", terminal.getvalue())
    assert "images/s" not in capsys.readouterr().out


def test_translated_images_are_a_bar_on_a_terminal_and_the_reference_s_lines_in_a_file(capsys, monkeypatch):
    def report():
        with TranslationLines(12) as lines:
            for first in range(0, 12, 4):
                lines.show(first, [f"{first + i}.png" for i in range(4)], several=True)

    report()
    lines = [f"processing ({i:04d})-th image... ['{i}.png']" for i in (0, 5, 10)]
    assert capsys.readouterr().out.splitlines() == lines
    monkeypatch.setattr(sys, "stdout", terminal := io.StringIO())
    terminal.isatty = lambda: True
    report()
    assert "\n" not in terminal.getvalue()
    assert "translating" in terminal.getvalue()
    assert "/12 [" in terminal.getvalue()
