"""Values and label maps of a side, to the network and back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data.value_ranges import Labels, ValueRange, measure_percentiles, read_labels, read_value_ranges
from util.errors import UserError


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
def test_integers_use_their_whole_range_and_come_back_to_the_last_bit(dtype):
    limits = np.iinfo(dtype)
    values = np.arange(limits.min, limits.max + 1).astype(dtype)
    image = ValueRange().to_network(values)
    assert (image.dtype, image[0], image[-1]) == (np.float32, -1, 1)
    np.testing.assert_array_equal(ValueRange().to_values(image, values.dtype), values)


def test_numbers_map_to_minus_one_and_one_and_the_rest_is_clipped():
    hounsfield = np.array([-2000, -1024, 0, 3071, 4000], np.int16)
    window = ValueRange(-1024, 3071)
    np.testing.assert_allclose(window.to_network(hounsfield), [-1, -1, 2 * 1024 / 4095 - 1, 1, 1], atol=1e-6)
    back = window.to_values(window.to_network(hounsfield), np.dtype(np.int16))
    assert (back.dtype, back.tolist()) == (np.int16, [-1024, -1024, 0, 3071, 3071])
    kelvin = np.random.default_rng(0).uniform(250, 330, (40, 50)).astype(np.float32)
    other = ValueRange(250, 330)
    np.testing.assert_allclose(other.to_values(other.to_network(kelvin), kelvin.dtype), kelvin, atol=1e-4)


def test_floats_need_a_range():
    with pytest.raises(UserError, match="float32, and nothing says which"):
        ValueRange().to_network(np.zeros((2, 2), np.float32))


def test_value_ranges_are_read_for_one_side_or_both():
    assert read_value_ranges(["A=0,4095", "B=-1024,3071.5"]) == {
        "A": ValueRange(0, 4095),
        "B": ValueRange(-1024, 3071.5),
    }
    assert read_value_ranges(["-1e3,1e3"]) == dict.fromkeys("AB", ValueRange(-1000, 1000))
    assert read_value_ranges(["A=p1,99"]) == {"A": ValueRange(1, 99, percentiles=True)}
    assert read_value_ranges(["A=dtype"])["A"].ends(np.dtype(np.uint16)) == (0, 65535)


@pytest.mark.parametrize("words", [["A=5,3"], ["A=1"], ["C=1,2"], ["A=0,1", "A=0,2"], ["1,2", "B=0,1"], ["A=p5,200"]])
def test_other_value_ranges_are_errors(words):
    with pytest.raises(UserError, match=f"--value_range {words[-1]}: type two numbers"):
        read_value_ranges(words)


def test_percentiles_are_numpys_and_constant_images_have_none():
    image = np.random.default_rng(0).normal(size=(200, 300))
    assert measure_percentiles([image], 1, 99) == pytest.approx(np.percentile(image, (1, 99)))
    with pytest.raises(UserError, match="are both 7; type two numbers"):
        measure_percentiles([np.full((9, 9), 7)], 1, 99)


def test_class_numbers_and_colours_become_channels_and_come_back(tmp_path):
    numbers = np.random.default_rng(0).integers(0, 5, (6, 7, 1))
    image = Labels(5).to_network(numbers)
    assert image.shape == (6, 7, 5)
    assert (image == 1).sum() == 42
    np.testing.assert_array_equal(Labels(5).to_values(image), numbers)
    colors = {"road": [128, 64, 128], "sky": [70, 130, 180], "car": [0, 0, 142]}
    (tmp_path / "colors.json").write_text(json.dumps(colors))
    labels = read_labels([f"A={tmp_path / 'colors.json'}", "B=5"])
    assert labels["B"] == Labels(5)
    picture = np.array(list(colors.values()), np.uint8)[numbers[..., 0] % 3]
    image = labels["A"].to_network(picture)
    np.testing.assert_array_equal(image.argmax(axis=-1), numbers[..., 0] % 3)
    np.testing.assert_array_equal(labels["A"].to_values(image), picture)
    noisy = np.clip(picture + np.random.default_rng(1).integers(-9, 10, picture.shape), 0, 255)  # as JPEG leaves it
    np.testing.assert_array_equal(labels["A"].to_network(noisy), image)


@pytest.mark.parametrize(
    ("labels", "values", "message"),
    [
        (Labels(5), np.full((2, 2, 1), 5), "values up to 5, and class numbers from 0 to 4"),
        (Labels(5), np.zeros((2, 2, 3)), "3 channels, and class numbers from 0 to 4"),
        (Labels(2, ((0, 0, 0), (255, 0, 0))), np.full((2, 2, 3), 120), r"100% of its pixels .* \[120, 120, 120\]"),
    ],
)
def test_other_label_maps_are_errors(labels, values, message):
    with pytest.raises(UserError, match=message):
        labels.to_network(values)


@pytest.mark.parametrize("text", ["[[1, 2]]", "[[1, 2, 3]]", "{", "[[1, 2, 3], [1, 2, 3]]", "[[1, 2, 999], [1, 2, 3]]"])
def test_tables_that_are_not_colours_are_errors(tmp_path, text):
    (tmp_path / "colors.json").write_text(text)
    with pytest.raises(UserError, match="--labels A="):
        read_labels([f"A={tmp_path / 'colors.json'}"])
