"""The results page in a browser: a real run of test.py, looked at, compared, sorted and filtered as a person would."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import time
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from browser import complaints, open_browser, requests
from conftest import ROOT, make_image
from PIL import Image
from terminal import TINY, copy_tree, shown_rows, type_fast, type_well
from test_html import Page, image

from util.pages.data_file import PageData
from util.pages.results_page import ResultsPage, distinct
from util.pages.results_writer import Results, save_images

RUNS = "document.title=document.body.id='executed'"
NAMES = [
    *("a.png", "sub/a.png", "sub/deep er/100% #1?.png", "ünï 東京.png", 'it\'s "quoted" & <b>bold<_b>.png'),
    *(f"<img src=x onerror={RUNS}>.png", f"javascript:{RUNS}.png", "{{x}} {0} %s.png"),
    *(f"plain{i:02d}.png" for i in range(12)),
]
RESULTS = "results/one/test_latest"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The program; two runs of test.py on images of all names, the second without the last; metrics of the first."""
    tree = copy_tree(tmp_path_factory.mktemp("tree"))
    for i, name in enumerate(NAMES):
        make_image(tree / "pairs/test" / name, 64, 32, seed=i)
        if i < 2:
            make_image(tree / f"pairs/train/{i}.png", 64, 32, seed=i)
    for name in ("one", "other"):
        words = f"--dataroot pairs --name {name} --model pix2pix --netG unet_32 {TINY}"
        type_well(f"train.py {words} --n_epochs 1 --n_epochs_decay 0", tree)
    test = "test.py --dataroot pairs --gpu_ids -1 --display_winsize 256 --num_test"
    type_well(f"{test} {len(NAMES)} --name one", tree)
    (tree / "pairs/test/plain11.png").unlink()
    type_well(f"{test} inf --name other --compare {RESULTS}", tree)
    put_metrics(tree / RESULTS)
    return tree


def put_metrics(web_dir, text=None):
    """Write what scripts/evaluate.py writes; row i has psnr i and l1 20 - i, and the first has none."""
    names = [unquote(Path(images[0]).name.removesuffix("_real_A.png")) for _, images in shown_rows(web_dir)]
    values = {name: {"psnr": i, "l1": 20 - i} for i, name in enumerate(names) if i}
    value = {"order": ["psnr", "l1"], "lower": {"psnr": False, "l1": True}, "values": values}
    (web_dir / "metrics.js").write_text(text or f"metrics({json.dumps(value)});\n")


class Looker:
    """A person at a browser: what is seen, and what is done."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, folder, hash=""):
        """Open a page afresh, and wait until its rows are there."""
        self.driver.get("about:blank")
        self.driver.get(f"{(Path(folder) / 'index.html').as_uri()}{hash}")
        self.until("return document.querySelectorAll('article, #large figure').length > 0")
        return self

    def js(self, script, *values):
        return self.driver.execute_script(script, *values)

    def until(self, script, wanted=True):
        """Wait until a script returns what is wanted."""
        for _ in range(100):
            if self.js(script) == wanted:
                return
            time.sleep(0.05)
        pytest.fail(f"{script} is {self.js(script)!r}, not {wanted!r}")

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def names(self):
        """Return the names of the rows, from above."""
        script = """return [...document.querySelectorAll("article")].map((a) => [a.getBoundingClientRect().top, a.ariaLabel])"""  # noqa: E501
        return [name for _, name in sorted(self.js(script))]

    def hash(self, wanted):
        self.until(f"return location.hash.includes({json.dumps(wanted)})")


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("browser"), 1280, 900) as driver:
        yield driver


@pytest.fixture
def looker(driver, tree):
    driver.get("about:blank")
    complaints(driver)  # of tests before
    yield Looker(driver).open(tree / RESULTS)
    said = [line for line in complaints(driver) if "metrics.js" not in line or "ERR_FILE_NOT_FOUND" not in line]
    assert said == []


def names_in_order(web_dir):
    return [name for name, _ in shown_rows(web_dir)]


# ---- the document ----


def test_the_document_is_valid_and_says_what_was_done(tree):
    page = Page(tree / RESULTS)
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert set(ids.values()) == {1}
    text = (tree / RESULTS / "index.html").read_text(encoding="utf-8")
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert not re.search(r"https?:|@import", text.replace("http://www.w3.org/2000/svg", ""))  # a name, not an address
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))
    assert (
        f"python test.py --dataroot pairs --gpu_ids -1 --display_winsize 256 --num_test {len(NAMES)} --name one" in said
    )
    assert f"{len(NAMES)} of {len(NAMES)}" in said
    [link] = [attributes["href"] for attributes in page.all("a")]
    assert (tree / RESULTS / link).resolve() == tree / "checkpoints/one/web/index.html"
    assert "pix2pix, unet_32, AtoB" in said
    assert re.search(r"\./checkpoints/one/latest|checkpoints/one/latest", said)
    assert re.search(r"epoch 1, 2 images, saved \d{4}-\d\d-\d\d \d\d:\d\d", said)
    assert f"PyTorch {torch.__version__}" in said
    rows = [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row)).strip() for row in re.findall(r"<tr>(.*?)</tr>", text)]
    assert "--ngf 4 64" in rows
    assert "--num_test 20 50" in rows
    assert not [row for row in rows if row.startswith(("--seed", "--norm "))]


def test_what_the_page_brings_along_is_under_60_kilobytes(tree):
    text = (tree / RESULTS / "index.html").read_text(encoding="utf-8")
    parts = re.findall(r"<(style|script)>(.*?)</\1>", text, re.DOTALL)
    assert [kind for kind, _ in parts] == ["style", "script", "script"]
    assert sum(len(part.encode()) for _, part in parts) < 60_000


def test_names_keep_their_folders_and_all_their_characters(tree):
    rows = shown_rows(tree / RESULTS)
    assert sorted(name for name, _ in rows) == sorted(NAMES)
    assert dict(rows)["sub/a.png"][1] == "images/sub_a_fake_B.png" or dict(rows)["a.png"][1] == "images/a_fake_B.png"


def test_a_testing_loop_of_ones_own_may_use_the_page_too(tmp_path):
    page = ResultsPage(tmp_path, "t", roots=["/d"])
    assert save_images(page, {"real": image(0), "fake<": image(1)}, "/d/x/1.png") == ["1"]
    page.save()
    assert shown_rows(tmp_path) == [("x/1.png", ["images/1_real.png", "images/1_fake_.png"])]
    assert (tmp_path / "images/1_fake_.png").is_file()


# ---- thumbnails ----


def test_large_pictures_get_thumbnails_in_one_strip_and_small_ones_none(tmp_path):
    ramp = np.broadcast_to(np.linspace(0, 255, 256).astype(np.uint8)[None, :, None], (128, 256, 3))
    for folder, side in (("large", 256), ("small", 150)):
        with Results(ResultsPage(tmp_path / folder, "t", aspect_ratio=2.0), aspect_ratio=2.0) as rows:
            picture = np.array(ramp[: side // 2, :side])
            rows.add({"real": 255 - picture, "fake": picture}, "1.png")
    strip = Image.open(tmp_path / "large/thumbs/1.jpg")
    assert strip.size == (256, 128)
    whole = Image.open(tmp_path / "large/images/1_fake.png").resize((128, 128), Image.Resampling.BOX)
    assert np.abs(np.asarray(strip.crop((128, 0, 256, 128))).astype(int) - np.asarray(whole)).mean() < 2
    layout = [values[0] for call, values in PageData(tmp_path / "large").read() if call == "layout"]
    assert layout == [{"images": [["real", "real", 256, 256], ["fake", "fake", 256, 256]], "thumbs": [128, 128]}]
    assert not (tmp_path / "small/thumbs").exists()


# ---- looking ----


def test_all_rows_are_shown_and_no_name_runs(looker):
    assert looker.names()[:3] == names_in_order_of(looker)[:3]
    seen = set()
    for _ in range(12):
        seen |= set(looker.names())
        looker.js("scrollBy(0, 700)")
        time.sleep(0.15)
    assert seen == set(NAMES)
    assert looker.driver.title == "Experiment = one, Phase = test, Epoch = latest"
    assert looker.js("return document.body.id + document.compatMode") == "CSS1Compat"
    assert looker.js("return [...document.images].every((i) => i.alt)")
    looker.until("return [...document.images].every((i) => i.naturalWidth === 32)")
    assert not [address for address in requests(looker.driver) if address.startswith("http")]
    heads = looker.js("return [...document.querySelectorAll('article h2')].map((h) => h.textContent)")
    assert set(heads) <= set(NAMES)


def names_in_order_of(looker):
    return looker.js("return main.rows.map((one) => one.name)")


def test_keys_choose_how_the_output_is_compared_with_the_truth(looker):
    first = (
        "return [...document.querySelectorAll('article:first-child figcaption')].map((c) => c.innerText.split(/\\s+/))"
    )
    assert looker.js(first) == [["real_A"], ["fake_B"], ["real_B"]]
    for key, mode in zip("2345", ("slider", "blend", "blink", "diff"), strict=True):
        looker.press(key)
        figures = looker.js("return [...document.querySelectorAll('article figure')].map((f) => f.className)")
        assert set(figures) == {"side", mode}
        assert looker.js(first) == [["real_A"], ["fake_B", "real_B"]]
        looker.hash(f"mode={mode}")
    top = "return getComputedStyle(document.querySelector('.diff .top')).mixBlendMode"
    assert looker.js(top) == "difference"
    looker.press("]", "]")
    assert looker.js("return getComputedStyle(document.querySelector('.diff .stack')).filter") == "brightness(5.5)"
    looker.press("x")
    looker.until("return document.querySelector('.diff figcaption .a').textContent", "real_B")
    looker.press("1")
    looker.until("return document.querySelectorAll('article figure.diff').length", 0)


def test_the_slider_is_dragged_on_the_image_and_moved_by_keys_in_all_rows(looker):
    from selenium.webdriver import ActionChains

    looker.press("2")
    frame = looker.find("article .slider .frame")
    width = frame.size["width"]
    ActionChains(looker.driver).move_to_element(frame).click_and_hold().move_by_offset(
        -width // 4, 0
    ).release().perform()
    clips = looker.js("return [...document.querySelectorAll('.slider .top')].map((t) => getComputedStyle(t).clipPath)")
    assert len(clips) > 1
    assert len(set(clips)) == 1
    split = looker.js("return view.split")
    assert split == pytest.approx(0.25, abs=0.02)
    assert clips[0] == f"inset(0px 0px 0px {100 * split:g}%)"
    slider = looker.find("article input[type=range]")
    assert "fake_B" in slider.get_attribute("aria-label")
    looker.js("arguments[0].focus()", slider)
    looker.press("\ue014", "\ue014")  # to the right
    assert looker.js("return view.split") == pytest.approx(split + 0.01, abs=0.003)
    assert [
        float(v) for v in looker.js("return [...document.querySelectorAll('.slider input')].map((i) => i.value)")
    ] == [pytest.approx(split + 0.01, abs=0.003)] * len(clips)


def test_zoom_and_pan_are_those_of_all_images_and_pixels_stay_crisp(looker):
    transforms = "return [...document.querySelectorAll('.moved')].map((m) => getComputedStyle(m).transform)"
    assert set(looker.js(transforms)) == {"matrix(1, 0, 0, 1, 0, 0)"}
    looker.press("+", "+")
    (found,) = set(looker.js(transforms))
    assert found.startswith("matrix(4, 0, 0, 4, -384, ")  # the middle stays in the middle of 256 pixels
    looker.until(
        "return [...document.querySelectorAll('article img')].every((i) => getComputedStyle(i).imageRendering === 'pixelated')"  # noqa: E501
    )
    looker.press("\ue014")
    assert looker.js("return view.x") > 0.5
    looker.hash("zoom=4")
    script = """const frame = arguments[0], box = frame.getBoundingClientRect();
      frame.dispatchEvent(new WheelEvent("wheel", {deltaY: -100, ctrlKey: arguments[1], bubbles: true, cancelable: true,
        clientX: box.left + box.width / 4, clientY: box.top + box.height / 2}));
      return view.zoom;"""
    frame = looker.find("article .frame")
    assert looker.js(script, frame, False) == 4  # the wheel alone scrolls the page
    before = looker.js("return view.x - .25 / view.zoom")  # what is under the pointer
    assert looker.js(script, frame, True) > 4
    assert looker.js("return view.x - .25 / view.zoom") == pytest.approx(before, abs=1e-3)
    from selenium.webdriver import ActionChains

    ActionChains(looker.driver).double_click(frame).perform()
    assert looker.js("return view.zoom") == 1


def test_two_fingers_zoom(looker):
    script = """const frame = document.querySelector("article .frame"), box = frame.getBoundingClientRect();
      frame.setPointerCapture = () => {};
      const send = (name, pointerId, x) => frame.dispatchEvent(new PointerEvent(name,
        {pointerId, pointerType: "touch", bubbles: true, clientX: box.left + x, clientY: box.top + 128}));
      send("pointerdown", 1, 118), send("pointerdown", 2, 138), send("pointermove", 2, 158), send("pointermove", 1, 98);
      send("pointerup", 1, 98), send("pointerup", 2, 158);
      return [view.zoom, view.x, view.y];"""
    assert looker.js(script) == pytest.approx([3, 0.5, 0.5], abs=0.02)


def test_the_pixel_under_the_pointer_is_told_in_every_image(looker):
    from selenium.webdriver import ActionChains

    ActionChains(looker.driver).move_to_element_with_offset(looker.find("article .frame"), -100, -60).perform()
    told = looker.js(
        "return [...document.querySelector('article').querySelectorAll('output')].map((o) => o.textContent.trim())"
    )
    assert told == ["3, 8"] * 3  # of 32; of file:// Chromium lets no script read pixels
    assert complaints(looker.driver) == []


def test_a_row_is_opened_large_and_left_by_escape(looker):
    looker.press("/")
    assert looker.js("return document.activeElement.id") == "filter"
    looker.js("document.activeElement.blur()")
    looker.press("j", "j", "\ue007")
    assert looker.js("return document.querySelector('#large h2').textContent") == names_in_order_of(looker)[1]
    assert looker.js("return document.querySelector('#large figure').offsetWidth") > 350
    assert not looker.find("#rows").is_displayed()
    looker.press("\ue014")
    third = names_in_order_of(looker)[2]
    assert looker.js("return document.querySelector('#large h2').textContent") == third
    looker.press("4")
    looker.until("return document.querySelectorAll('#large figure').length", 1)
    looker.press("\ue00c")
    assert looker.find("#rows").is_displayed()
    assert looker.js("return document.activeElement.ariaLabel") == third


def test_one_row_alone_may_be_compared_in_another_way(looker):
    script = "const s = document.querySelectorAll('article select')[1]; s.value = 'diff'; s.dispatchEvent(new Event('change'))"  # noqa: E501
    looker.js(script)
    modes = looker.js(
        "return [...document.querySelectorAll('article')].map((a) => a.querySelectorAll('figure.diff').length)"
    )
    assert modes[:3] == [0, 1, 0]


def test_question_mark_explains_the_keys_and_escape_ends_that(looker):
    looker.press("?")
    dialog = looker.find("dialog")
    assert dialog.is_displayed()
    assert "swap the two images" in dialog.text
    looker.press("2")  # not while one reads
    assert looker.js("return view.mode") == "side"
    looker.press("\ue00c")
    assert not dialog.is_displayed()


def test_whoever_tabs_sees_where_the_focus_is(looker):
    seen = set()
    for _ in range(20):
        looker.press("\ue004")
        style = looker.js("const s = getComputedStyle(document.activeElement); return s.outlineStyle + s.outlineWidth")
        seen.add((looker.js("return document.activeElement.tagName"), style))
    assert {style for _, style in seen} == {"solid2px"}
    assert {"BUTTON", "INPUT", "SELECT", "ARTICLE"} <= {tag for tag, _ in seen}


# ---- finding and sorting ----


def test_rows_are_found_by_parts_of_their_paths(looker):
    looker.find("#filter").send_keys("SUB a")
    assert looker.names() == [name for name in names_in_order_of(looker) if "sub" in name and "a" in name.lower()]
    assert looker.find("#shown").text == "1 of 20 images" or len(looker.names()) == 2
    looker.hash("q=SUB+a")
    looker.js("document.activeElement.blur()")
    looker.press("2")
    assert looker.js("return document.querySelectorAll('article figure.slider').length") == len(looker.names())


def test_rows_are_sorted_by_a_metric_worst_first_with_its_distribution(looker):
    order = names_in_order_of(looker)
    for metric, expected in (("psnr", order[1:]), ("l1", order[1:])):  # l1 is the better the smaller
        looker.js("$('sort').value = arguments[0]; $('sort').onchange()", metric)
        assert looker.names()[:3] == expected[:3]
        looker.hash(f"sort={metric}")
    assert looker.js("return order.at(-1).name") == order[0]  # without a value: the last
    bars = looker.driver.find_elements("css selector", ".bars button")
    assert len(bars) == 6
    told = [int(bar.get_attribute("aria-label").split(": ")[1]) for bar in bars]
    assert sum(told) == len(NAMES) - 1
    assert "worst 19" in looker.find("#distribution p").text
    bars[-1].click()
    assert looker.find("#shown").text == f"{told[-1]} of {len(NAMES)} images"
    assert looker.names()[:2] == order[1 : told[-1] + 1][:2]
    looker.hash("range=16%2C19")
    looker.press("\ue012", "\ue00d")  # to the bar on the left
    assert looker.find("#shown").text == f"{told[-2]} of {len(NAMES)} images"
    looker.find("#up").click()
    assert looker.js("return order[0].at > order[1].at")


def test_what_evaluate_measures_is_what_the_page_sorts_by(driver, tree):
    web = tree / "results/other/test_latest"
    type_well(f"{ROOT / 'scripts/evaluate.py'} {web} --metrics psnr,l1 --gpu_ids -1", tree)
    with (web / "evaluation_images.csv").open(newline="", encoding="utf-8") as file:
        measured = {line["image"]: float(line["psnr"]) for line in csv.DictReader(file)}
    looker = Looker(driver).open(web, "#sort=psnr")
    ids = looker.js("return order.map(idOf)")
    assert ids == sorted(measured, key=measured.get)
    (web / "metrics.js").unlink()


def test_the_address_brings_everything_back(looker, tree):
    looker.open(
        tree / RESULTS, "#mode=blend&blend=0.25&a=real_A&b=fake_B&zoom=3,0.6,0.4&sort=psnr&up=1&q=plain&size=128"
    )
    assert looker.js("return [view.mode, view.blend, view.pair.join(), view.zoom, view.x, view.y]") == [
        *("blend", 0.25, "real_A,fake_B", 3, 0.6, 0.4)
    ]
    assert looker.js("return [$('sort').value, $('filter').value, $('size').value, order.length]") == [
        "psnr",
        "plain",
        "128",
        12,
    ]
    assert looker.names()[0] == "plain11.png"
    opacity = "return getComputedStyle(document.querySelector('article .blend .top')).opacity"
    assert looker.js(opacity) == "0.25"
    name = NAMES[5]
    looker.open(tree / RESULTS, looker.js("return '#row=' + encodeURIComponent(arguments[0])", name))
    assert looker.js("return document.querySelector('#large h2').textContent") == name
    looker.press("\ue00c")
    looker.until("return location.hash", "#-")


def test_the_list_of_the_rows_shown_is_saved(looker, driver, tmp_path_factory):
    looker.find("#filter").send_keys("plain0")
    looker.find("#list").click()
    downloads = Path(driver.capabilities["chrome"]["userDataDir"]).parent / "downloads"
    for _ in range(60):
        found = list(downloads.glob("images*.txt"))
        if found:
            break
        time.sleep(0.1)
    assert found[0].read_text().splitlines() == [f"plain{i:02d}.png" for i in range(10)]


def test_a_phone_scrolls_in_one_direction_alone(looker, driver, tree):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for address in ("#sort=psnr&mode=slider", "#mode=blink", f"#row={NAMES[8]}"):
            looker.open(tree / RESULTS, address)
            assert looker.js("return document.documentElement.scrollWidth <= innerWidth && innerWidth === 390"), address
        small = looker.js("""return [...document.querySelectorAll("body *")].filter((e) => e.offsetParent && e.innerText &&
          parseFloat(getComputedStyle(e).fontSize) < 12).map((e) => e.outerHTML.slice(0, 80))""")  # noqa: E501
        assert small == []
    finally:
        size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


# ---- pages that grow, and large ones ----


def test_an_open_page_takes_what_a_run_adds_and_keeps_its_place(driver, tmp_path):
    page = ResultsPage(tmp_path, "t", {"width": 64})
    with Results(page) as rows:
        for i in range(40):
            rows.add({"real": image(i), "fake": image(-i)}, f"{i}.png")
    looker = Looker(driver).open(tmp_path, "#mode=slider")
    looker.js("scrollTo(0, 1000)")
    time.sleep(0.3)
    before, there = looker.js("return scrollY"), looker.names()
    with Results(page) as rows:
        for i in range(40, 60):
            rows.add({"real": image(i), "fake": image(-i)}, f"{i}.png")
    page.done()
    looker.until("return main.rows.length", 60)
    looker.until("return document.body.classList.contains('busy')", False)
    assert looker.js("return [scrollY, view.mode]") == [before, "slider"]
    assert looker.names() == there


def test_ten_thousand_rows_are_opened_scrolled_and_filtered_with_few_in_the_document(driver, tmp_path):
    page = ResultsPage(tmp_path, "t")
    pictures = {label: np.zeros((256, 256, 3), np.uint8) for label in ("real_A", "fake_B", "real_B")}
    from util.pages.results_page import Row

    for i in range(10_000):
        page.add_row(Row(f"{i:05d}", {}, pictures, f"{i:05d}.png"))
    page.save()
    page.done()
    put_metrics(tmp_path)
    began = time.monotonic()
    looker = Looker(driver).open(tmp_path, "#sort=psnr")
    assert time.monotonic() - began < 10
    count = "return document.querySelectorAll('article').length"
    assert 3 <= looker.js(count) < 100
    looker.js("scrollTo(0, document.documentElement.scrollHeight)")
    looker.until("return [...document.querySelectorAll('article')].some((a) => a.ariaLabel === '00000.png')")
    assert looker.js(count) < 100
    assert looker.js("return document.querySelector('article:last-child').ariaSetSize") == "10000"
    began = time.monotonic()
    looker.js("change({ q: '0998' })")
    assert looker.names() == ["00998.png", *(f"0998{i}.png" for i in range(10))][: len(looker.names())]
    assert time.monotonic() - began < 3
    complaints(driver)  # there are no pictures


def test_a_list_longer_than_browsers_lay_out_is_scrolled_to_its_end(driver, tmp_path):
    page = ResultsPage(tmp_path, "t")
    from util.pages.results_page import Row

    for i in range(40_000):
        page.add_row(Row(f"{i:05d}", {}, {"fake": np.zeros((8, 8, 3), np.uint8)}, f"{i:05d}.png"))
    page.save()
    page.done()
    looker = Looker(driver).open(tmp_path, "#row=39999.png")
    looker.press("\ue00c")
    looker.until("return document.activeElement.ariaLabel", "39999.png")
    box = looker.js("const b = document.activeElement.getBoundingClientRect(); return [b.top, b.bottom]")
    assert 0 <= box[0] < box[1] <= 900
    complaints(driver)


# ---- several runs ----


def test_runs_stand_side_by_side_on_the_same_images(driver, tree):
    looker = Looker(driver).open(tree / "results/other/test_latest")
    captions = looker.js(
        "return [...document.querySelector('article').querySelectorAll('figcaption')].map((c) => c.textContent.trim())"
    )
    assert captions == ["real_A", "other: fake_B", "one: fake_B", "real_B"]
    looker.until("return [...document.querySelectorAll('article img')].every((i) => i.naturalWidth === 32)")
    sources = looker.js("return [...document.querySelector('article').querySelectorAll('img')].map((i) => i.src)")
    assert "/results/other/test_latest/images/" in sources[1]
    assert "/results/one/test_latest/images/" in sources[2]
    looker.until("return [...document.querySelectorAll('article img')].every((i) => i.naturalWidth === 32)")
    assert looker.js("return view.pair") == ["other: fake_B", "one: fake_B"]
    sorts = looker.js("return [...$('sort').options].map((o) => o.value)")
    assert sorts == ["", "name", "psnr@one", "l1@one"]
    looker.js("change({ sort: 'psnr@one' })")
    value = looker.js("return String(valueOf(order[0], metricOf('psnr@one')))")
    caption = looker.js("return document.querySelectorAll('article figcaption')[2].textContent")
    assert caption == f"one: fake_Bpsnr {value}"


def test_images_are_as_large_as_there_is_room_for_and_one_over_the_other_larger(looker, tree):
    room = looker.js("return $('rows').clientWidth")
    looker.js("main.about.width = 0; change({ q: '' })")  # as without --display_winsize
    width = "return document.querySelector('article figure').clientWidth"
    assert looker.js(width) == (room - 16) // 3
    assert looker.js("return Number($('size').value)") == pytest.approx((room - 16) // 3, abs=8)
    looker.press("2")
    looker.until(width, looker.js("return innerHeight") // 2)  # of two columns, whole in the window
    looker.js("$('size').value = 96; $('size').oninput()")
    looker.until(width, 96)
    looker.hash("size=96")
    looker.press("1")


def test_two_runs_are_sorted_by_how_far_they_differ(driver, tree, tmp_path):
    looker = Looker(driver).open(tree / "results/other/test_latest")
    rows = "Object.fromEntries(rows.map((one, k) => [idOf(one), {psnr: %s}]))"
    of = f"{{order: ['psnr'], lower: {{psnr: false}}, values: {rows}}}"
    for run, value in (("main", "20 - k % 3"), ("runs[1]", "20")):
        looker.js(f"reading = {run}; const {{ rows }} = reading; metrics({of % value}); update()")
    assert "psnr-one" in looker.js("return [...$('sort').options].map((o) => o.value)")
    looker.js("change({ sort: 'psnr-one' })")
    values = looker.js("return order.map((one) => valueOf(one, metricOf('psnr-one')))")
    assert values == sorted(values)
    assert set(values) == {-2, -1, 0}
    assert looker.find("#up").text == "worst first"
    looker.find("#up").click()
    assert looker.find("#up").text == "best first"
    assert looker.js("return valueOf(order[0], metricOf('psnr-one'))") == 0


def test_a_row_has_a_mode_of_its_own_which_its_address_keeps(looker, tree):
    looker.js("const s = document.querySelector('article select'); s.value = 'diff'; s.onchange()")
    modes = "return [...document.querySelectorAll('article')].map((a) => Boolean(a.querySelector('.diff')))"
    looker.until(modes + ".filter(Boolean).length", 1)
    assert looker.find(".pair").is_displayed()
    looker.press("]")
    assert looker.js("return view.gain") == 4.75
    looker.hash("own=diff%3A")
    looker.open(tree / RESULTS, "#" + looker.js("return location.hash.slice(1)"))
    assert looker.js(modes)[0]
    looker.js("const s = document.querySelector('article select'); s.value = ''; s.onchange()")
    assert not looker.find(".pair").is_displayed()


def test_back_closes_a_row(looker, tree):
    looker.find("article h2 a").click()
    looker.hash("row=")
    looker.driver.back()
    looker.until("return document.body.classList.contains('opened')", wanted=False)
    assert looker.js("return location.href").startswith((tree / RESULTS).as_uri())


def test_the_usual_view_comes_back_where_one_is(looker):
    looker.js("scrollToRow(5)")
    looker.until("return scrollY > 500")
    before = looker.js("return [scrollY, order[first()].name]")
    for there, back in (("2", "1"), ("+", "0")):
        looker.press(there)
        looker.hash("mode=slider" if there == "2" else "zoom=")
        looker.press(back)
        looker.until("return location.hash", "#-")
        assert looker.js("return [scrollY, order[first()].name]") == before


def test_a_window_of_another_size_shows_the_same_row(looker, driver):
    looker.js("scrollToRow(8)")
    looker.until("return order[first()] === order[8]")
    looker.js("draw()")
    try:
        for width in (900, 1280, 500):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            looker.until("return innerWidth", width)
            looker.until("return order[first()] === order[8]")
    finally:
        size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def test_back_from_a_row_keeps_the_mode_chosen_there_and_the_focus(looker):
    looker.js("seen.get(order[1]).element.focus()")
    looker.press("\ue007")
    looker.hash("row=")
    looker.press("3")
    looker.hash("mode=blend")
    looker.driver.back()
    looker.until("return document.body.classList.contains('opened')", wanted=False)
    looker.until("return document.activeElement === (seen.get(order[1]) || {}).element")
    assert looker.js("return view.mode") == "blend"
    looker.press("1")


def test_a_finger_that_scrolls_does_not_move_the_slider(looker, driver):
    looker.press("2")
    looker.until("return Boolean(document.querySelector('.slider .frame'))")
    x, y = looker.js(
        "const b = document.querySelector('.slider .frame').getBoundingClientRect(); return [b.x + 60, b.y + 60]"
    )

    def swipe(dx, dy):
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
        for k in range(1, 6):
            points = [{"x": x + dx * k, "y": y + dy * k}]
            driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": points})
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    swipe(1, -4)
    assert looker.js("return view.split") == 0.5
    swipe(10, 1)
    assert looker.js("return view.split") != 0.5
    looker.js("view.set({split: 0.5})")
    looker.press("1")


def test_nothing_found_is_said(looker):
    looker.js("change({ q: 'no such thing' })")
    assert looker.find("#note").text == "No image here has “no such thing” in its name."
    looker.js("change({ q: '' })")
    assert looker.find("#note").text == ""


def test_what_was_not_measured_is_no_order(looker):
    looker.js(
        "reading = main; metrics({order: ['ms_ssim', 'l1'], lower: {}, values: {x: {ms_ssim: NaN, l1: 1}}}); update()"
    )
    assert "ms_ssim" not in looker.js("return [...$('sort').options].map((o) => o.value)")


def test_what_another_run_lacks_is_said_and_the_tree_of_results_may_be_moved(driver, tree, tmp_path):
    words = "test.py --dataroot pairs --gpu_ids -1 --num_test inf --name one --results_dir moved"
    type_well(f"{words} --epoch latest --phase train", tree)
    shutil.copytree(tree / "results/other", tree / "moved/other")
    type_well(f"{words} --compare moved/other/test_latest moved/one/train_latest", tree)
    put_metrics(tree / "moved/one/test_latest")
    shutil.move(tree / "moved", tmp_path / "elsewhere")
    looker = Looker(driver).open(tmp_path / "elsewhere/one/test_latest")
    captions = looker.js(
        "return [...document.querySelector('article').querySelectorAll('figcaption')].map((c) => c.textContent.trim())"
    )
    assert [text.split(":")[0] for text in captions[1:4]] == [
        "one/test_latest",
        "other/test_latest",
        "one/train_latest",
    ]
    looker.until(
        "return [...document.querySelectorAll('article img')].filter((i) => i.src.includes('other/')).every((i) => i.naturalWidth === 32)"  # noqa: E501
    )
    missing = looker.js("return document.querySelector('article .missing:not([hidden])').textContent")
    assert missing == "one/train_latest has no fake_B of this image."


def test_results_of_the_reference_are_compared_by_their_files(driver, tree):
    old = tree / "results/old/test_latest/images"
    old.mkdir(parents=True)
    for name in ("a", "sub_a", "plain03"):
        for label in ("real_A", "fake_B", "real_B"):
            make_image(old / f"{name}_{label}.png", 32, 32)
    words = "test.py --dataroot pairs --gpu_ids -1 --num_test inf --name other --results_dir newer"
    type_well(f"{words} --compare results/old/test_latest", tree)
    looker = Looker(driver).open(tree / "newer/other/test_latest", "#q=plain03")
    captions = looker.js("return [...document.querySelectorAll('figcaption')].map((c) => c.textContent.trim())")
    assert captions == ["real_A", "other: fake_B", "old: fake_B", "real_B"]
    looker.until("return [...document.querySelectorAll('article img')].every((i) => i.naturalWidth === 32)")
    looker.open(tree / "newer/other/test_latest", "#q=plain04")
    assert looker.find(".missing:not([hidden])").text == "old has no fake_B of this image."


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("results/nowhere", "results/nowhere: is not there: test.py writes such as results/NAME/test_latest"),
        (
            "pairs",
            "pairs: has neither data.js nor images/*_fake_B.png: test.py writes such as results/NAME/test_latest",
        ),
        (
            "results/one",
            "results/one: has neither data.js nor images/*_fake_B.png. Did you mean results/one/test_latest?",
        ),
        ("results/other/test_latest", "results/other/test_latest: these are the results that would be replaced"),
    ],
)
def test_what_holds_no_results_cannot_be_compared_with(tree, folder, said):
    done = type_fast(f"test.py --dataroot pairs --gpu_ids -1 --name other --compare {shlex.quote(folder)}", tree)
    assert done.returncode == 1
    assert done.stderr.endswith(f"{said}\n")


def test_runs_are_named_as_shortly_as_tells_them_apart():
    assert distinct([Path("/r/a/test_latest"), Path("/r/b/test_latest")]) == ["a", "b"]
    assert distinct([Path("/r/a/test_latest"), Path("/r/a/test_5")]) == ["test_latest", "test_5"]
    assert distinct([Path("/r/a/x"), Path("/r/a/y"), Path("/r/b/x")]) == ["a/x", "a/y", "b/x"]
    assert distinct([Path("/r/a/x"), Path("/s/a/x")]) == ["/r/a/x", "/s/a/x"]
