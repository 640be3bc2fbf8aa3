"""TensorBoard: event files, and the HPARAMS tab."""

from __future__ import annotations

import io
import logging
import sys

import numpy as np
import pytest
from logged_run import ask, image, logger_options, progress
from PIL import Image

from util.errors import UserError
from util.visualizer import Visualizer

pytest.importorskip("tensorboard")
from tensorboard import program
from tensorboard.backend.event_processing import event_accumulator


def png(event):
    return np.array(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))


def test_losses_images_scores_and_options_are_logged_and_a_resumed_run_replaces_repeated_steps(tmp_path):
    visualizer = Visualizer(logger_options(tmp_path, use_tensorboard=True))
    for total_iters in (100, 200, 300):
        visualizer.plot_current_losses(total_iters, {"G_GAN": total_iters / 8, "D": 0.5})
    visualizer.close()
    resumed = Visualizer(logger_options(tmp_path, use_tensorboard=True, continue_train=True))
    resumed.resume(progress(1, 200, 200))
    resumed.plot_current_losses(300, {"G_GAN": 1.0})
    resumed.display_current_results({"fake_B": image(0, 4, 6, count=2)}, 1, 300, False)
    samples = {"fake_B": [np.full((height, 6, 3), 255, np.uint8) for height in (4, 8)]}  # their sizes differ
    resumed.display_validation(1, 300, {"psnr": 21.5}, samples)
    resumed.close()
    log = event_accumulator.EventAccumulator(str(tmp_path / "exp" / "tensorboard")).Reload()
    scalars = {name: [(event.step, event.value) for event in log.Scalars(name)] for name in log.Tags()["scalars"]}
    assert scalars == {
        "G_GAN": [(100, 12.5), (200, 25.0), (300, 1.0)],
        "D": [(100, 0.5), (200, 0.5)],
        "validation/psnr": [(300, 21.5)],
    }
    (event,) = log.Images("results/fake_B")
    assert event.step == 300
    assert np.array_equal(png(event), np.full((4, 12, 3), 127))
    (event,) = log.Images("validation/fake_B")
    assert png(event).shape == (8, 12, 3)
    assert (png(event)[4:, :6] == 128).all()
    assert (png(event) == 255).all(axis=2).sum() == 4 * 6 + 8 * 6
    assert b"wandb_project_name: project" in log.Tensors("options/text_summary")[0].tensor_proto.string_val[0]


def test_the_hparams_tab_compares_options_and_scores_of_experiments(tmp_path):
    for lr in (0.5, 0.25):
        opt = logger_options(tmp_path, name=f"lr{lr}", use_tensorboard=True, lr=lr, norm="batch", seed=None)
        visualizer = Visualizer(opt)
        visualizer.display_validation(1, 100, {"psnr": 40 * lr}, {})
        visualizer.close()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    board = program.TensorBoard()
    board.configure(logdir=str(tmp_path), host="127.0.0.1", port=0, load_fast="false")
    port = int(board.launch().rstrip("/").rpartition(":")[2])
    for _ in range(100):
        if len(runs := ask(port, "data/runs", method="GET")) == 2:
            break
    assert sorted(runs) == ["lr0.25/tensorboard", "lr0.5/tensorboard"]
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


@pytest.mark.parametrize(("option", "package"), [("use_wandb", "wandb"), ("use_tensorboard", "tensorboard")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, option, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"--{option} needs the package {package} .*pip install {package}"):
        Visualizer(logger_options(tmp_path, **{option: True}))
