"""visdom, Weights & Biases and TensorBoard: what they are shown, and that none of them holds a run up."""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from util.errors import UserError
from util.loggers import visdom
from util.loggers.base import Sink, Step
from util.runtime.run_facts import set_facts
from util.visualizer import Visualizer

SERVER = "from visdom.server.run_server import main; main()"  # `python -m visdom.server` would need a network


def options(folder, **changes):
    """Options of a training run without a page."""
    values = {"checkpoints_dir": str(folder), "name": "exp", "isTrain": True, "no_html": True, "display_id": 1}
    values |= {"display_server": "http://127.0.0.1", "display_port": 1, "display_env": "main", "display_ncols": 4}
    values |= {"use_wandb": False, "wandb_project_name": "project", "gpu_ids": [], "max_dataset_size": float("inf")}
    return argparse.Namespace(**values | changes)


def image(value, height=8, width=8, count=1):
    return torch.full((count, 3, height, width), float(value))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, endpoint, method="POST", **body):
    data = json.dumps(body).encode() if method == "POST" else None
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{endpoint}", data, kind, method=method)
    with urllib.request.urlopen(request, timeout=5) as reply:
        return json.loads(reply.read())


@contextlib.contextmanager
def visdom_server(folder):
    """A real server on this machine alone; yields its process and port."""
    port = free_port()
    words = [sys.executable, "-c", SERVER, "-port", str(port), "-bind_local", "-env_path", str(folder)]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, env={**os.environ, "HOME": str(folder)}, **silent)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                ask(port, "env_state")
                break
            time.sleep(0.1)
        yield process, port
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with visdom_server(tmp_path_factory.mktemp("visdom")) as (_, port):
        yield port


def window(port, number, env="main"):
    return ask(port, "win_data", win=str(number), eid=env)


def picture(content):
    return np.array(Image.open(io.BytesIO(base64.b64decode(content["src"].partition(",")[2]))))


def test_visdom_draws_every_loss_at_its_epoch(tmp_path, server, capsys):
    visualizer = Visualizer(options(tmp_path, display_port=server, display_id=10))
    assert capsys.readouterr().out == f"visdom: showing this run at http://127.0.0.1:{server}\n"
    assert visualizer.vis is not None
    for epoch in (1, 2):
        for ratio in (0.25, 0.75):
            visualizer.plot_current_losses(epoch, ratio, {"G_GAN": epoch + ratio, "D": -1.0})
    visualizer.close()
    drawn = window(server, 10)
    assert drawn["title"] == "exp loss over time"
    traces = {trace["name"]: trace for trace in drawn["content"]["data"]}
    assert list(traces) == ["G_GAN", "D"]
    assert traces["G_GAN"]["x"] == traces["G_GAN"]["y"] == [1.25, 1.75, 2.25, 2.75]
    assert traces["D"]["y"] == [-1.0] * 4


def test_visdom_draws_a_single_loss_and_goes_on_after_a_gap(tmp_path, server):
    visualizer = Visualizer(options(tmp_path, display_port=server, display_id=20))
    visualizer.set_dataset_size(100)
    for total_iters, loss in ((50, 1.0), (100, float("nan")), (150, 3.0)):
        visualizer.plot_current_losses(total_iters, {"G": loss})
    visualizer.close()
    (trace,) = window(server, 20)["content"]["data"]
    assert trace["name"] == "G"
    assert trace["x"] == [1.5, 2.0, 2.5]
    assert trace["y"] == [1.0, None, 3.0]


def test_visdom_shows_all_images_in_one_window_with_their_labels(tmp_path, server):
    visualizer = Visualizer(options(tmp_path, display_port=server, display_id=30, display_ncols=2, display_env="mine"))
    visuals = {"real_A": image(-1), "<fake>": image(0, 16, 16), "rec": image(1, count=2)}
    visualizer.display_current_results(visuals, 1, 100, False)
    visualizer.close()
    shown = window(server, 31, "mine")
    assert shown["title"] == "exp images"
    assert shown["content"]["caption"] == "real_A, <fake>, rec, rec 1"
    pixels = picture(shown["content"])
    assert (pixels == 127).all(axis=2).sum() >= 256
    assert "<td>real_A</td><td>&lt;fake&gt;</td></tr><tr><td>rec</td>" in window(server, 32, "mine")["content"]


def test_visdom_shows_each_image_in_its_own_window_on_demand(tmp_path, server):
    visualizer = Visualizer(options(tmp_path, display_port=server, display_id=40, display_ncols=0))
    visualizer.display_current_results({"real_A": image(0), "fake_B": image(1, 4, 6)}, 1, 100, False)
    visualizer.close()
    assert window(server, 41)["title"] == "real_A"
    assert np.array_equal(picture(window(server, 42)["content"]), np.full((4, 6, 3), 255))


def test_visdom_tells_what_the_run_is_and_nothing_of_it_runs(tmp_path, server):
    hostile = "<img src=x onerror=alert(1)>"
    words = ["--name", hostile, "--ngf", "8"]
    opt = options(tmp_path, display_port=server, display_id=50, name=hostile, model="pix2pix", ngf=8)
    set_facts(opt, words=tuple(words), typed=frozenset(["name", "ngf"]), differing={"ngf": (8, 64)})
    Visualizer(opt).close()
    shown = window(server, "50 run")
    assert shown["title"] == f"{hostile} run"
    assert "<h4>&lt;img src=x onerror=alert(1)&gt;</h4>" in shown["content"]
    assert "train.py --name &#x27;&lt;img src=x onerror=alert(1)&gt;&#x27; --ngf 8</code>" in shown["content"]
    for name, value in {"model": "pix2pix", "ngf": "8", "PyTorch": torch.__version__}.items():
        assert f"<tr><td>{name}&emsp;</td><td>{value}</td></tr>" in shown["content"]
    assert "<img" not in shown["content"]


def test_visdom_draws_each_metric_and_the_validation_images(tmp_path, server):
    visualizer = Visualizer(options(tmp_path, display_port=server, display_id=60))
    for epoch in (1, 2):
        samples = {
            "real_A": [np.zeros((8, 8, 3), np.uint8)],
            "fake_B": [np.full((8, 8, 3), (90 * epoch, 0, 0), np.uint8)],
        }
        visualizer.display_validation(epoch, 100 * epoch, {"psnr": 20.0 + epoch, "l1": 0.5}, samples)
    visualizer.close()
    drawn = window(server, "60 validation/psnr")
    assert drawn["title"] == "exp validation/psnr"
    (trace,) = drawn["content"]["data"]
    assert (trace["name"], trace["x"], trace["y"]) == ("validation/psnr", [2.0, 3.0], [21.0, 22.0])
    assert window(server, "60 validation/l1")["content"]["data"][0]["y"] == [0.5, 0.5]
    images = window(server, "60 validation")
    assert images["title"] == "exp validation, after epoch 2"
    assert images["content"]["caption"] == "real_A, fake_B"
    assert (picture(images["content"]) == (180, 0, 0)).all(axis=2).sum() == 64


def test_visdom_goes_on_with_the_curves_of_a_run_that_goes_on(tmp_path, server):
    for start, points in ((0, (50, 100, 150)), (100, (150, 200))):
        changes = {"display_port": server, "display_id": 70, "continue_train": start > 0}
        visualizer = Visualizer(options(tmp_path, **changes))
        visualizer.set_dataset_size(100)
        visualizer.resume(argparse.Namespace(epoch=1 + start // 100, epoch_iter=0, total_iters=start))
        visualizer.progress = None
        for total_iters in points:
            visualizer.plot_current_losses(total_iters, {"G": total_iters + start / 1000, "D": float("nan")})
        visualizer.display_validation(1 + start // 100, start + 100, {"psnr": 20.0}, {})
        visualizer.close()
    traces = {trace["name"]: trace for trace in window(server, 70)["content"]["data"]}
    assert traces["G"]["x"] == [1.5, 2.0, 2.5, 3.0]
    assert traces["G"]["y"] == [50, 100, 150.1, 200.1]
    assert traces["D"]["y"] == [None] * 4
    assert window(server, "70 validation/psnr")["content"]["data"][0]["x"] == [2.0, 3.0]
    other = Visualizer(options(tmp_path, display_port=server, display_id=70, name="other", continue_train=True))
    other.resume(argparse.Namespace(epoch=9, epoch_iter=0, total_iters=800))
    other.plot_current_losses(9, 0.5, {"G": 1.0, "D": 1.0})
    other.close()
    assert window(server, 70)["content"]["data"][0]["x"] == [9.5]


def test_visdom_draws_the_learning_rate_in_a_window_of_its_own(tmp_path, server):
    visualizer = Visualizer(options(tmp_path, display_port=server, display_id=80))
    visualizer.set_dataset_size(100)
    net = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.25)
    visualizer.resume(argparse.Namespace(epoch=1, epoch_iter=50, total_iters=50), [optimizer])
    visualizer.plot_current_losses(50, {"G": 1.0})
    visualizer.close()
    (trace,) = window(server, "80 lr")["content"]["data"]
    assert (trace["name"], trace["x"], trace["y"]) == ("lr", [1.5], [0.25])


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_dies_or_hangs_costs_one_warning_and_no_time(tmp_path, capsys, blow):
    with visdom_server(tmp_path / "visdom") as (process, port):
        visualizer = Visualizer(options(tmp_path, display_port=port))
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
        for step in range(200):
            visualizer.plot_current_losses(3, step / 200, {"G": 1.0})
        begin = time.perf_counter()
        visualizer.close()
        assert time.perf_counter() - begin < 0.5
    out = capsys.readouterr().out
    assert out.count("warning: visdom") == 1
    assert f"http://127.0.0.1:{port} failed" in out
    assert len(out.splitlines()) == 2


def test_the_end_of_a_run_waits_two_seconds_at_most(tmp_path, monkeypatch):
    asleep = argparse.Namespace(line=lambda **_: time.sleep(60))
    monkeypatch.setattr(visdom, "connect", lambda *_: asleep)
    sink = visdom.VisdomSink(options(tmp_path), lambda line: None)
    for n in range(100):
        sink.losses(Step(1, n, float(n)), {"G": 1.0})
    begin = time.perf_counter()
    sink.close()
    assert time.perf_counter() - begin < 2.5
    assert sink.thread.daemon  # so that the program ends all the same


def test_without_a_server_one_line_says_so_at_once(tmp_path, capsys):
    begin = time.perf_counter()
    visualizer = Visualizer(options(tmp_path, display_port=free_port()))
    assert time.perf_counter() - begin < 1.5
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"visdom: no server at http://127.0.0.1:{visualizer.port} (start one with")
    assert visualizer.vis is None
    assert not any(isinstance(sink, visdom.VisdomSink) for _, sink in visualizer.sinks)


def test_a_server_that_never_answers_costs_a_second(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        begin = time.perf_counter()
        visualizer = Visualizer(options(tmp_path, display_port=mute.getsockname()[1]))
        assert time.perf_counter() - begin < 2
    assert visualizer.vis is None
    assert "visdom: no server at" in capsys.readouterr().out


def test_display_id_minus_one_does_not_even_look(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(visdom, "connect", lambda *_: pytest.fail("looked for a server"))
    Visualizer(options(tmp_path, display_id=-1))
    assert capsys.readouterr().out == ""


def test_tensorboard_gets_losses_and_images_under_their_names(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    visualizer = Visualizer(options(tmp_path, display_id=-1, use_tensorboard=True))
    for total_iters in (100, 200, 300):
        visualizer.plot_current_losses(total_iters, {"G_GAN": total_iters / 8, "D": 0.5})
    visualizer.display_current_results({"fake_B": image(0, 4, 6, count=2)}, 1, 300, False)
    visualizer.close()
    resumed = Visualizer(options(tmp_path, display_id=-1, use_tensorboard=True, continue_train=True))
    resumed.resume(argparse.Namespace(epoch=1, epoch_iter=200, total_iters=200))
    resumed.plot_current_losses(300, {"G_GAN": 1.0})
    resumed.close()
    log = event_accumulator.EventAccumulator(str(tmp_path / "exp" / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in log.Scalars("G_GAN")] == [(100, 12.5), (200, 25.0), (300, 1.0)]
    assert [(event.step, event.value) for event in log.Scalars("D")] == [(100, 0.5), (200, 0.5)]


def test_tensorboard_gets_images(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    visualizer = Visualizer(options(tmp_path, display_id=-1, use_tensorboard=True))
    visualizer.display_current_results({"fake_B": image(0, 4, 6, count=2)}, 1, 300, False)
    samples = {"fake_B": [np.full((height, 6, 3), 255, np.uint8) for height in (4, 8)]}  # their sizes differ
    visualizer.display_validation(1, 300, {"psnr": 21.5}, samples)
    visualizer.close()
    log = event_accumulator.EventAccumulator(str(tmp_path / "exp" / "tensorboard")).Reload()
    (event,) = log.Images("results/fake_B")
    assert event.step == 300
    assert np.array_equal(png(event), np.full((4, 12, 3), 127))
    (event,) = log.Images("validation/fake_B")
    assert png(event).shape == (8, 12, 3)
    assert (png(event)[4:, :6] == 128).all()
    assert (png(event) == 255).all(axis=2).sum() == 4 * 6 + 8 * 6
    assert [(event.step, event.value) for event in log.Scalars("validation/psnr")] == [(300, 21.5)]
    assert b"wandb_project_name: project" in log.Tensors("options/text_summary")[0].tensor_proto.string_val[0]


def png(event):
    return np.array(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))


def test_tensorboard_shows_the_options_as_hparams_of_the_run_itself(tmp_path):
    pytest.importorskip("tensorboard")
    for lr in (0.5, 0.25):
        opt = options(tmp_path, name=f"lr{lr}", display_id=-1, use_tensorboard=True, lr=lr, norm="batch", seed=None)
        visualizer = Visualizer(opt)
        visualizer.display_validation(1, 100, {"psnr": 40 * lr}, {})
        visualizer.close()
    with tensorboard_server(tmp_path) as port:
        assert sorted(ask(port, "data/runs", method="GET")) == ["lr0.25/tensorboard", "lr0.5/tensorboard"]
        experiment = ask(port, "data/plugin/hparams/experiment", experimentName="")
        infos = {info["name"]: info for info in experiment["hparamInfos"]}
        assert infos["lr"]["differs"]
        assert infos["norm"]["type"] == "DATA_TYPE_STRING"
        assert infos["use_wandb"]["type"] == "DATA_TYPE_BOOL"
        assert {info["name"]["tag"] for info in experiment["metricInfos"]} == {"validation/psnr"}
        columns = [{"metric": {"group": "", "tag": "validation/psnr"}, "order": "ORDER_DESC"}]
        wanted = {"colParams": columns, "sliceSize": 10, "aggregationType": "AGGREGATION_AVG"}
        wanted["allowedStatuses"] = ["STATUS_UNKNOWN"]
        groups = ask(port, "data/plugin/hparams/session_groups", **wanted)["sessionGroups"]
    assert [group["hparams"]["lr"] for group in groups] == [0.5, 0.25]
    assert [group["metricValues"][0]["value"] for group in groups] == [20, 10]
    assert groups[0]["hparams"]["max_dataset_size"] == "inf"
    assert groups[0]["hparams"]["no_html"] is True


@contextlib.contextmanager
def tensorboard_server(folder):
    """A real server on this machine alone; yields its port."""
    port = free_port()
    words = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*words, "--host", "127.0.0.1", "--load_fast", "false"], **silent)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                if ask(port, "data/runs", method="GET"):
                    break
            time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


def log_offline(folder, code):
    """Run Python in `folder` with a W&B that has no key and no network; return the process and what it logged."""
    pytest.importorskip("wandb")
    paths = [str(ROOT / "tests"), str(Path(__file__).parent)]
    begin = f"import sys; sys.path[:0] = {paths}; from test_dashboards import *\n"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    env = kept | {"HOME": str(folder), "NETRC": str(folder / "none"), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", begin + code]
    silent = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run(words, cwd=folder, env=env, timeout=120, check=False, **silent)
    assert done.returncode == 0, done.stderr
    (file,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    return done, read_wandb(file)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """What W&B and TensorBoard are given of one run; the folder, the process and W&B's records."""
    code = """
from util.pages.document import HTML
from util.visualizer import save_images
visualizer = Visualizer(options(".", display_id=-1, use_wandb=True, use_tensorboard=True, lr=0.5, norm="batch"))
visualizer.set_dataset_size(100)
optimizer = torch.optim.Adam(torch.nn.Linear(1, 1).parameters(), lr=0.5)
visualizer.resume(argparse.Namespace(epoch=1, epoch_iter=0, total_iters=0), [optimizer])
visualizer.plot_current_losses(100, {"G_GAN": 1.5, "D": 0.25})
visualizer.display_current_results({"real_A": image(1), "fake_B": image(0, 4, 6)}, 1, 100, False)
visualizer.plot_current_losses(200, {"G_GAN": float("nan"), "D": 0.5})
visualizer.display_validation(1, 200, {"psnr": 21.5}, {"fake_B": [np.zeros((h, 6, 3), np.uint8) for h in (4, 8)]})
save_images(HTML("page", "t"), {"fake": image(1)}, ["a.png"], use_wandb=True)
"""
    folder = tmp_path_factory.mktemp("logged")
    return folder, *log_offline(folder, code)


def test_wandb_logs_offline_without_asking_where_there_is_no_key(logged):
    folder, done, records = logged
    assert "wandb: no API key is configured" in done.stdout
    assert len(list((folder / "wandb").glob("offline-run-*/files/media/images/results/fake*.png"))) == 2
    history = rows(records)
    assert [(row["_step"], row["total_iters"], row["D"]) for row in history[:2]] == [(100, 100, 0.25), (200, 200, 0.5)]
    assert history[0]["G_GAN"] == 1.5
    assert history[0]["results/fake_B/filenames"][0].startswith("media/images/results/fake_B_100_")
    assert history[1]["validation/psnr"] == 21.5
    assert history[1]["validation/fake_B/count"] == 2
    assert history[-1]["results/fake/count"] == 1


def test_wandb_is_told_the_options_and_the_axis(logged):
    _, _, records = logged
    settings = {item.key: json.loads(item.value_json) for record in records for item in record.run.config.update}
    assert (settings["lr"], settings["norm"], settings["name"]) == (0.5, "batch", "exp")
    axes = [(record.metric.glob_name, record.metric.step_metric) for record in records if record.HasField("metric")]
    assert ("*", "total_iters") in axes


def test_tensorboard_and_wandb_are_given_the_same_under_the_same_names(logged):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder, _, records = logged
    log = event_accumulator.EventAccumulator(str(folder / "exp" / "tensorboard")).Reload()
    history = {row["_step"]: row for row in rows(records)}
    names = {"G_GAN", "D", "lr", "validation/psnr"}
    assert set(log.Tags()["scalars"]) == names
    for name in names:
        for event in log.Scalars(name):
            assert history[event.step][name] == pytest.approx(event.value, nan_ok=True)
    images = {key.rpartition("/")[0] for step in (100, 200) for key in history[step] if key.endswith("/count")}
    assert (
        images - {"results/fake"}
        == set(log.Tags()["images"])
        == {"results/real_A", "results/fake_B", "validation/fake_B"}
    )


def test_wandb_keeps_what_comes_before_the_last_step_of_a_run_that_is_joined(tmp_path):
    code = """
import wandb
for start in (0, 100):  # a notebook that trains until 200, and goes on at 100
    visualizer = Visualizer(options(".", display_id=-1, use_wandb=True, continue_train=start > 0))
    visualizer.resume(argparse.Namespace(epoch=1, epoch_iter=0, total_iters=start))
    for total_iters in range(start + 50, 250 + start, 50):
        visualizer.plot_current_losses(total_iters, {"G": total_iters + start / 1000})
    visualizer.close()
"""
    done, records = log_offline(tmp_path, code)
    history = rows(records)
    steps = [row["_step"] for row in history]
    assert steps == sorted(set(steps))
    seen = [(row["total_iters"], row["G"]) for row in history]
    later = [(150, 150.1), (200, 200.1), (250, 250.1), (300, 300.1)]
    assert seen == [(50, 50), (100, 100), (150, 150), (200, 200), *later]
    assert steps[-1] == 300
    assert "step" not in done.stderr  # W&B's warning of what it drops


def rows(records):
    """Return what was logged, a dictionary for each step."""
    items = [record.history.item for record in records if record.HasField("history")]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row} for row in items]


def read_wandb(file):
    """Return the records of a W&B file: 7 bytes, then LevelDB's log format in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data, place, record, records = file.read_bytes(), 7, b"", []
    while place + 7 < len(data):
        if 2**15 - place % 2**15 < 7:  # no header fits into the rest of the block
            place += 2**15 - place % 2**15
        size, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        record += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            records.append(wandb_internal_pb2.Record.FromString(record))
            record = b""
    return records


@pytest.mark.parametrize(("flag", "package"), [("use_wandb", "wandb"), ("use_tensorboard", "tensorboard")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, flag, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"--{flag} needs the package {package} .*pip install {package}"):
        Visualizer(options(tmp_path, display_id=-1, **{flag: True}))


def test_a_failing_dashboard_costs_one_warning(tmp_path, capsys):
    class Broken(Sink):
        def losses(self, step, losses):
            raise OSError(f"no space at {step.total_iters}")

        images = losses

    visualizer = Visualizer(options(tmp_path, display_id=-1))
    visualizer._add_sink("broken", Broken)
    for total_iters in (10, 20):
        visualizer.plot_current_losses(total_iters, {"G": 1.0})
        visualizer.display_current_results({"fake": image(0)}, 1, total_iters, False)
    assert capsys.readouterr().out == "warning: broken: OSError: no space at 10 (the run continues)\n"


def test_a_full_queue_drops_what_is_new(tmp_path, monkeypatch):
    monkeypatch.setattr(visdom, "connect", lambda *_: None)
    sink = visdom.VisdomSink(options(tmp_path), lambda line: None)
    sink.alive = True  # but nobody takes jobs out
    for n in range(100):
        sink.losses(Step(1, n, float(n)), {"G": 1.0})
    assert sink.jobs.qsize() == 32
    assert sink.jobs.get()[1] == 1.0
