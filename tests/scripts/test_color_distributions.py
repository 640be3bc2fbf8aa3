"""Colour distributions: counts and intersections by hand, and the files that are written."""

from __future__ import annotations

import json
import re
import tracemalloc

import numpy as np
import pytest
from conftest import ROOT, make_image, type_command
from PIL import Image
from skimage.color import rgb2lab
from terminal import type_fast

from scripts.color_distributions import RANGES, intersection, lab_counts, measure, plot
from scripts.evaluation.targets import find_pairs

SCRIPT = ROOT / "scripts/color_distributions.py"


def write(folder, fakes, reals, suffix=""):
    """Write images, arrays (H, W, 3), (H, W) or sRGB colours of 8 x 8 pixels, as a results folder."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for label, images in (("fake_B", fakes), ("real_B", reals)):
        for i, image in enumerate(images):
            image = Image.new("RGB", (8, 8), image) if isinstance(image, tuple) else Image.fromarray(image)
            image.save(folder / "images" / f"{i}_{label}{suffix}.png")
    return folder


def noise(count, seed, height=13, width=7):
    return list(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def found(*folders, words=()):
    """Run the command; return its JSON and what it printed."""
    done = type_fast(" ".join(map(str, [SCRIPT, *folders, *words])), ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads((folders[0] / "color_distributions.json").read_text()), done.stdout


def values(scores):
    return [scores["intersection"][name]["value"] for name in "Lab"]


def test_counts_equal_numpys_histograms_of_all_pixels(tmp_path):
    images = [*noise(2, 0), *noise(1, 1, 5, 31), np.full((3, 3, 3), 255, np.uint8), np.zeros((2, 9, 3), np.uint8)]
    colours = measure(find_pairs(write(tmp_path, images, images[::-1])))
    pixels = np.concatenate([image.reshape(-1, 3) for image in images])
    by_numpy = [
        np.histogram(rgb2lab(pixels)[:, i], np.arange(low, high + 1))[0]
        for i, (low, high) in enumerate(RANGES.values())
    ]
    assert np.array_equal(colours.fake, np.concatenate(by_numpy))
    assert np.array_equal(colours.real, colours.fake)
    assert colours.fake.sum() == 3 * len(pixels)
    assert colours.images == 5


def test_every_colour_of_srgb_is_counted():
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    image = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3)
    assert lab_counts(image).sum() == 3 * image.shape[0] * image.shape[1]


def test_known_colours_fall_into_their_bins():
    """White is L 100, a 0, b 0; sRGB blue L 32.30, a 79.19, b -107.86, which is the least b of all."""
    counts = lab_counts(np.array([[[0, 0, 255]]], np.uint8))
    assert np.flatnonzero(counts).tolist() == [32, 100 + 110 + 79, 320 + 110 - 108]
    assert np.flatnonzero(lab_counts(np.array([[[255] * 3]], np.uint8)))[0] == 99


def test_equal_sets_intersect_in_1_in_any_order(tmp_path):
    images = noise(4, 2)
    assert measure(find_pairs(write(tmp_path / "a", images, images[::-1]))).intersection == pytest.approx([1, 1, 1])
    colours = measure(find_pairs(write(tmp_path / "b", images, images)))
    assert colours.half == pytest.approx([0, 0, 0])


def test_sets_without_a_common_colour_intersect_in_0(tmp_path):
    scores, _ = found(write(tmp_path, [(255, 0, 0)] * 2, [(0, 0, 255)] * 2))
    assert values(scores["results"][tmp_path.parent.name]) == [0, 0, 0]


def test_an_intersection_by_hand(tmp_path):
    """The result is 1/4 black and 3/4 white, the ground truth 3/4 and 1/4; grey has a and b of 0, up to rounding."""
    fake, real = np.full((8, 8), 255, np.uint8), np.zeros((8, 8), np.uint8)
    fake[:2], real[:2] = 0, 255
    scores, text = found(write(tmp_path / "arm" / "test_latest", [fake], [real]))
    assert values(scores["results"]["arm"])[0] == 0.5
    assert scores["results"]["arm"]["counts"]["L"] == [16] + [0] * 98 + [48]
    assert scores["truth"]["counts"]["L"] == [48] + [0] * 98 + [16]
    assert re.search(r"^arm +0\.500 ", text, re.MULTILINE)
    assert "+-" not in text  # one image has no interval
    assert scores["results"]["arm"]["intersection"]["L"] == {"value": 0.5, "low": None, "high": None}


def test_shares_not_counts_are_compared():
    one = np.zeros(540)
    one[[3, 5, 200, 400]] = 10, 30, 40, 40
    assert intersection(one, one * 7).tolist() == [1, 1, 1]
    other = np.zeros(540)
    other[[5, 6, 201, 400]] = 1, 1, 2, 2
    assert intersection(one, other).tolist() == [0.5, 0, 1]


def test_intervals_are_about_those_of_a_bootstrap_over_pairs(tmp_path):
    rng = np.random.default_rng(4)
    values = rng.normal(rng.normal(120, 20, (40, 1, 1, 3)), 30, (40, 24, 24, 3))  # images of different mean colours
    reals, fakes = (list(np.clip(values - shift, 0, 255).astype(np.uint8)) for shift in (0, 25))
    pairs = find_pairs(write(tmp_path, fakes, reals))
    counts = np.array([[lab_counts(np.asarray(Image.open(file).convert("RGB"))) for file in pair] for pair in pairs])
    drawn = [intersection(*counts[rng.integers(40, size=40)].sum(0)) for _ in range(500)]
    ratios = measure(pairs).half / (1.96 * np.std(drawn, axis=0))
    assert ((ratios > 0.6) & (ratios < 1.8)).all(), ratios


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    pairs = find_pairs(write(tmp_path, noise(2, 5), noise(2, 6)))

    def peak(times):
        tracemalloc.start()
        measure(pairs * times)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(100) < 1.1 * peak(20)


def test_the_plot_has_a_curve_per_folder_in_three_panels(tmp_path):
    """Half of the ground truth lies in L 0..1 and half in 99..100."""
    real = np.zeros((8, 8), np.uint8)
    real[4:] = 255
    pairs = find_pairs(write(tmp_path, [real], [real]))
    figure = plot({f"_arm{i}<&$": measure(pairs) for i in range(8)})
    assert [axes.get_xlabel() for axes in figure.axes] == ["L: dark to light", "a: green to red", "b: blue to yellow"]
    for axes in figure.axes:
        assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 9
    x, y = figure.axes[0].lines[0].get_data()
    assert (x[[0, -1]].tolist(), y[[0, -1]].tolist(), set(y[1:-1])) == ([0.5, 99.5], [0.5, 0.5], {1e-6})
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["ground truth", "intersections 1.00, 1.00, 1.00: _arm0<&"]


def test_several_folders_make_one_plot_and_one_file_of_numbers(tmp_path):
    folders = [write(tmp_path / f"arm<{i}>&" / "test_latest", noise(3, 8 + i), noise(3, 7)) for i in range(2)]
    done = type_command(SCRIPT, *folders, "--out", tmp_path / "new/out")
    assert done.returncode == 0, done.stderr
    assert "arm&lt;1&gt;&amp;" in (tmp_path / "new/out/color_distributions.svg").read_text()
    scores = json.loads((tmp_path / "new/out/color_distributions.json").read_text())
    for arm in scores["results"].values():
        assert all(s["low"] < s["value"] < s["high"] for s in arm["intersection"].values())
    assert len(list((tmp_path / "new/out").iterdir())) == 2


@pytest.mark.parametrize(("domain", "suffix", "words"), [("A", "", ("--domain", "A")), ("B", "_rgb", ())])
def test_domain_a_and_colorization_are_found_by_their_names(tmp_path, domain, suffix, words):
    write(tmp_path, [(9, 9, 9)], [(9, 9, 9)], suffix)
    for file in list((tmp_path / "images").iterdir()):
        file.rename(file.with_name(file.name.replace("_B", f"_{domain}")))
    assert values(found(tmp_path, words=words)[0]["results"][tmp_path.parent.name]) == [1, 1, 1]


def failing(*words):
    done = type_fast(" ".join(map(str, [SCRIPT, *words])), ROOT)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_folder_without_results_or_with_a_missing_truth_is_an_error(tmp_path):
    assert f"no *_fake_B.png in {tmp_path}: name a folder that test.py wrote" in failing(tmp_path)
    make_image(tmp_path / "1_fake.png")
    assert "--model test wrote, which has no truth" in failing(tmp_path)
    make_image(tmp_path / "1_fake_B.png")
    assert "1_real_B.png is missing" in failing(tmp_path)
    (tmp_path / "1_real_B.png").write_bytes(b"no image")
    assert "cannot read" in failing(tmp_path)
    assert [file.name for file in tmp_path.glob("color*")] == []


def test_results_of_different_test_sets_are_an_error(tmp_path):
    one = write(tmp_path / "one/test_latest", noise(2, 1), noise(2, 2))
    assert "the real images of one (2) and two (3) differ" in failing(
        one, write(tmp_path / "two/test_latest", noise(3, 1), noise(3, 2))
    )
    assert "the real images of one (2) and three (2) differ" in failing(
        one, write(tmp_path / "three/test_latest", noise(2, 1), noise(2, 3))
    )


def test_names_are_the_experiments_or_the_typed_ones(tmp_path):
    one, two = (write(tmp_path / f"arm/{epoch}", noise(2, 1), noise(2, 2)) for epoch in ("test_100", "test_200"))
    assert list(found(one, two)[0]["results"]) == [str(one), str(two)]
    assert list(found(one, two, words=("--names", "early", "late"))[0]["results"]) == ["early", "late"]
    assert "--names: 1 names for 2 folders" in failing(one, two, "--names", "x")
    assert "occurs twice" in failing(one, one)


def test_help_answers_without_pytorch():
    done = type_command("-X", "importtime", SCRIPT, "--help")
    assert done.returncode == 0
    assert "figure 7" in done.stdout
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)
