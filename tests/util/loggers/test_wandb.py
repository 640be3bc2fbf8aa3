"""Weights & Biases: an offline run, read back from its file, and compared with TensorBoard's."""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
from argparse import Namespace

import numpy as np
import pytest
from logged_run import image, logger_options, optimizer, progress

from util.pages.document import HTML
from util.visualizer import Visualizer, save_images

wandb = pytest.importorskip("wandb")


def log_a_run():
    """Log two steps of a run, then resume it from the first within the same process, as a notebook does."""
    visualizer = Visualizer(logger_options(".", use_wandb=True, use_tensorboard=True, lr=0.5, norm="batch"))
    visualizer.set_dataset_size(100)
    visualizer.resume(progress(), [optimizer(0.5)])
    visualizer.plot_current_losses(100, {"G_GAN": 1.5, "D": 0.25})
    visualizer.display_current_results({"real_A": image(1), "fake_B": image(0, 4, 6)}, 1, 100, False)
    visualizer.plot_current_losses(200, {"G_GAN": float("nan"), "D": 0.5})
    samples = {"fake_B": [np.zeros((height, 6, 3), np.uint8) for height in (4, 8)]}
    visualizer.display_validation(1, 200, {"psnr": 21.5}, samples)
    save_images(HTML("page", "t"), {"fake": image(1)}, ["a.png"], use_wandb=True)
    visualizer.close()
    resumed = Visualizer(logger_options(".", name="resumed", use_wandb=True, continue_train=True))
    resumed.resume(progress(1, 0, 100))
    for total_iters in (150, 200, 250, 300):
        resumed.plot_current_losses(total_iters, {"G": total_iters + 0.1})
    resumed.close()


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """One run of W&B without a key and a network: its folder, output, records, and values of each step."""
    folder, printed = tmp_path_factory.mktemp("logged"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        for name in [name for name in os.environ if name.startswith("WANDB")]:
            patch.delenv(name)
        for name, value in {"HOME": folder, "NETRC": folder / "none", "WANDB_CONSOLE": "off"}.items():
            patch.setenv(name, str(value))
        patch.chdir(folder)
        log_a_run()
        wandb.finish()
        wandb.teardown()
    (file,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    records = read_records(file)
    items = [record.history.item for record in records if record.HasField("history")]
    steps = [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row} for row in items]
    return Namespace(folder=folder, printed=printed.getvalue(), records=records, steps=steps)


def read_records(file):
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


def test_without_a_key_it_logs_offline_and_asks_nothing(logged):
    assert "wandb: no API key is configured" in logged.printed
    assert len(list(logged.folder.glob("wandb/offline-run-*/files/media/images/results/fake*.png"))) == 2
    first, second = logged.steps[:2]
    assert [(row["_step"], row["total_iters"], row["D"]) for row in (first, second)] == [
        (100, 100, 0.25),
        (200, 200, 0.5),
    ]
    assert (first["G_GAN"], first["D"], second["D"]) == (1.5, 0.25, 0.5)
    assert first["results/fake_B/filenames"][0].startswith("media/images/results/fake_B_100_")
    assert (second["validation/psnr"], second["validation/fake_B/count"]) == (21.5, 2)
    assert any(row.get("results/fake/count") == 1 for row in logged.steps)


def test_the_run_has_the_options_and_total_iters_as_its_axis(logged):
    settings = {item.key: json.loads(item.value_json) for record in logged.records for item in record.run.config.update}
    assert (settings["lr"], settings["norm"], settings["name"]) == (0.5, "batch", "exp")
    axes = [(record.metric.glob_name, record.metric.step_metric) for record in logged.records]
    assert ("*", "total_iters") in axes


def test_tensorboard_and_wandb_get_the_same_values_under_the_same_names(logged):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = event_accumulator.EventAccumulator(str(logged.folder / "exp" / "tensorboard")).Reload()
    steps = {row["_step"]: row for row in logged.steps[:2]}
    names = {"G_GAN", "D", "lr", "validation/psnr"}
    assert set(log.Tags()["scalars"]) == names
    for name in names:
        for event in log.Scalars(name):
            assert steps[event.step][name] == pytest.approx(event.value, nan_ok=True)
    images = {key.rpartition("/")[0] for row in steps.values() for key in row if key.endswith("/count")}
    assert images - {"results/fake"} == set(log.Tags()["images"])
    assert set(log.Tags()["images"]) == {"results/real_A", "results/fake_B", "validation/fake_B"}


def test_a_run_that_is_joined_keeps_the_steps_before_its_last_one(logged):
    numbers = [row["_step"] for row in logged.steps]
    assert numbers == sorted(set(numbers))
    resumed = [(row["total_iters"], row["G"]) for row in logged.steps if "G" in row]
    assert resumed == [(150, 150.1), (200, 200.1), (250, 250.1), (300, 300.1)]
    assert numbers[-1] == 300
