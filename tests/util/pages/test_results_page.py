"""The results page in a browser: looked at, compared, sorted and filtered as a person would."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from browser import Visitor
from conftest import ROOT
from experiments import trained_copy
from html_page import Page, image
from PIL import Image
from terminal import copy_tree, shown_rows, table, type_well

from util.errors import UserError
from util.pages.data_file import PageData
from util.pages.results_page import ResultsPage, Row, runs_to_compare, short_labels
from util.pages.results_writer import Results

RUNS = "document.title=document.body.id='executed'"
NAMES = [
    *("a.png", "sub/a.png", "sub/deep er/100% #1?.png", "ünï 東京.png", 'it\'s "quoted" & <b>bold<_b>.png'),
    *(f"<img src=x onerror={RUNS}>.png", f"javascript:{RUNS}.png", "{{x}} {0} %s.png"),
    *(f"plain{i:02d}.png" for i in range(12)),
]
RIGHT, ENTER, ESCAPE = "\ue014", "\ue007", "\ue00c"  # WebDriver's names of keys
RESULTS = "results/toy/test_latest"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The program with a trained experiment, its results, and those of the same networks, compared with them."""
    tree = copy_tree(tmp_path_factory.mktemp("tree"))
    trained = trained_copy("pix2pix", tmp_path_factory.mktemp("trained"), results=True)
    shutil.copytree(trained, tree, dirs_exist_ok=True)
    words = "test.py --dataroot data --name toy --gpu_ids -1 --results_dir other"
    type_well(f"{words} --num_test 3 --compare {RESULTS}", tree)
    return tree


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A page with rows of all NAMES and metrics."""
    folder = tmp_path_factory.mktemp("many")
    page = ResultsPage(folder, "Results", {"paired": True, "width": 256}, roots=["/d"])
    with Results(page) as rows:
        for i, name in enumerate(NAMES):
            labels = ("real_A", "fake_B", "real_B")
            rows.add({label: image(3 * i + k, height=32, width=32) for k, label in enumerate(labels)}, f"/d/{name}")
    page.done()
    # What scripts/evaluate.py writes; row i has psnr i and l1 20 - i, and the first has none.
    names = [unquote(Path(images[0]).name.removesuffix("_real_A.png")) for _, images in shown_rows(folder)]
    values = {name: {"psnr": i, "l1": 20 - i} for i, name in enumerate(names) if i}
    value = {"order": ["psnr", "l1"], "lower": {"psnr": False, "l1": True}, "values": values}
    (folder / "metrics.js").write_text(f"metrics({json.dumps(value)});\n")
    return folder


READY = "document.querySelectorAll('article, #large figure').length > 0"


@pytest.fixture
def visitor(many):
    visitor = Visitor().open(many, "", READY)
    yield visitor
    assert visitor.complaints() == []


def names(visitor):
    """Return the names of the rows, from above."""
    return [name for _, name in sorted(visitor.all("article", "[one.getBoundingClientRect().top, one.ariaLabel]"))]


def captions(visitor):
    return visitor.all("article:first-child figcaption", "one.innerText.split(/\\s+/).join(' ')")


# ---- what is written ----


def test_the_document_says_what_was_done(tree):
    page = Page(tree / RESULTS)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    text = (tree / RESULTS / "index.html").read_text(encoding="utf-8")
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert not re.search(r"https?:|@import", text.replace("http://www.w3.org/2000/svg", ""))  # a name, not an address
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))
    assert "python test.py --name toy --dataroot data --gpu_ids -1" in said
    assert "4 of 4" in said
    assert re.search(r"pix2pix, unet_256, AtoB", said)
    assert re.search(r"checkpoints/toy/latest, epoch 2, 8 images, saved \d{4}-\d\d-\d\d \d\d:\d\d", said)
    assert f"PyTorch {torch.__version__}" in said
    rows = [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row)).strip() for row in re.findall(r"<tr>(.*?)</tr>", text)]
    assert "--ngf 4 64" in rows
    assert not [row for row in rows if row.startswith(("--seed", "--norm "))]
    [link] = [attributes["href"] for attributes in page.all("a")]
    assert (tree / RESULTS / link).resolve() == tree / "checkpoints/toy/web/index.html"


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


def test_all_rows_are_shown_and_no_name_runs(visitor):
    seen = set()
    for _ in range(12):
        seen |= set(names(visitor))
        visitor.run("scrollBy(0, 700); draw()")
    assert seen == set(NAMES)
    assert visitor.js("document.title + document.body.id + document.compatMode") == "ResultsCSS1Compat"
    visitor.until("[...document.images].every((one) => one.alt && (one.hidden || one.naturalWidth === 32))")
    assert not [address for address in visitor.requests() if address.startswith("http")]


def test_keys_choose_how_the_output_is_compared_with_the_truth(visitor):
    assert captions(visitor) == ["real_A input", "fake_B output", "real_B truth"]
    for key, mode in zip("2345", ("slider", "blend", "blink", "diff"), strict=True):
        visitor.press(key)
        assert set(visitor.all("article figure", "one.className")) == {"side", mode}
        assert captions(visitor) == ["real_A input", "fake_B output real_B truth"]
        visitor.until(f"location.hash.includes('mode={mode}')")
    assert visitor.js("getComputedStyle(document.querySelector('.diff .top')).mixBlendMode") == "difference"
    visitor.press("]", "]")
    assert visitor.js("getComputedStyle(document.querySelector('.diff .stack')).filter") == "brightness(5.5)"
    visitor.press("?", "2")  # no mode is chosen while the help is open
    assert "zoom in, out, whole image" in visitor.find("dialog").text
    visitor.press(ESCAPE, "1")
    visitor.until("document.querySelectorAll('article figure.diff').length", 0)


def test_the_slider_is_dragged_on_the_image_and_moved_by_keys_in_all_rows(visitor):
    from selenium.webdriver import ActionChains

    visitor.press("2")
    frame = visitor.find("article .slider .frame")
    drag = ActionChains(visitor.driver).move_to_element(frame).click_and_hold()
    drag.move_by_offset(-frame.size["width"] // 4, 0).release().perform()
    split = visitor.js("view.split")
    assert split == pytest.approx(0.25, abs=0.02)
    clips = visitor.all(".slider .top", "getComputedStyle(one).clipPath")
    assert len(clips) > 1
    assert set(clips) == {f"inset(0px 0px 0px {100 * split:g}%)"}
    visitor.run("arguments[0].focus()", visitor.find("article input[type=range]"))
    visitor.press(RIGHT, RIGHT)
    assert visitor.js("view.split") == pytest.approx(split + 0.01, abs=0.003)


def test_zoom_and_pan_are_those_of_all_images_and_pixels_stay_crisp(visitor):
    from selenium.webdriver import ActionChains

    visitor.press("+", "+")
    (found,) = set(visitor.all(".moved", "getComputedStyle(one).transform"))
    assert found.startswith("matrix(4, 0, 0, 4, -384, ")  # the middle stays in the middle of 256 pixels
    assert set(visitor.all("article img", "getComputedStyle(one).imageRendering")) == {"pixelated"}
    visitor.press(RIGHT)
    assert visitor.js("view.x") > 0.5
    visitor.until("location.hash.includes('zoom=4')")
    frame = visitor.find("article .frame")
    before = visitor.js("view.x - .25 / view.zoom")  # the point under the pointer
    wheel = """((box) => arguments[0].dispatchEvent(new WheelEvent("wheel", {deltaY: -100, ctrlKey: true, bubbles: true,
      cancelable: true, clientX: box.left + box.width / 4, clientY: box.top + box.height / 2})))"""
    visitor.run(f"{wheel}(arguments[0].getBoundingClientRect())", frame)
    assert visitor.js("view.zoom") > 4
    assert visitor.js("view.x - .25 / view.zoom") == pytest.approx(before, abs=1e-3)
    ActionChains(visitor.driver).double_click(frame).perform()
    assert visitor.js("view.zoom") == 1


def test_a_row_is_opened_large_and_left_by_escape_or_back(visitor):
    visitor.press("j", "j", ENTER)
    assert visitor.js("document.querySelector('#large h2').textContent") == NAMES[1]
    assert visitor.js("document.querySelector('#large figure').offsetWidth") > 350
    assert not visitor.find("#rows").is_displayed()
    visitor.press(RIGHT)
    assert visitor.js("document.querySelector('#large h2').textContent") == NAMES[2]
    visitor.press("4")
    visitor.until("document.querySelectorAll('#large figure').length", 1)
    visitor.press(ESCAPE)
    assert visitor.find("#rows").is_displayed()
    assert visitor.js("document.activeElement.ariaLabel") == NAMES[2]
    visitor.js("document.querySelector('article h2 a').click()")
    visitor.until("location.hash.includes('row=')")
    visitor.driver.back()
    visitor.until("document.body.classList.contains('opened')", False)
    assert visitor.js("view.mode") == "blink"


# ---- finding and sorting ----


def test_rows_are_found_by_parts_of_their_paths(visitor):
    visitor.find("#filter").send_keys("SUB a")
    assert names(visitor) == ["sub/a.png"]
    assert visitor.find("#shown").text == "1 of 20 images"
    visitor.run("change({ q: 'no such thing' })")
    assert visitor.find("#note").text == "No image here has “no such thing” in its name."


def test_rows_are_sorted_by_a_metric_worst_first(visitor):
    for metric in ("psnr", "l1"):  # l1 is the better the smaller
        visitor.run("$('sort').value = arguments[0]; $('sort').onchange()", metric)
        assert names(visitor)[:3] == NAMES[1:4]
        visitor.until(f"location.hash.includes('sort={metric}')")
    assert visitor.js("order.at(-1).name") == NAMES[0]  # without a value: the last
    visitor.run("$('sort').value = '-l1'; $('sort').onchange()")
    assert visitor.js("order[0].at > order[1].at")
    texts = visitor.all("#sort option", "one.textContent")
    assert texts[:3] == ["dataset order", "name, A to Z", "name, Z to A"]
    assert texts[-2:] == ["l1, worst first", "l1, best first"]


def test_the_address_restores_everything(visitor, many):
    address = "#mode=blend&blend=0.25&a=real_A&b=fake_B&zoom=3,0.6,0.4&sort=psnr&up=1&q=plain&size=128"
    visitor.open(many, address, READY)
    found = visitor.js("[view.mode, view.blend, view.pair.join(), view.zoom, view.x, view.y]")
    assert found == ["blend", 0.25, "real_A,fake_B", 3, 0.6, 0.4]
    found = visitor.js("[$('sort').value, $('filter').value, $('size').value, order.length]")
    assert found == ["-psnr", "plain", "128", 12]
    assert names(visitor)[0] == "plain11.png"
    assert visitor.js("getComputedStyle(document.querySelector('article .blend .top')).opacity") == "0.25"
    visitor.open(many, visitor.js("'#row=' + encodeURIComponent(arguments[0])", NAMES[5]), READY)
    assert visitor.js("document.querySelector('#large h2').textContent") == NAMES[5]
    visitor.press(ESCAPE)
    visitor.until("location.hash", "#-")


def test_a_phone_scrolls_in_one_direction_alone(many):
    visitor = Visitor(360, 740, dark=True)
    for address in ("#sort=psnr&mode=blink", f"#row={NAMES[8]}", "#mode=slider"):
        visitor.open(many, address, READY)
        assert visitor.fits(), address
    assert visitor.js("document.querySelector('.slider .frame').getBoundingClientRect().top") < 260
    assert visitor.all("article:nth-child(2) .values span", "one.innerText") == ["psnr 1", "l1 19"]
    assert min(visitor.all(".values b", "one.offsetWidth")) > 0


# ---- pages that grow, and large ones ----


def test_an_open_page_takes_new_rows_and_keeps_its_place(tmp_path):
    page = ResultsPage(tmp_path, "t", {"width": 64})

    def add(numbers):
        with Results(page) as rows:
            for i in numbers:
                rows.add({"real": image(i), "fake": image(-i)}, f"{i}.png")

    add(range(40))
    visitor = Visitor().open(tmp_path, "#mode=slider", READY)
    visitor.run("scrollToRow(8); draw()")
    before, seen = visitor.js("scrollY"), names(visitor)
    add(range(40, 60))
    page.done()
    visitor.until("main.rows.length", 60)
    visitor.until("document.body.classList.contains('busy')", False)
    assert visitor.js("[scrollY, view.mode]") == [before, "slider"]
    assert names(visitor) == seen


def test_twenty_thousand_rows_are_opened_scrolled_and_filtered_with_few_in_the_document(tmp_path):
    page = ResultsPage(tmp_path, "t")
    for i in range(20_000):
        page.add_row(Row(f"{i:05d}", {}, {"fake": np.zeros((256, 256, 3), np.uint8)}, f"{i:05d}.png"))
    page.save()
    page.done()
    visitor = Visitor().open(tmp_path, "#row=19999.png", READY)
    visitor.press(ESCAPE)
    visitor.until("document.activeElement.ariaLabel", "19999.png")
    top, bottom = visitor.js("(({ top, bottom }) => [top, bottom])(document.activeElement.getBoundingClientRect())")
    assert 0 <= top < bottom <= 900
    assert 3 <= len(names(visitor)) < 100
    visitor.run("change({ q: '0998' })")
    assert names(visitor)[:2] == ["00998.png", "09980.png"]


# ---- several runs ----


def test_evaluated_runs_are_compared_on_the_same_images_and_may_be_moved(tree, tmp_path):
    folder = tree / "other/toy/test_latest"
    type_well(f"{ROOT / 'scripts/evaluate.py'} {folder} --metrics psnr,l1 --gpu_ids -1", tree)
    shutil.copy(folder / "metrics.js", tree / RESULTS)  # the same networks and images have the same values
    measured = {line["image"]: float(line["psnr"]) for line in table(folder / "evaluation_images.csv")}
    for name in ("results", "other"):
        (tree / name).rename(tmp_path / name)
    visitor = Visitor().open(tmp_path / "other/toy/test_latest", "#sort=psnr", READY)
    assert visitor.js("order.map(idOf)") == sorted(measured, key=measured.get)
    found = captions(visitor)
    other, mine = [text.rpartition(": fake_B")[0] for text in found[1:3]]
    assert found == [
        "real_A input",
        *(f"{label}: fake_B output psnr {min(measured.values()):.4g}" for label in (other, mine)),
        "real_B truth",
    ]
    visitor.until("[...document.querySelectorAll('article img')].every((one) => one.naturalWidth === 32)")
    sources = visitor.all("article:first-child img", "one.src")
    assert "/other/toy/" in sources[1]
    assert "/results/toy/" in sources[2]
    assert visitor.js("view.pair") == [f"{other}: fake_B", f"{mine}: fake_B"]
    sorts = visitor.all("#sort option", "one.value")
    assert {"psnr", f"psnr@{mine}"} <= set(sorts)
    visitor.run(f"change({{ sort: {f'psnr@{mine}'!r} }})")
    assert visitor.js("order.map(idOf)") == sorted(measured, key=measured.get)


def test_a_folder_without_results_cannot_be_compared_with(tmp_path):
    ResultsPage(tmp_path / "new", "t")
    for folder, said in (
        ("nowhere", "nowhere: is not there: test.py writes such as results/NAME/test_latest"),
        ("", "has no data.js. Did you mean "),
        ("new", "new: these are the results that would be replaced"),
    ):
        with pytest.raises(UserError, match=said):
            runs_to_compare(tmp_path / "new", [tmp_path / folder])


def test_labels_of_runs_are_as_short_as_possible():
    assert short_labels([Path("/r/a/test_latest"), Path("/r/b/test_latest")]) == ["a", "b"]
    assert short_labels([Path("/r/a/test_latest"), Path("/r/a/test_5")]) == ["test_latest", "test_5"]
    assert short_labels([Path("/r/a/x"), Path("/r/a/y"), Path("/r/b/x")]) == ["a/x", "a/y", "b/x"]
    assert short_labels([Path("/r/a/x"), Path("/s/a/x")]) == ["/r/a/x", "/s/a/x"]
