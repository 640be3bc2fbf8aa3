"""All pages of a real run in Firefox, used as a person would; the suite tests their details in Chromium."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import ROOT, make_aligned
from faults.firefox import Firefox
from PIL import Image
from terminal import TINY, copy_tree, type_well

SEEN = "document.querySelectorAll('article').length"
RIGHT = "\ue014"  # WebDriver's name of the key


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Firefox(tmp_path_factory.mktemp("firefox"), 1100, 800) as browser:
        yield browser


@pytest.fixture(scope="module")
def tree(browser, tmp_path_factory):
    """Two trainings, the results of one and its figures, the index, and the page that asks people."""
    tree = copy_tree(tmp_path_factory.mktemp("tree"))
    make_aligned(tree / "pairs", ("train", "val", "test"), count=6)
    for name, more in (("one", ""), ("other", "--lr 0.001")):
        words = f"--dataroot pairs --name {name} --model pix2pix --netG unet_32 {TINY} --val_freq 1 {more}"
        type_well(f"train.py {words} --n_epochs 2 --n_epochs_decay 1 --print_freq 1 --display_freq 3", tree)
    type_well("test.py --dataroot pairs --name one --num_test inf --gpu_ids -1", tree)
    type_well(f"{ROOT}/scripts/evaluate.py results/one/test_latest --metrics psnr,l1 --gpu_ids -1", tree)
    type_well(f"{ROOT}/scripts/pages.py", tree)
    study = "--practice 1 --trials 2 --seconds 0.3 --out study.html"
    type_well(f"{ROOT}/scripts/real_or_fake.py make results/one/test_latest {study}", tree)
    return tree


@pytest.fixture(autouse=True)
def quiet(browser):
    yield
    said, browser.complaints = browser.complaints, []
    assert said == []


def colours(browser, path):
    """Return how many colours a screenshot has."""
    browser.screenshot(path)
    return len(np.unique(np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")).reshape(-1, 3), axis=0))


def test_results_are_compared_zoomed_filtered_and_sorted(browser, tree, tmp_path):
    browser.open(tree / "results/one/test_latest/index.html")
    browser.until(f"{SEEN} > 1")
    assert browser.js("document.querySelectorAll('figure').length") >= 6
    browser.until("[...document.images].every((one) => one.hidden || one.naturalWidth)")
    assert colours(browser, tmp_path / "side.png") > 300  # there are pictures
    browser.press("2")
    browser.until("document.querySelector('.frame .handle')")
    x, y, w, h = browser.js(
        "(b => [b.x, b.y, b.width, b.height])(document.querySelector('.slider .frame').getBoundingClientRect())"
    )
    browser.mouse((int(x + w / 2), int(y + h / 2)), (int(x + w / 4), int(y + h / 2)))
    assert browser.js("view.split") == pytest.approx(0.25, abs=0.02)
    browser.press("+", "+", "1")
    browser.until("location.hash.includes('zoom=4')")
    assert browser.js("[view.zoom, view.mode]") == [4, "side"]
    assert browser.js("getComputedStyle(document.querySelector('.crisp > *')).imageRendering") in (
        "pixelated",
        "crisp-edges",
    )
    browser.press("0")
    browser.click("#filter")
    browser.press(*"3")
    browser.until(f"{SEEN} < 6")
    browser.enter("filter", "", "input")
    browser.enter("sort", "psnr", "change")
    values = browser.js("order.map((one) => metrics && valueOf(one, metricOf('psnr')))")
    assert values == sorted(values)
    browser.click("article h2 a")
    browser.until("document.querySelector('#large figure')")


def test_curves_images_and_scrubber_of_a_training(browser, tree, tmp_path):
    browser.open(tree / "checkpoints/one/web/index.html")
    browser.until("document.querySelectorAll('#plot path').length >= 4")
    browser.until(
        "document.querySelectorAll('#fixed img').length > 0 && [...document.images].every((one) => one.naturalWidth)"
    )
    assert browser.js("document.querySelectorAll('#metrics figure').length") >= 3
    assert colours(browser, tmp_path / "training.png") > 300
    newest = browser.js("document.querySelector('#fixed img').src")
    browser.press(",")
    browser.until(f"document.querySelector('#fixed img').src !== {newest!r}")
    before = browser.js("document.querySelector('#plot path').getAttribute('d')")
    browser.enter("smooth", "1", "input")
    browser.until(f"document.querySelector('#plot path.line').getAttribute('d') !== {before!r}")
    assert browser.js("location.hash").count("smooth=1") == 1


def test_the_index_is_sorted_and_filtered(browser, tree):
    names = "[...document.querySelectorAll('tbody tr:not([hidden])')].map((row) => row.cells[1].dataset.key)"
    browser.open(tree / "checkpoints/index.html")
    browser.click("th:nth-child(2) button")
    assert browser.js(names) == ["one", "other"]
    browser.enter("filter", "0.001")
    assert browser.js(names) == ["other"]


def test_a_study_is_answered(browser, tree):
    browser.open(tree / "study.html")
    browser.click("#begin")
    for number in range(3):
        browser.until("answering")
        browser.press(RIGHT)
        if number == 0:  # the practice round: the right answer, then the start of the test
            for name in ("next", "go_on"):  # by the mouse: a key does not press buttons of a window without focus
                browser.until(f"document.getElementById('{name}').checkVisibility()")
                browser.click(f"#{name}")
    browser.until("!document.getElementById('end').hidden")
    shown = browser.js("state.answers.map((one) => one.shown[0])")
    assert len(shown) == 3
    assert all(abs(ms - 300) < 200 for ms in shown)


def test_no_page_is_wider_than_a_phone(browser, tree):
    for page in ("results/one/test_latest", "checkpoints/one/web", "checkpoints"):
        browser.resize(390, 844)
        browser.open(tree / page / "index.html")
        browser.until("document.readyState === 'complete'")
        assert browser.js("document.documentElement.scrollWidth") <= 390, page
    browser.resize(1100, 800)
