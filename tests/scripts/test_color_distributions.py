"""Colour distributions: counts and intersections by hand, and the files that are written."""

from __future__ import annotations

import json
import re
import sys
import tracemalloc

import numpy as np
import pytest
from conftest import make_image
from PIL import Image
from skimage.color import rgb2lab

from scripts import color_distributions
from scripts.color_distributions import RANGES, intersection, measure, plot
from scripts.evaluation.targets import find_pairs


def write(folder, fakes, reals):
    """Write images (H, W, 3) or (H, W) as a results folder."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for label, images in (("fake_B", fakes), ("real_B", reals)):
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / "images" / f"{i}_{label}.png")
    return folder


def noise(count, seed, height=13, width=7):
    return list(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*words):
        """Run the command; return its JSON and what it printed."""
        monkeypatch.setattr(sys, "argv", ["color_distributions.py", *map(str, words)])
        color_distributions.main()
        return json.loads((words[0] / "color_distributions.json").read_text()), capsys.readouterr().out

    return run


def test_counts_equal_numpys_histograms_of_all_pixels(tmp_path):
    images = [*noise(2, 0), *noise(1, 1, 5, 31), np.full((3, 3, 3), 255, np.uint8), np.zeros((2, 9, 3), np.uint8)]
    colours = measure(find_pairs(write(tmp_path, images, images[::-1])))
    pixels = rgb2lab(np.concatenate([image.reshape(-1, 3) for image in images]))
    bins = [np.arange(low, high + 1) for low, high in RANGES.values()]
    by_numpy = [np.histogram(values, edges)[0] for values, edges in zip(pixels.T, bins, strict=True)]
    assert np.array_equal(colours.fake, np.concatenate(by_numpy))
    assert np.array_equal(colours.real, colours.fake)
    assert (colours.images, colours.fake.sum()) == (5, 3 * len(pixels))
    assert colours.intersection == pytest.approx([1, 1, 1])


def test_an_intersection_by_hand(tmp_path, run):
    """The result is 1/4 black and 3/4 white, the ground truth 3/4 and 1/4."""
    fake, real = np.full((8, 8), 255, np.uint8), np.zeros((8, 8), np.uint8)
    fake[:2], real[:2] = 0, 255
    scores, text = run(write(tmp_path / "arm" / "test_latest", [fake], [real]))
    assert scores["results"]["arm"]["counts"]["L"] == [16] + [0] * 98 + [48]
    assert scores["truth"]["counts"]["L"] == [48] + [0] * 98 + [16]
    assert scores["results"]["arm"]["intersection"]["L"] == {"value": 0.5, "low": None, "high": None}
    assert re.search(r"^arm +0\.500 ", text, re.MULTILINE)
    assert "+-" not in text  # one image has no interval


def test_shares_not_counts_are_compared():
    one = np.zeros(540)
    one[[3, 5, 200, 400]] = 10, 30, 40, 40
    assert intersection(one, one * 7).tolist() == [1, 1, 1]
    other = np.zeros(540)
    other[[5, 6, 201, 400]] = 1, 1, 2, 2
    assert intersection(one, other).tolist() == [0.5, 0, 1]


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    pairs = find_pairs(write(tmp_path, noise(2, 5), noise(2, 6)))

    def peak(times):
        tracemalloc.start()
        measure(pairs * times)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(30) < 1.1 * peak(10)


def test_the_plot_has_a_curve_per_folder_in_three_panels(tmp_path):
    """Half of the ground truth lies in L 0..1 and half in 99..100."""
    real = np.zeros((8, 8), np.uint8)
    real[4:] = 255
    pairs = find_pairs(write(tmp_path, [real], [real]))
    figure = plot({f"_arm{i}<&$": measure(pairs) for i in range(6)})
    assert [axes.get_xlabel() for axes in figure.axes] == ["L: dark to light", "a: green to red", "b: blue to yellow"]
    assert all(len({line.get_color() for line in axes.lines}) == 7 for axes in figure.axes)
    x, y = figure.axes[0].lines[0].get_data()
    assert (x[[0, -1]].tolist(), y[[0, -1]].tolist(), set(y[1:-1])) == ([0.5, 99.5], [0.5, 0.5], {1e-6})
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["ground truth", "intersections 1.00, 1.00, 1.00: _arm0<&"]


def test_several_folders_make_one_plot_and_one_file_of_numbers(tmp_path, run):
    folders = [write(tmp_path / f"arm<{i}>&" / "test_latest", noise(3, 8 + i), noise(3, 7)) for i in range(2)]
    scores, text = run(*folders)
    assert "arm&lt;1&gt;&amp;" in (folders[0] / "color_distributions.svg").read_text()
    for i in range(2):
        values = scores["results"][f"arm<{i}>&"]["intersection"].values()
        assert all(s["low"] < s["value"] < s["high"] for s in values)
    assert text.count("+-") == 6
    one, two = (write(tmp_path / f"arm/{epoch}", noise(2, 1), noise(2, 2)) for epoch in ("test_100", "test_200"))
    assert list(run(one, two)[0]["results"]) == [str(one), str(two)]


def test_missing_and_different_truths_are_errors(tmp_path, run):
    def fails(*folders):
        with pytest.raises(SystemExit) as error:
            run(*folders)
        return str(error.value)

    assert f"no *_fake_B.png in {tmp_path}: name a folder that test.py wrote" in fails(tmp_path)
    make_image(tmp_path / "1_fake.png")
    assert "--model test, which have no ground truth" in fails(tmp_path)
    make_image(tmp_path / "1_fake_B.png")
    assert "1_real_B.png is missing" in fails(tmp_path)
    make_image(tmp_path / "2_fake_B_rgb.png")  # of --model colorization
    make_image(tmp_path / "2_fake_A.png")
    (tmp_path / "1_fake_B.png").unlink()
    assert "2_real_B_rgb.png is missing" in fails(tmp_path)
    assert "2_real_A.png is missing" in fails(tmp_path, "--domain", "A")
    one, two = (write(tmp_path / f"{n}/test_latest", noise(2, 1), noise(2, n)) for n in (2, 3))
    assert "the real images differ" in fails(one, two)
    assert list(tmp_path.rglob("color*")) == []
