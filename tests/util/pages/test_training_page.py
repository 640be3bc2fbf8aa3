"""The training page: curves against numbers, controls, images, and what happens while it is open in a browser."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from browser import Visitor

from util.loggers.base import Step
from util.pages import training_page
from util.pages.training_page import TrainingPage

BEGIN = 1_700_000_000.0
LEFT, HOME = "\ue012", "\ue011"  # WebDriver's names of keys
LABELS = ("real_A", "fake_B", "real_B")


@pytest.fixture
def browser():
    visitor = Visitor()
    yield visitor
    assert visitor.complaints() == []


@pytest.fixture
def clock(monkeypatch):
    """The time that lines tell, in seconds since the run began; `clock[0]` sets it."""
    times = [0.0]
    monkeypatch.setattr(training_page, "now", lambda: BEGIN + times[0])
    return times


def run(folder, **about):
    """Begin the page of a training of ten epochs, 100 images each."""
    about = {"name": "run", "paired": True, "epochs": 10, "best": "psnr", "lower": ["l1"], "time": BEGIN, **about}
    page = TrainingPage(folder, "run", 256, about)
    page.cut(0, 1)
    return page


def images(value, labels=LABELS, count=1):
    return {label: [np.full((16, 16, 3), value, dtype=np.uint8)] * count for label in labels}


def train(page, values, clock=None, first=1):
    """Print a loss at every 50 images, two times an epoch and once a minute."""
    for k, value in enumerate(values, first):
        if clock:
            clock[0] = 60 * k
        page.losses(Step((k + 1) // 2, 50 * k, k / 2, 1e-3 / k), value if isinstance(value, dict) else {"G": value})
    page.flush()


def opened(browser, page, fragment=""):
    browser.open(page.data.folder, fragment, "loaded")


def text(browser, name):
    return browser.js("document.getElementById(arguments[0]).textContent", name)


def caption(browser):
    return browser.js("document.querySelector('#metrics figcaption').textContent")


def until(condition):
    """Wait for what comes with the next look at data.js."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def lines(browser, chart="plot", kind="line"):
    """Return each path of a chart as a list of (x, y) in the units of its axes, as the labels of the grid have them."""
    at = "[Number(one.getAttribute('x')), Number(one.getAttribute('y')), one.getAttribute('text-anchor')]"
    texts = browser.all(f"#{chart} text", f"[Number(one.textContent), ...{at}]")
    across = [(value, x) for value, x, _, anchor in texts if anchor == "middle"]
    up = [(value, y - 4) for value, x, y, _ in texts if x < 46]
    return [
        [tuple(read(axis, place) for axis, place in zip((across, up), point, strict=True)) for point in numbers(d)]
        for d in browser.all(f"#{chart} path.{kind}", "one.getAttribute('d')")
    ]


def numbers(d):
    """Return the points of a path of straight lines."""
    assert re.fullmatch(r"(?:[ML]-?[\d.]+ -?[\d.]+)*", d)
    return [tuple(map(float, point.split())) for point in re.split("[ML]", d)[1:]]


def read(marks, place):
    """Read a place off an axis that is marked with (value, place)."""
    (a, at_a), (b, at_b) = marks[0], marks[-1]
    return a + (b - a) * (place - at_a) / (at_b - at_a)


def near(points, expected, rel=0.01):
    top = [max(abs(value) for value in axis) for axis in zip(*expected, strict=True)]
    assert len(points) == len(expected)
    for point, other in zip(points, expected, strict=True):
        for value, truth, most in zip(point, other, top, strict=True):
            assert value == pytest.approx(truth, abs=rel * most)


# ---- curves ----


def test_a_curve_goes_through_its_numbers_smoothed_or_not(browser, tmp_path, clock):
    values = [8.0, 2.0, float("nan"), 6.0, 1.0, 7.0, 3.0]
    finite = [(k, value) for k, value in enumerate(values, 1) if value == value]
    train(page := run(tmp_path), values, clock)
    page.validation(Step(1, 100, 1.0), {"psnr": float("inf")}, {})
    page.flush()
    opened(browser, page, "#log=0")
    near(lines(browser, "rate")[0], [(k / 2, 1e-3 / k) for k in range(1, 8)])
    near(lines(browser)[0], [(k / 2, value) for k, value in finite])
    assert (text(browser, "prints"), lines(browser, kind="raw")) == ("off", [])
    browser.run("$('smooth').value = 0.5; $('smooth').oninput()")
    assert text(browser, "prints") == "3 prints"
    weight, mean, whole, expected = 1 - 1 / 3, 0.0, 0.0, []
    for k, value in finite:
        mean, whole = weight * mean + (1 - weight) * value, weight * whole + 1 - weight
        expected.append((k / 2, mean / whole))
    near(lines(browser)[0], expected)
    near(lines(browser, kind="raw")[0], [(k / 2, value) for k, value in finite])
    assert browser.js("location.hash") == "#smooth=0.5&log=0"


def test_values_are_read_off_by_keys_and_pointer_in_all_charts(browser, tmp_path, clock):
    train(page := run(tmp_path), [5.0, 6.0, 7.0, 8.0], clock)
    page.validation(Step(1, 100, 1.0), {"psnr": 20.5}, {})
    page.validation(Step(2, 200, 2.0), {"psnr": 21.5}, {})
    page.flush()
    opened(browser, page)
    svg = browser.find("#plot svg")
    svg.send_keys(LEFT, LEFT)
    assert (text(browser, "where"), text(browser, "legend")) == ("epoch 1 · 100 images", "G 6")
    assert caption(browser) == "psnr 20.5 · epoch 1"
    assert len(browser.all(".mark line", "1")) == 3
    svg.send_keys(HOME)
    assert text(browser, "legend") == "G 5"
    box = svg.rect
    point = {"type": "mouseMoved", "x": box["x"] + 46 + (box["width"] - 56) * 0.73, "y": box["y"] + 50}
    browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", point)
    assert text(browser, "legend") == "G 7"
    browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": 5, "y": 5})
    assert (text(browser, "legend"), caption(browser)) == ("G 8", "psnr 21.5 · best 21.5, epoch 2")


# ---- validation and images ----


def validated(page, values, count=1):
    for epoch, value in enumerate(values, 1):
        page.images(Step(epoch, 100 * epoch - 40, 0.0), images(10 + epoch))
        page.validation(
            Step(epoch, 100 * epoch, float(epoch)), {"psnr": value, "l1": value}, images(100 + epoch, count=count)
        )
    page.flush()


def sources(browser):
    found = browser.all(".viewer img", "one.getAttribute('src')")
    return [name.removeprefix("images/").removesuffix(".png") for name in found]


def scrub(browser, k):
    browser.run("const epoch = document.getElementById('epoch'); epoch.value = arguments[0]; epoch.oninput()", k)


def test_the_best_epoch_is_marked_by_its_metric_s_sense(browser, tmp_path, clock):
    validated(page := run(tmp_path), [20.0, 23.0, 22.0, 23.0])
    opened(browser, page)
    texts = browser.all("#metrics figcaption", "one.textContent")
    assert texts == ["psnr 23 · best 23, epoch 2", "l1 23 · best 20, epoch 1"]
    marks = browser.all("#metrics .best", "Number(one.getAttribute('cx'))")
    ends = [numbers(d) for d in browser.all("#metrics .line", "one.getAttribute('d')")]
    assert marks == pytest.approx([ends[0][1][0], ends[1][0][0]], abs=0.1)
    best = browser.find("#best")
    assert best.text == "Best: 2"
    best.click()
    assert sources(browser)[1] == "validation002_fake_B"
    assert text(browser, "when").startswith("epoch 2 · 200 images")


def test_the_scrubber_changes_the_images_and_keeps_mode_and_zoom(browser, tmp_path, clock):
    validated(page := run(tmp_path), [20.0, 21.0, 22.0], count=2)
    opened(browser, page)
    assert sources(browser) == [f"validation003_{label}{i}" for i in ("", "_1") for label in LABELS]
    browser.run("view.set({ mode: 'slider', zoom: 4, x: 0.3 })")
    scrub(browser, 0)
    assert sources(browser) == [f"validation001_{label}{i}" for i in ("", "_1") for label in ("fake_B", "real_B")]
    assert browser.js("[view.mode, view.zoom, view.x]") == ["slider", 4, 0.3]
    until(lambda: all(browser.all(".viewer img", "one.naturalWidth")))
    browser.press(".")
    assert sources(browser)[0] == "validation002_fake_B"
    browser.find("#newest").click()
    assert sources(browser)[0] == "validation003_fake_B"


def test_without_validation_the_displayed_images_are_shown_and_the_address_keeps_their_epoch(browser, tmp_path, clock):
    page = run(tmp_path, paired=False)
    for epoch in (1, 2, 3):
        page.images(Step(epoch, 100 * epoch, 0.0), images(epoch, ("real_A", "fake_B", "rec_A", "real_B")))
    page.flush()
    opened(browser, page, "#mode=diff&at=200")
    assert browser.js("view.pair") == ["real_A", "fake_B"]
    assert sources(browser) == ["epoch002_real_A", "epoch002_fake_B"]
    scrub(browser, 2)
    assert sources(browser) == ["epoch003_real_A", "epoch003_fake_B"]
    assert "at=" not in browser.js("location.hash")


# ---- while the page is open ----


def test_new_lines_appear_in_place(browser, tmp_path, clock):
    train(page := run(tmp_path), [3.0, 2.0], clock)
    validated(page, [20.0, 21.0], count=4)
    opened(browser, page)
    browser.run("window.same = true; view.set({ mode: 'blend', zoom: 2 }); scrollTo(0, 400)")
    scrub(browser, 0)
    before = browser.js("scrollY")
    train(page, [1.0], clock, first=3)
    page.validation(Step(3, 300, 3.0), {"psnr": 22.0}, images(1, count=4))
    page.images(Step(3, 290, 0.0), images(2))
    page.flush()
    until(lambda: text(browser, "legend") == "G 1" and text(browser, "best") == "Best: 3")
    assert before == browser.js("scrollY") > 100
    assert browser.js("[window.same, view.mode, view.zoom]") == [True, "blend", 2]
    assert sources(browser)[0] == "validation001_fake_B"  # what is looked at stays
    browser.find("#newest").click()
    assert sources(browser)[0] == "validation003_fake_B"
    page.validation(Step(4, 400, 4.0), {"psnr": 22.0}, images(1, count=4))
    page.flush()
    until(lambda: sources(browser)[0] == "validation004_fake_B")


def test_a_resumed_run_replaces_what_it_does_again(browser, tmp_path, clock):
    page = run(tmp_path)
    page.data.room = 500
    train(page, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], clock)  # 300 images; the checkpoint has 200
    validated(page, [20.0, 21.0, 22.0])
    opened(browser, page, "#log=0")
    browser.run("window.same = true")
    clock[0] = 7200
    again = TrainingPage(tmp_path, "run", 256, {**page.about, "time": BEGIN + 7200})
    again.data.room = 500
    again.cut(200, 3)
    again.losses(Step(3, 250, 2.5), {"G": 9.0})
    clock[0] += 60
    again.losses(Step(3, 300, 3.0), {"G": 8.0})
    again.validation(Step(3, 300, 3.0), {"psnr": 19.0, "l1": 19.0}, images(3))
    again.flush()
    until(lambda: text(browser, "best") == "Best: 2" and text(browser, "legend") == "G 8")
    expected = [(0.5, 1.0), (1.0, 2.0), (1.5, 3.0), (2.0, 4.0), (2.5, 9.0), (3.0, 8.0)]
    near(lines(browser)[0], expected)
    assert browser.js("window.same")
    opened(browser, again, "#log=0")
    near(lines(browser)[0], expected)
    assert "Resumed" in text(browser, "run")
    browser.run("window.same = true")
    train(run(tmp_path), [7.0], clock)  # another run in the same folder
    until(lambda: text(browser, "legend") == "G 7")
    assert browser.js("window.same") is None
    said = browser.complaints()  # about files that the runs have removed
    assert all("/data-" in line and line.endswith("ERR_FILE_NOT_FOUND") for line in said)


# ---- the run ----


def test_the_state_tells_speed_and_what_is_left_and_when_there_is_no_news(browser, tmp_path, monkeypatch):
    shift = [0.0]
    monkeypatch.setattr(training_page, "now", lambda: time.time() + shift[0])
    page = run(tmp_path, time=time.time() - 300)
    for k in range(1, 6):
        shift[0] = 60 * (k - 5)
        page.losses(Step(1, 50 * k, k / 2), {"G": 1.0})
    page.flush()
    opened(browser, page)
    found = re.fullmatch(r"training · epoch 2.5 of 10 · (0.8\d*) images/s · 15 min left", text(browser, "state"))
    assert float(found[1]) == pytest.approx(50 / 60, rel=0.01)
    assert browser.driver.title == "25% run"
    browser.run("heard = Date.now() / 1000 - 600; drawState()")
    assert text(browser, "state") == "stopped? No news for 10 min · epoch 2.5 of 10"
    page.close(2)
    until(lambda: text(browser, "state") == "stopped · epoch 2.5 of 10")
    page.close(10)
    opened(browser, page)
    assert text(browser, "state") == "finished · epoch 10 of 10"


def test_names_are_shown_and_nothing_in_them_runs(browser, tmp_path, clock):
    bad = "</script><img src=x onerror=window.bad=1>"
    page = run(tmp_path, name=bad, command=f"python train.py --name '{bad}'", options={bad: bad}, model=bad)
    train(page, [{bad: 1.0, "length": 2.0}, {bad: 1.5, "length": 2.0}], clock)
    page.images(Step(1, 50, 0.0), images(1, (bad, "fake_%3Cb%3E")))
    page.validation(Step(1, 100, 1.0), {bad: 1.0, "__proto__": 2.0}, images(2, (bad, "fake_B")))
    page.flush()
    opened(browser, page, "#off=<b>")
    browser.run("document.querySelector('details').open = true; view.set({ mode: 'diff' })")
    assert browser.js("[window.bad, document.querySelectorAll('img[src=x]').length]") == [None, 0]
    assert bad in text(browser, "legend")
    assert browser.js("document.querySelector('.run').textContent").count(bad) >= 3
    until(lambda: all(browser.all(".viewer img", "one.naturalWidth")))


def test_a_phone_shows_all_without_scrolling_sideways(tmp_path, clock):
    validated(page := run(tmp_path), [20.0, 21.0], count=2)
    train(page, [{f"loss_{k}": 1.0 + k for k in range(8)}] * 3, clock)
    visitor = Visitor(390, 844, dark=True)
    opened(visitor, page)
    assert visitor.fits()
    assert min(visitor.all("#fixed .frame", "one.clientWidth")) > 110
    tops = [visitor.js(f"$('{name}').getBoundingClientRect().top") for name in ("fixed", "curves")]
    assert tops[0] < 422 < tops[1]  # images come first, in the upper half of the screen
    named = "Boolean(one.textContent.trim() || one.ariaLabel || one.labels?.length)"
    assert all(visitor.all("button, input, select, svg", named))
    assert visitor.complaints() == []
