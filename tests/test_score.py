"""Scores of a results folder, against figures computed by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from conftest import type_command
from PIL import Image

SCRIPT = "scripts/score.py"
C1 = (0.01 * 255) ** 2  # SSIM's constant; of two flat images nothing but its luminance term is left


def flat(path, value, width=16, height=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (value,) * 3).save(path)


def psnr(difference):
    return 20 * math.log10(255 / difference)


def ssim(a, b):
    return (2 * a * b + C1) / (a * a + b * b + C1)


@pytest.fixture
def results(tmp_path):
    """Two results, 10 and 51 from the truth; the inputs are 100 and 85 from it."""
    folder = tmp_path / "test_latest"
    for name, fake, real, given in (("one", 110, 100, 200), ("two", 102, 153, 68)):
        flat(folder / "images" / f"{name}_fake_B.png", fake)
        flat(folder / "images" / f"{name}_real_B.png", real)
        flat(folder / "images" / f"{name}_real_A.png", given)
    return folder


def scores(folder, *words):
    file = folder / "scores.json"
    done = type_command(SCRIPT, folder, *words, "--json", file)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text()), done.stdout


def test_psnr_and_ssim_are_averages_over_the_images(results):
    found, text = scores(results)
    assert set(found) == {"images", "result", "input"}
    assert found["images"] == 2
    assert found["result"]["psnr"] == pytest.approx((psnr(10) + psnr(51)) / 2)  # 28.13 and 13.98 dB
    assert found["result"]["ssim"] == pytest.approx((ssim(110, 100) + ssim(102, 153)) / 2, abs=1e-6)
    assert found["input"]["psnr"] == pytest.approx((psnr(100) + psnr(85)) / 2)
    assert found["input"]["ssim"] == pytest.approx((ssim(200, 100) + ssim(68, 153)) / 2, abs=1e-6)
    assert "the result                    21.06     0.959" in text


def test_the_mean_target_comes_from_a_folder_of_targets_or_of_pairs(results, tmp_path):
    for name, value in (("a", 100), ("b", 140)):
        flat(tmp_path / "trainB" / f"{name}.png", value)
        pair = np.zeros((16, 32, 3), np.uint8)
        pair[:, 16:] = value
        (tmp_path / "train").mkdir(exist_ok=True)
        Image.fromarray(pair).save(tmp_path / "train" / f"{name}.png")
    expected = (psnr(20) + psnr(33)) / 2  # 120 against 100 and 153
    for folder in ("train", "trainB"):
        found, _ = scores(results, "--train_B", tmp_path / folder)
        assert found["mean_target"]["psnr"] == pytest.approx(expected)


def test_a_perfect_result_has_infinite_psnr_which_json_calls_null(tmp_path):
    flat(tmp_path / "x_fake_B.png", 90)
    flat(tmp_path / "x_real_B.png", 90)
    found, text = scores(tmp_path)
    assert found == {"images": 1, "result": {"psnr": None, "ssim": 1.0}}
    assert "inf" in text


def test_an_input_of_another_size_is_no_answer(results):
    flat(results / "images" / "one_real_A.png", 200, width=32)
    assert set(scores(results)[0]) == {"images", "result"}


def test_a_result_without_its_truth_is_an_error(results):
    (results / "images" / "two_real_B.png").unlink()
    done = type_command(SCRIPT, results)
    assert (done.returncode, done.stdout) == (1, "")
    assert "two_real_B.png is missing" in done.stderr


def test_a_result_of_another_size_is_an_error(results):
    flat(results / "images" / "two_fake_B.png", 102, width=20)
    done = type_command(SCRIPT, results)
    assert done.returncode == 1
    assert "two_fake_B.png is 20 x 16, the truth 16 x 16" in done.stderr


def test_a_folder_without_results_is_an_error(tmp_path):
    done = type_command(SCRIPT, tmp_path)
    assert done.returncode == 1
    assert f"no *_fake_B.png in {tmp_path}" in done.stderr
