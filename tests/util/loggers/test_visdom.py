"""visdom's windows, and a server that is missing, hangs or dies."""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from logged_run import ask, image, logger_options, optimizer, progress
from PIL import Image

from util.loggers import visdom
from util.loggers.base import Step
from util.runtime.run_facts import Options, set_facts
from util.visualizer import Visualizer

SERVER = "from visdom.server.run_server import main; main()"  # `python -m visdom.server` would need a network


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real server on this machine alone: its process and port."""
    folder, port = tmp_path_factory.mktemp("visdom"), free_port()
    words = [sys.executable, "-c", SERVER, "-port", str(port), "-bind_local", "-env_path", str(folder)]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, env={**os.environ, "HOME": str(folder)}, **silent)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                ask(port, "env_state")
                break
            time.sleep(0.1)
        yield process, port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def start(tmp_path, server):
    """Make a visualizer that draws from window `display_id` on."""
    return lambda display_id, **changes: Visualizer(
        logger_options(tmp_path, display_port=server[1], display_id=display_id, **changes)
    )


@pytest.fixture
def window(server):
    """Read a window."""
    return lambda name, env="main": ask(server[1], "win_data", win=str(name), eid=env)


def curves(drawn):
    return {trace["name"]: (trace["x"], trace["y"]) for trace in drawn["content"]["data"]}


def picture(drawn):
    return np.array(Image.open(io.BytesIO(base64.b64decode(drawn["content"]["src"].partition(",")[2]))))


def test_every_loss_is_drawn_at_its_epoch_and_the_learning_rate_in_another_window(start, window, server, capsys):
    visualizer = start(10)
    assert capsys.readouterr().out == f"visdom: showing this run at http://127.0.0.1:{server[1]}\n"
    assert visualizer.vis is not None
    for epoch in (1, 2):
        for ratio in (0.25, 0.75):
            visualizer.plot_current_losses(epoch, ratio, {"G_GAN": epoch + ratio, "D": -1.0})
    visualizer.close()
    drawn = window(10)
    assert drawn["title"] == "exp loss over time"
    x = [1.25, 1.75, 2.25, 2.75]
    assert curves(drawn) == {"G_GAN": (x, x), "D": (x, [-1.0] * 4)}

    visualizer = start(20)
    visualizer.set_dataset_size(100)
    visualizer.resume(done := progress(), [optimizer(0.25)])
    for done.epoch, done.epoch_iter, loss in ((1, 50, 1.0), (2, 0, float("nan")), (2, 50, 3.0)):
        visualizer.plot_current_losses(100, {"G": loss})
    visualizer.close()
    assert curves(window(20)) == {"G": ([1.5, 2.0, 2.5], [1.0, None, 3.0])}
    assert curves(window("20 lr")) == {"lr": ([1.5, 2.0, 2.5], [0.25] * 3)}


def test_all_images_are_in_one_window_with_their_labels(start, window):
    visualizer = start(30, display_ncols=2, display_env="mine")
    visuals = {"real_A": image(-1), "<fake>": image(0, 16, 16), "rec": image(1, count=2)}
    visualizer.display_current_results(visuals, 1, 100, False)
    visualizer.close()
    drawn = window(31, "mine")
    assert (drawn["title"], drawn["content"]["caption"]) == ("exp images", "real_A, <fake>, rec, rec 1")
    assert (picture(drawn) == 127).all(axis=2).sum() >= 256
    assert "<td>real_A</td><td>&lt;fake&gt;</td></tr><tr><td>rec</td>" in window(32, "mine")["content"]


def test_each_image_has_its_own_window_on_demand(start, window):
    visualizer = start(40, display_ncols=0)
    visualizer.display_current_results({"real_A": image(0), "fake_B": image(1, 4, 6)}, 1, 100, False)
    visualizer.close()
    assert window(41)["title"] == "real_A"
    assert np.array_equal(picture(window(42)), np.full((4, 6, 3), 255))


def test_a_window_describes_the_run_and_its_text_can_not_run_as_a_script(tmp_path, server, window):
    hostile = "<img src=x onerror=alert(1)>"
    opt = logger_options(tmp_path, display_port=server[1], display_id=50, name=hostile, model="pix2pix", ngf=8)
    opt = Options(**vars(opt))
    words = ("--name", hostile, "--ngf", "8")
    set_facts(opt, words=words, typed=frozenset(["name", "ngf"]), differing={"ngf": (8, 64)})
    Visualizer(opt).close()
    shown = window("50 run")
    assert shown["title"] == f"{hostile} run"
    assert "<h4>&lt;img src=x onerror=alert(1)&gt;</h4>" in shown["content"]
    assert "train.py --name &#x27;&lt;img src=x onerror=alert(1)&gt;&#x27; --ngf 8</code>" in shown["content"]
    for name, value in {"model": "pix2pix", "ngf": "8", "PyTorch": torch.__version__}.items():
        assert f"<tr><td>{name}&emsp;</td><td>{value}</td></tr>" in shown["content"]
    assert "<img" not in shown["content"]


def test_each_metric_and_the_validation_images_have_their_windows(start, window):
    visualizer = start(60)
    for epoch, color in ((1, (90, 0, 0)), (2, (180, 0, 0))):
        samples = {"real_A": [np.zeros((8, 8, 3), np.uint8)], "fake_B": [np.full((8, 8, 3), color, np.uint8)]}
        visualizer.display_validation(epoch, 100 * epoch, {"psnr": 20.0 + epoch, "l1": 0.5}, samples)
    visualizer.close()
    drawn = window("60 validation/psnr")
    assert drawn["title"] == "exp validation/psnr"
    assert curves(drawn) == {"validation/psnr": ([2.0, 3.0], [21.0, 22.0])}
    assert curves(window("60 validation/l1"))["validation/l1"][1] == [0.5, 0.5]
    drawn = window("60 validation")
    assert (drawn["title"], drawn["content"]["caption"]) == ("exp validation, after epoch 2", "real_A, fake_B")
    assert (picture(drawn) == (180, 0, 0)).all(axis=2).sum() == 64


def test_the_curves_of_a_resumed_run_continue(start, window):
    for begin, points in ((0, (50, 100, 150)), (100, (150, 200))):
        visualizer = start(70, continue_train=begin > 0)
        visualizer.set_dataset_size(100)
        visualizer.resume(progress(1 + begin // 100, 0, begin))
        visualizer.progress = None
        for total_iters in points:
            visualizer.plot_current_losses(total_iters, {"G": total_iters + begin / 1000, "D": float("nan")})
        visualizer.display_validation(1 + begin // 100, begin + 100, {"psnr": 20.0}, {})
        visualizer.close()
    x = [1.5, 2.0, 2.5, 3.0]
    assert curves(window(70)) == {"G": (x, [50, 100, 150.1, 200.1]), "D": (x, [None] * 4)}
    assert curves(window("70 validation/psnr"))["validation/psnr"][0] == [2.0, 3.0]
    other = start(70, name="other", continue_train=True)
    other.resume(progress(9, 0, 800))
    other.plot_current_losses(9, 0.5, {"G": 1.0, "D": 1.0})
    other.close()
    assert curves(window(70))["G"][0] == [9.5]  # another run's curves are replaced


def test_without_a_server_one_line_reports_it_at_once(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as mute:  # one that never answers
        for port in (free_port(), mute.getsockname()[1]):
            begin = time.perf_counter()
            visualizer = Visualizer(logger_options(tmp_path, display_id=1, display_port=port))
            assert time.perf_counter() - begin < 2
            (line,) = capsys.readouterr().out.splitlines()
            assert line.startswith(f"visdom: no server at http://127.0.0.1:{port} (start one with")
            assert visualizer.vis is None
            assert not any(isinstance(sink, visdom.VisdomSink) for _, sink in visualizer.sinks)


def test_display_id_minus_one_does_not_look_for_a_server(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(visdom, "connect", lambda *_: pytest.fail("looked for a server"))
    Visualizer(logger_options(tmp_path))
    assert capsys.readouterr().out == ""


def test_a_full_queue_drops_new_entries_and_the_end_of_a_run_waits_two_seconds_at_most(tmp_path, monkeypatch):
    slow = argparse.Namespace(line=lambda **_: time.sleep(60))
    monkeypatch.setattr(visdom, "connect", lambda *_: slow)
    sink = visdom.VisdomSink(logger_options(tmp_path), lambda line: None)
    begin = time.perf_counter()
    for n in range(100):
        sink.losses(Step(1, n, float(n)), {"G": 1.0})
    assert time.perf_counter() - begin < 0.5
    assert sink.jobs.qsize() == 32
    sink.close()
    assert time.perf_counter() - begin < 3
    assert sink.thread.daemon  # so the program can end


@pytest.mark.parametrize("blow", [signal.SIGSTOP, signal.SIGKILL])  # the last test: it kills the server
def test_a_server_that_hangs_or_dies_costs_one_warning_and_no_time(start, server, capsys, blow):
    process, port = server
    visualizer = start(90)
    sink = next(sink for _, sink in visualizer.sinks if isinstance(sink, visdom.VisdomSink))
    visualizer.plot_current_losses(1, 0.5, {"G": 1.0})
    time.sleep(0.3)
    process.send_signal(blow)
    begin = time.perf_counter()
    for step in range(200):
        visualizer.plot_current_losses(2, step / 200, {"G": 1.0})
        visualizer.display_current_results({"fake": image(0, 4, 4)}, 2, step, False)
    assert time.perf_counter() - begin < 1
    sink.thread.join(timeout=5)
    begin = time.perf_counter()
    visualizer.plot_current_losses(3, 0.5, {"G": 1.0})
    visualizer.close()
    assert time.perf_counter() - begin < 0.5
    process.send_signal(signal.SIGCONT)
    _, warning = capsys.readouterr().out.splitlines()
    assert warning.startswith(f"warning: visdom: the server at http://127.0.0.1:{port} failed")
