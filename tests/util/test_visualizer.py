"""The log, the training page and the progress of a run, in both generations' calls."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import re
import shutil
import sys
import threading
import time

import numpy as np
import pytest
import torch
from conftest import type_command
from PIL import Image

from util.pages.data_file import PageData
from util.pages.results_writer import write_png
from util.visualizer import Visualizer

LOSSES = {"G_GAN": 0.7021, "G_L1": 39.28, "D_real": 0.6864, "D_fake": 0.7195}
LINE = "(epoch: 1, iters: 100, time: 0.035, data: 0.008) G_GAN: 0.702 G_L1: 39.280 D_real: 0.686 D_fake: 0.720 "
HEADER = re.compile(r"={16} Training Loss \(.+\) ={16}")


def options(folder, **changes):
    """Options as a training run has them, without visdom."""
    values = {"checkpoints_dir": str(folder), "name": "exp", "isTrain": True, "no_html": False, "display_id": -1}
    values |= {"display_winsize": 200, "continue_train": False, "n_epochs": 2, "n_epochs_decay": 1, "use_wandb": False}
    return argparse.Namespace(**values | changes)


def progress(epoch=1, epoch_iter=0, total_iters=0):
    return argparse.Namespace(epoch=epoch, epoch_iter=epoch_iter, total_iters=total_iters)


def image(value, count=1, channels=3):
    return torch.full((count, channels, 4, 4), float(value))


class Batches(list):
    """Batches of two items; the length counts the epoch's images, as a data set's does."""

    total = None  # where a part of the epoch is done already

    def __len__(self):
        return self.total or 2 * super().__len__()


def batches(count):
    paths = {f"{k}_paths": [f"/d/{k}0.png", f"/d/{k}1.png"] for k in "AB"}
    return Batches({"A": image(-1, 2), "B": image(1, 2), **paths} for _ in range(count))


def data(folder):
    """The calls in data.js that show something, without times."""
    calls = [(call, values[0]) for call, values in PageData(folder / "exp" / "web").read()]
    return [(call, {**value, "time": 0}) for call, value in calls if call in ("losses", "images", "validation")]


def lines(folder, call):
    """The arguments of one kind of call in data.js."""
    return [values[0] for name, values in PageData(folder / "exp" / "web").read() if name == call]


def table(folder):
    """The rows of metrics.csv."""
    with (folder / "exp" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def train(folder, epochs, start=None, until=None, **changes):
    """Show epochs of 8 images, two a step, displayed each 4 images and saved each 12; stop after `until` images."""
    visualizer = Visualizer(options(folder, continue_train=start is not None, **changes))
    with contextlib.closing(visualizer):
        show(visualizer, start or progress(), epochs, until)


def show(visualizer, done, epochs, until):
    visualizer.resume(done)
    for epoch in range(done.epoch, epochs + 1):
        done.epoch, begun = epoch, done.epoch_iter if epoch == done.epoch else 0
        visualizer.reset()
        dataset = Batches(batches(4)[begun // 2 :])
        dataset.total = 8
        for batch in visualizer.track(dataset, done):
            done.epoch_iter += 2
            done.total_iters += 2
            if done.total_iters % 4 == 0:
                visuals = {"real_A": batch["A"], "fake_B": image(done.total_iters / 100)}
                visualizer.display_current_results(visuals, epoch, done.total_iters, done.total_iters % 3 == 0)
            losses = {"G": done.total_iters / 7, "D": -1.0}
            visualizer.print_current_losses(epoch, done.epoch_iter, losses, *visualizer.timing())
            visualizer.plot_current_losses(done.total_iters, losses)
            if done.total_iters == until:
                return
        done.epoch_iter = 0


def test_the_loss_line_is_the_older_one_to_the_byte_in_console_and_log(tmp_path, capsys):
    visualizer = Visualizer(options(tmp_path, no_html=True))
    visualizer.print_current_losses(1, 100, LOSSES, 0.0351, 0.0079)
    assert capsys.readouterr().out == LINE + "\n"
    header, line, rest = (tmp_path / "exp" / "loss_log.txt").read_text().split("\n")
    assert HEADER.fullmatch(header)
    assert (line, rest) == (LINE, "")
    Visualizer(options(tmp_path, no_html=True))
    lines = (tmp_path / "exp" / "loss_log.txt").read_text().splitlines()
    assert [bool(HEADER.fullmatch(text)) for text in lines] == [True, False, True]


def test_attributes_that_scripts_read_are_there(tmp_path):
    visualizer = Visualizer(options(tmp_path))
    folder = tmp_path / "exp"
    assert visualizer.web_dir == str(folder / "web")
    assert visualizer.img_dir == str(folder / "web" / "images")
    assert visualizer.log_name == str(folder / "loss_log.txt")
    assert (visualizer.name, visualizer.win_size, visualizer.use_html, visualizer.use_wandb) == (
        "exp",
        200,
        True,
        False,
    )
    assert (visualizer.vis, visualizer.saved, visualizer.current_epoch, visualizer.display_id) == (None, False, 0, -1)
    visualizer.create_visdom_connections()
    assert visualizer.vis is None


def test_metrics_hold_every_printed_step(tmp_path):
    visualizer = Visualizer(options(tmp_path))
    visualizer.resume(done := progress(2, 100, 500))
    visualizer.print_current_losses(2, 100, LOSSES, 0.0351, 0.0079)
    done.total_iters = 600
    visualizer.print_current_losses(2, 200, {**LOSSES, "G_L1": float("nan")}, 0.03, 0.01)
    first, second = table(tmp_path)
    assert list(first) == ["epoch", "iters", "total_iters", "time", "data", *LOSSES]
    assert [first[k] for k in ("epoch", "iters", "total_iters")] == ["2", "100", "500"]
    assert float(first["time"]) == 0.0351
    assert float(first["G_L1"]) == 39.28
    assert (second["total_iters"], second["G_L1"]) == ("600", "nan")


def test_a_loss_that_appears_later_gets_a_column(tmp_path):
    visualizer = Visualizer(options(tmp_path))
    visualizer.resume(done := progress(1, 100, 100))
    visualizer.print_current_losses(1, 100, {"G": 1.0}, 0, 0)
    done.total_iters = 200
    visualizer.print_current_losses(1, 200, {"feat, new": 2.0, "G": 3.0}, 0, 0)
    done.total_iters = 300
    visualizer.print_current_losses(1, 300, {"G": 4.0}, 0, 0)
    assert [(row["G"], row["feat, new"]) for row in table(tmp_path)] == [("1", ""), ("3", "2"), ("4", "")]


def test_a_resumed_run_logs_what_an_unbroken_one_does(tmp_path):
    train(tmp_path / "whole", 3)
    train(tmp_path / "broken", 3, until=14)  # the last save was at 10 images: 2 into the second epoch
    log = tmp_path / "broken" / "exp"
    for name, part in (
        ("metrics.csv", "2,4,10,0.1,0.2,1,2"),
        ("web/data.js", 'losses({"total'),
    ):  # killed while it wrote
        with (log / name).open("a") as file:
            file.write(part)
    train(tmp_path / "broken", 3, start=progress(2, 2, 10))
    timeless = [[{**row, "time": "", "data": ""} for row in table(tmp_path / run)] for run in ("whole", "broken")]
    assert timeless[0] == timeless[1]
    assert [int(row["total_iters"]) for row in timeless[0]] == list(range(2, 25, 2))
    assert data(tmp_path / "whole") == data(tmp_path / "broken")
    starts = [value["total_iters"] for value in lines(tmp_path / "broken", "start")]
    assert (starts, len(lines(tmp_path / "broken", "end"))) == ([0, 10], 1)
    files = [
        {f.name: f.read_bytes() for f in (tmp_path / run / "exp/web/images").iterdir()} for run in ("whole", "broken")
    ]
    assert files[0] == files[1]


def test_a_fresh_start_begins_table_and_page_anew_but_keeps_the_log(tmp_path):
    train(tmp_path, 2)
    Visualizer(options(tmp_path, continue_train=True)).print_current_losses(3, 2, {"other": 1.0}, 0, 0)
    name = lines(tmp_path, "begin")
    train(tmp_path, 1)
    assert list(table(tmp_path)[0]) == ["epoch", "iters", "total_iters", "time", "data", "G", "D"]
    assert [row["total_iters"] for row in table(tmp_path)] == ["2", "4", "6", "8"]
    assert lines(tmp_path, "begin") != name
    assert len((tmp_path / "exp" / "loss_log.txt").read_text().splitlines()) == 3 + 8 + 1 + 4


def test_the_page_shows_the_first_images_of_each_epoch_and_those_that_are_saved(tmp_path, capsys):
    train(tmp_path, 3)
    assert f"create web directory {tmp_path / 'exp' / 'web'}...\n" in capsys.readouterr().out
    rows = [value for call, value in data(tmp_path) if call == "images"]
    names = ["epoch001", "epoch002", "epoch003", "epoch003_000000024"]
    assert [row["id"] for row in rows] == names
    assert [(row["epoch"], row["total_iters"]) for row in rows] == [(1, 4), (2, 12), (3, 20), (3, 24)]
    assert {row["width"] for row in rows} == {200}
    assert rows[0]["items"] == [
        [["real_A", "epoch001_real_A.png", 1.0], ["fake_B", "epoch001_fake_B.png", 1.0]],
        [["real_A", "epoch001_real_A_1.png", 1.0]],
    ]
    files = {f"{name}_{label}.png" for name in names for label in ("real_A", "real_A_1", "fake_B")}
    assert {file.name for file in (tmp_path / "exp/web/images").iterdir()} == files
    shown = np.array(Image.open(tmp_path / "exp/web/images/epoch003_000000024_fake_B.png"))
    assert np.array_equal(shown, np.full((4, 4, 3), int((0.24 + 1) / 2 * 255)))


def test_points_of_the_loss_curves_lie_at_shares_of_epochs(tmp_path):
    train(tmp_path, 2)
    points = [value for call, value in data(tmp_path) if call == "losses"]
    assert [(p["total_iters"], p["x"]) for p in points] == [(2 * n, n / 4) for n in range(1, 9)]
    assert points[-1]["losses"] == {"G": pytest.approx(16 / 7, rel=1e-6), "D": -1.0}


def test_a_page_update_costs_the_same_late_as_early(tmp_path):
    visualizer = Visualizer(options(tmp_path))
    web = tmp_path / "exp" / "web"
    document = (web / "index.html").read_bytes()
    sizes = []
    for epoch in (1, 2, 3, 200):
        before = (web / "data.js").stat().st_size
        shutil.rmtree(web / "images")  # older images are not needed, nor looked at
        (web / "images").mkdir()
        visualizer.display_current_results({"fake": image(0)}, epoch, epoch * 10, False)
        visualizer.flush()
        sizes.append((web / "data.js").stat().st_size - before)
        assert [f.name for f in (web / "images").iterdir()] == [f"epoch{epoch:03d}_fake.png"]
    assert max(sizes) - min(sizes) <= 4  # digits
    assert (web / "index.html").read_bytes() == document


def test_the_loop_goes_on_while_images_are_written_and_a_row_is_told_of_once_they_are(tmp_path, monkeypatch):
    go, seen = threading.Event(), []

    def slow(image, path):
        assert go.wait(20)
        seen.append(len(lines(tmp_path, "images")))
        write_png(image, path)

    monkeypatch.setattr("util.pages.training_page.write_png", slow)
    visualizer = Visualizer(options(tmp_path))
    for epoch in (1, 2):
        visualizer.display_current_results({"real": image(0), "fake": image(1)}, epoch, 10 * epoch)
        visualizer.plot_current_losses(10 * epoch, {"G": 1.0})
    assert [call for call, _ in data(tmp_path)] == []
    go.set()
    visualizer.close()
    assert seen == [0, 0, 1, 1]
    assert [call for call, _ in data(tmp_path)] == ["images", "losses"] * 2


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
    assert [call for call, _ in data(tmp_path)] == ["losses"] * 3 + ["images"]


def test_the_learning_rate_and_the_end_are_on_the_page(tmp_path):
    visualizer, done = Visualizer(options(tmp_path, continue_train=True)), progress(2, 4, 12)
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.02)
    visualizer.resume(done, [optimizer])
    visualizer.set_dataset_size(8)
    visualizer.plot_current_losses(12, {"G": 1.0})
    done.epoch = 3
    visualizer.close()
    (point,), (start,), (end,) = (lines(tmp_path, call) for call in ("losses", "start", "end"))
    assert (point["x"], point["lr"], start["epochs"], end["epoch"]) == (1.5, 0.02, 3, 2)


def test_the_page_is_self_contained_and_does_not_reload(tmp_path):
    Visualizer(options(tmp_path))
    text = (tmp_path / "exp/web/index.html").read_text()
    assert "<title>Experiment name = exp</title>" in text
    assert 'http-equiv="refresh"' not in text
    assert "<noscript>" in text
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]  # a name, not an address


def test_hostile_labels_neither_leave_the_folder_nor_the_script(tmp_path):
    visualizer = Visualizer(options(tmp_path))
    visualizer.display_current_results({'</script>/../"x': image(0)}, 1, 10, False)
    visualizer.plot_current_losses(10, {"</script>": 1.0})
    visualizer.close()
    assert "<" not in (tmp_path / "exp/web/data.js").read_text()
    ((label, file, _),) = data(tmp_path)[0][1]["items"][0]
    assert label == '</script>/../"x'
    assert (tmp_path / "exp/web/images" / file).is_file()
    assert "/" not in file


def test_without_html_nothing_is_written_for_it(tmp_path):
    train(tmp_path, 1, no_html=True)
    assert not (tmp_path / "exp/web").exists()
    assert len(table(tmp_path)) == 4


def test_older_calls_mean_what_they_meant(tmp_path):
    visualizer = Visualizer(options(tmp_path))
    for epoch in (1, 2):
        visualizer.reset()
        for step in range(1, 5):
            visualizer.display_current_results({"fake": image(step / 10)}, epoch, step == 3)
            visualizer.plot_current_losses(epoch, step / 4, {"G": step})
            visualizer.print_current_losses(epoch, 2 * step, {"G": step}, 0.1, 0.2)
        assert visualizer.saved
        assert visualizer.current_epoch == epoch
    visualizer.display_current_results({"fake": image(0)}, 2, save_result=True)
    visualizer.flush()
    assert [value["x"] for call, value in data(tmp_path) if call == "losses"] == [n / 4 for n in range(1, 9)]
    rows = [value["id"] for call, value in data(tmp_path) if call == "images"]
    assert [row[:8] for row in rows] == ["epoch001", "epoch001", "epoch002", "epoch002", "epoch002"]
    assert len(set(rows)) == 5
    assert len(table(tmp_path)) == 8


def test_other_processes_say_and_write_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    train(tmp_path, 2, use_wandb=True, use_tensorboard=True, display_id=1, display_server="http://127.0.0.1")
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_testing_needs_no_training_options(tmp_path, capsys):
    visualizer = Visualizer(argparse.Namespace(checkpoints_dir=str(tmp_path), name="exp", isTrain=False))
    visualizer.reset()
    visualizer.display_current_results({"fake": image(0)}, 1, 10, True)
    visualizer.plot_current_losses(10, {"G": 1.0})
    assert (visualizer.use_html, visualizer.vis) == (False, None)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_the_first_batch_is_pictured_once_with_both_domains(tmp_path, capsys):
    train(tmp_path, 2)
    assert capsys.readouterr().out.count("first_batch.png") == 1
    sheet = np.array(Image.open(tmp_path / "exp" / "first_batch.png"))
    black = (sheet == 0).all(axis=2).sum(axis=0) >= 8  # A: two pictures, 4 pixels high and wide
    assert black.sum() >= 4


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_the_first_batch_is_pictured_whatever_its_channels(tmp_path, channels):
    visualizer = Visualizer(options(tmp_path))
    batch = {"A": torch.rand(12, channels, 64, 128), "mask": torch.ones(12), "A_paths": ["/d/ünï.png"] * 12}
    assert list(visualizer.track(Batches([batch]), progress())) == [batch]
    size = (2 if channels == 2 else 1) * 128 + 2 * 6, 8 * (64 + 14) + 9 * 6  # eight items, each under a line of text
    assert Image.open(tmp_path / "exp" / "first_batch.png").size == size


def test_a_batch_without_images_is_not_pictured(tmp_path):
    visualizer = Visualizer(options(tmp_path))
    assert list(visualizer.track(Batches([[1, 2]]), progress())) == [[1, 2]]
    assert not (tmp_path / "exp" / "first_batch.png").exists()


def test_times_are_averages_an_image_since_the_last_call(tmp_path):
    class Slow(Batches):
        def __iter__(self):
            for batch in super().__iter__():
                time.sleep(0.04)
                yield batch

    visualizer, done = Visualizer(options(tmp_path)), progress()
    list(visualizer.track(batches(2), done))  # the first batch's picture is behind us
    done.total_iters = 100
    visualizer.timing()
    found = []
    for _ in visualizer.track(Slow(batches(4)), done):
        time.sleep(0.02)
        done.total_iters += 2
        if done.total_iters in (104, 108):
            found.append(visualizer.timing())
            with visualizer.meter.showing():
                time.sleep(0.1)  # counted as neither
    for compute, waiting in found:
        assert 0.01 <= compute < 0.02
        assert 0.02 <= waiting < 0.03


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self):
        return True


def test_a_terminal_shows_progress_from_where_the_epoch_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    visualizer, done = Visualizer(options(tmp_path)), progress(3, 8, 108)
    for _ in visualizer.track(batches(10), done):
        done.epoch_iter += 2
        if done.epoch_iter == 10:
            time.sleep(0.6)
    assert "epoch 3/3  40%" in terminal.getvalue()
    assert "| 8/20 [" in terminal.getvalue()
    assert re.search(r"10/20 \[00:00<00:\d\d,\s+[\d.]+ images/s, data 0%, display \d+%\]", terminal.getvalue())
    assert "images/s" not in capsys.readouterr().out


def test_a_file_gets_plain_lines(tmp_path, capsys):
    train(tmp_path, 1)
    out, err = capsys.readouterr()
    assert {line.split(" has a ")[1] for line in err.splitlines()} == {
        "single colour (A): instance norm can't scale it",
        "single colour (B): instance norm can't scale it",
    }
    assert "\r" not in out
    assert len(out.splitlines()) == 2 + 4  # the web folder, the first batch, four times losses


def test_a_failing_page_costs_one_warning_and_no_run(tmp_path, capsys):
    visualizer = Visualizer(options(tmp_path))
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
    assert len(out.splitlines()) == 5


def test_showing_needs_no_dashboard_package():
    code = "import sys, util.visualizer; print({'wandb', 'tensorboard', 'visdom'} & set(sys.modules))"
    assert type_command("-c", code).stdout == "set()\n"
