"""Colour distributions: their counts and intersections against figures by hand, and the files that are written."""

from __future__ import annotations

import json
import math
import re
import tracemalloc
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ROOT, make_image, type_command
from PIL import Image
from skimage.color import rgb2lab
from terminal import type_fast

from scripts.color_distributions import COLOURS, DASHES, RANGES, intersection, lab_counts, measure
from scripts.evaluation.targets import find_pairs
from util.errors import UserError

SCRIPT = ROOT / "scripts/color_distributions.py"
SVG = "{http://www.w3.org/2000/svg}"


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


def test_counts_are_numpys_histograms_of_all_pixels_at_once(tmp_path):
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


@pytest.mark.parametrize("red", range(0, 256, 51))
def test_every_colour_of_srgb_is_counted(red):
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    image = np.stack(np.broadcast_arrays(np.uint8(red), steps[:, None], steps), axis=-1)
    assert lab_counts(image).sum() == 3 * image.shape[0] * image.shape[1]


def test_known_colours_fall_into_their_bins():
    """White is L 100, a 0, b 0; sRGB blue L 32.30, a 79.19, b -107.86, which is the least b of all."""
    counts = lab_counts(np.array([[[0, 0, 255]]], np.uint8))
    assert np.flatnonzero(counts).tolist() == [32, 100 + 110 + 79, 320 + 110 - 108]
    assert np.flatnonzero(lab_counts(np.array([[[255] * 3]], np.uint8)))[0] == 99


def test_equal_sets_intersect_in_1_whatever_their_order(tmp_path):
    images = noise(4, 2)
    colours = measure(find_pairs(write(tmp_path, images, images[::-1])), bootstrap=20)
    assert colours.intersection == pytest.approx([1, 1, 1])
    images = noise(4, 2)
    colours = measure(find_pairs(write(tmp_path, images, images)), bootstrap=20)
    assert colours.error == pytest.approx([0, 0, 0])  # whatever is drawn


def test_sets_without_a_common_colour_intersect_in_0(tmp_path):
    scores, _ = found(write(tmp_path, [(255, 0, 0)] * 2, [(0, 0, 255)] * 2))
    assert values(scores["results"][tmp_path.parent.name]) == [0, 0, 0]


def test_an_intersection_by_hand(tmp_path):
    """Of the result 1/4 is black and 3/4 white, of the truth 3/4 and 1/4; grey has no a and b but for rounding."""
    fake, real = np.full((8, 8), 255, np.uint8), np.zeros((8, 8), np.uint8)
    fake[:2], real[:2] = 0, 255
    scores, text = found(write(tmp_path / "arm" / "test_latest", [fake], [real]))
    assert values(scores["results"]["arm"])[0] == 0.5
    assert scores["results"]["arm"]["counts"]["L"] == [16] + [0] * 98 + [48]
    assert scores["truth"]["counts"]["L"] == [48] + [0] * 98 + [16]
    assert re.search(r"^arm +0\.500 ", text, re.MULTILINE)
    assert "+-" not in text  # of one image there is no interval
    assert scores["results"]["arm"]["intersection"]["L"] == {"value": 0.5, "low": None, "high": None}


def test_shares_not_counts_are_compared():
    one = np.zeros(540)
    one[[3, 5, 200, 400]] = 10, 30, 40, 40
    assert intersection(one, one * 7).tolist() == [1, 1, 1]
    other = np.zeros(540)
    other[[5, 6, 201, 400]] = 1, 1, 2, 2
    assert intersection(one, other).tolist() == [0.5, 0, 1]


def test_grey_files_count_as_grey_colours(tmp_path):
    grey = np.random.default_rng(3).integers(0, 256, (9, 5), dtype=np.uint8)
    colours = measure(find_pairs(write(tmp_path, [grey], [np.stack([grey] * 3, axis=-1)])))
    assert colours.intersection == pytest.approx([1, 1, 1])
    assert np.flatnonzero(colours.fake[100:]).tolist() in (
        [109, 330],
        [110, 329],
        [109, 329],
        [110, 330],
        [109, 329, 330],
        [109, 110, 330],
    )


def test_intervals_are_those_of_a_bootstrap_over_pairs_that_is_done_by_hand(tmp_path):
    rng = np.random.default_rng(4)
    reals = [(int(x), int(y), 90) for x, y in rng.integers(0, 256, (40, 2))]
    fakes = [(x, max(0, y - 60), 90) for x, y, _ in reals]
    pairs = find_pairs(write(tmp_path, fakes, reals))
    counts = np.array([[lab_counts(np.asarray(Image.open(file).convert("RGB"))) for file in pair] for pair in pairs])
    drawn = [intersection(*counts[rng.integers(40, size=40)].sum(0)) for _ in range(2000)]
    colours = measure(pairs, bootstrap=2000)
    assert colours.error == pytest.approx(1.96 * np.std(drawn, axis=0), rel=0.1)
    assert measure(pairs, 50, seed=1).error.tolist() == measure(pairs, 50, seed=1).error.tolist()
    assert measure(pairs, 50, seed=1).error.tolist() != measure(pairs, 50, seed=2).error.tolist()


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    pairs = find_pairs(write(tmp_path, noise(2, 5), noise(2, 6)))

    def peak(times):
        tracemalloc.start()
        measure(pairs * times, bootstrap=50)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(200) < 1.1 * peak(20)


def arms(tmp_path, count=2):
    """Write results of several experiments on one test set; return their folders."""
    reals = noise(3, 7)
    folders = [tmp_path / f"arm<{i}>&" / "test_latest" for i in range(count)]
    return [write(folder, noise(3, 8 + i), reals) for i, folder in enumerate(folders)]


def test_the_plot_shows_each_arm_in_three_panels_over_the_truth(tmp_path):
    folders = arms(tmp_path, 8)
    done = type_command(SCRIPT, *folders, "--bootstrap", "10", "--out", tmp_path / "new/out")
    assert done.returncode == 0, done.stderr
    drawing = ElementTree.parse(tmp_path / "new/out/color_distributions.svg").getroot()
    curves = [path for path in drawing.iter(f"{SVG}path") if path.get("class", "").startswith("curve")]
    assert len(curves) == 9 * 4  # in each panel and in the legend
    looks = {(path.get("stroke"), path.get("stroke-dasharray")) for path in curves}
    assert len(looks) == 9
    assert {stroke for stroke, _ in looks} == {None, *COLOURS}
    assert {dash for _, dash in looks} == {None, *DASHES[:2]}
    texts = [text.text for text in drawing.iter(f"{SVG}text")]
    assert {
        "arm<0>&",
        "ground truth",
        "L: dark to light",
        "a: green to red",
        "b: blue to yellow",
        "share of pixels (log)",
        "10⁻²",
    } <= set(texts)
    scores = json.loads((tmp_path / "new/out/color_distributions.json").read_text())
    for name, arm in scores["results"].items():
        assert all(f"{value:.2f}" in texts for value in values(arm)), name
        assert all(s["low"] < s["value"] < s["high"] for s in arm["intersection"].values())
    coordinates = np.array(re.findall(r"[ML]([\d.-]+) ([\d.-]+)", " ".join(path.get("d") for path in curves)), float)
    assert (coordinates >= 0).all()
    assert coordinates[:, 0].max() <= float(drawing.get("width"))
    assert coordinates[:, 1].max() <= float(drawing.get("height"))
    assert not [file.name for file in (tmp_path / "new/out").iterdir() if file.name.startswith(".")]


def test_a_curve_stands_where_its_shares_are(tmp_path):
    """Half of the truth lies in L 0..1 and half in 99..100: half is 0.301 decades below 1."""
    real = np.zeros((8, 8), np.uint8)
    real[4:] = 255
    folder = write(tmp_path, [real], [real])
    found(folder)
    drawing = ElementTree.parse(folder / "color_distributions.svg").getroot()
    path = next(path for path in drawing.iter(f"{SVG}path") if path.get("class") == "curve truth")
    points = np.array(re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path.get("d")), float)
    frame = next(rect for rect in drawing.iter(f"{SVG}rect") if rect.get("class") == "frame")
    left, top, width, height = (float(frame.get(name)) for name in ("x", "y", "width", "height"))
    assert len(points) == 100
    assert points[[0, -1], 0] == pytest.approx([left + 0.005 * width, left + 0.995 * width], abs=0.06)
    assert points[[0, -1], 1] == pytest.approx(top + height * math.log10(2), abs=0.06)  # the axis is one decade
    assert set(points[1:-1, 1]) == {top + height}


@pytest.mark.parametrize(("domain", "suffix", "words"), [("A", "", ("--domain", "A")), ("B", "_rgb", ())])
def test_cyclegans_other_side_and_colourisation_have_names_of_their_own(tmp_path, domain, suffix, words):
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


def test_arms_of_different_test_sets_are_an_error(tmp_path):
    one = write(tmp_path / "one/test_latest", noise(2, 1), noise(2, 2))
    assert "the real images of one (2) and two (3) differ" in failing(
        one, write(tmp_path / "two/test_latest", noise(3, 1), noise(3, 2))
    )
    assert "the real images of one (2) and three (2) differ" in failing(
        one, write(tmp_path / "three/test_latest", noise(2, 1), noise(2, 3))
    )


def test_names_are_the_experiments_or_those_that_are_typed(tmp_path):
    one, two = (write(tmp_path / f"arm/{epoch}", noise(2, 1), noise(2, 2)) for epoch in ("test_100", "test_200"))
    assert list(found(one, two)[0]["results"]) == [str(one), str(two)]
    assert list(found(one, two, words=("--names", "early", "late"))[0]["results"]) == ["early", "late"]
    assert "--names: 1 names for 2 folders" in failing(one, two, "--names", "x")
    assert "given twice" in failing(one, one)


def test_help_answers_without_pytorch():
    done = type_command("-X", "importtime", SCRIPT, "--help")
    assert done.returncode == 0
    assert "figure 7" in done.stdout
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)


def test_a_missing_pair_list_names_the_folder_in_python_too(tmp_path):
    with pytest.raises(UserError, match="results/NAME/test_latest"):
        find_pairs(tmp_path)
