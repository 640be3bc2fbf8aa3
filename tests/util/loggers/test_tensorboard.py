"""TensorBoard: event files, and the HPARAMS tab."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from logged_run import image, logger_options, progress
from PIL import Image

from util.errors import UserError
from util.visualizer import Visualizer

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import metadata


def png(event):
    return np.array(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))


def test_losses_images_scores_and_options_are_logged_and_a_resumed_run_replaces_repeated_steps(tmp_path):
    visualizer = Visualizer(logger_options(tmp_path, use_tensorboard=True, lr=0.5, norm="batch", seed=None))
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
    tag = metadata.SESSION_START_INFO_TAG
    info = metadata.parse_session_start_info_plugin_data(log.SummaryMetadata(tag).plugin_data.content)
    assert (info.hparams["lr"].number_value, info.hparams["norm"].string_value) == (0.5, "batch")
    assert (info.hparams["no_html"].bool_value, info.hparams["max_dataset_size"].string_value) == (True, "inf")
    assert "seed" not in info.hparams


@pytest.mark.parametrize(("option", "package"), [("use_wandb", "wandb"), ("use_tensorboard", "tensorboard")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, option, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"--{option} needs the package {package} .*pip install {package}"):
        Visualizer(logger_options(tmp_path, **{option: True}))
