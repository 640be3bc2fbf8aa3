"""Pages of custom loops: their form, their names, and images of any kind."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from conftest import names, pixels
from html_page import Page, image
from PIL import Image

from util.pages.document import ASSETS, HTML
from util.visualizer import save_images

HOSTILE = [
    'it\'s "quoted"',
    "<img src=x onerror=alert(1)>",
    "a\nb",
    "50% #1?&amp;",
    "ünï 東京",
    os.fsdecode(b"\xff\xfe"),
    "x" * 251,
]


def as_bytes(tensor):
    """Return an image (C, H, W) in [-1, 1] as the reference writes it."""
    return ((tensor.permute(1, 2, 0) + 1) / 2 * 255).numpy().astype(np.uint8)


def test_a_row_is_a_table_of_linked_lazy_images_over_their_labels(tmp_path):
    page = HTML(tmp_path / "web", "Experiment = x, Phase = test, Epoch = latest")
    assert Path(page.get_image_dir()) == tmp_path / "web" / "images"
    assert Path(page.get_image_dir()).is_dir()
    page.add_header("one")
    page.add_images(["a.png", "b.png"], ["real_A", "fake_B"], ["a.png", "c.png"], width=200)
    page.save()
    seen = Page(tmp_path / "web")
    assert seen.texts["title"] == ["Experiment = x, Phase = test, Epoch = latest"]
    assert seen.texts["h3"] == ["one"]
    assert seen.texts["p"] == ["real_A", "fake_B"]
    assert seen.all("table") == [{"border": "1", "style": "table-layout: fixed;"}]
    assert seen.all("td") == [{"style": "word-wrap: break-word;", "halign": "center", "valign": "top"}] * 2
    assert [a["href"] for a in seen.all("a")] == ["images/a.png", "images/c.png"]
    assert [(i["src"], i["style"], i["loading"]) for i in seen.all("img")] == [
        ("images/a.png", "width:200px", "lazy"),
        ("images/b.png", "width:200px", "lazy"),
    ]
    assert len(seen.all("tr")) == 1


@pytest.mark.parametrize(("refresh", "found"), [(0, []), (7, ["7"])])
def test_only_a_page_that_asks_for_it_reloads_itself(tmp_path, refresh, found):
    HTML(tmp_path, "t", refresh).save()
    assert [meta["content"] for meta in Page(tmp_path).all("meta") if meta.get("http-equiv") == "refresh"] == found


def test_a_page_may_be_saved_as_it_grows(tmp_path):
    page = HTML(tmp_path, "t")
    for row in range(3):
        page.add_header(f"row {row}")
        page.save()
        assert Page(tmp_path).texts["h3"] == [f"row {i}" for i in range(row + 1)]


def test_images_of_any_name_are_found_by_the_page_and_escape_nothing(tmp_path):
    page = HTML(tmp_path, "t")
    visuals = {"real_A": image(0), "<b>fake": image(1)}
    given = [save_images(page, visuals, [f"/data/{stem}.png"])[0] for stem in HOSTILE]
    page.save()
    seen = Page(tmp_path)
    found = {os.fsencode(tmp_path) + b"/" + unquote_to_bytes(one["src"]) for one in seen.all("img")}
    assert found == {os.fsencode(file) for file in (tmp_path / "images").iterdir()}
    assert len(found) == 2 * len(HOSTILE)
    assert not any("onerror" in attributes for attributes in seen.all("img"))
    assert given == [stem[:180] for stem in HOSTILE]
    assert seen.texts["h3"] == [name.encode("utf-8", "replace").decode() for name in given]


def test_every_item_of_a_batch_gets_its_files_and_its_row(tmp_path):
    page = HTML(tmp_path, "t")
    batch = image(3, count=3)
    rgb = np.full((6, 8, 3), 77, np.uint8)  # what the colorization model shows: the first item alone
    paths = [f"/d/{name}.png" for name in "abc"]
    assert save_images(page, {"fake": batch, "rgb": rgb}, paths, width=64) == ["a", "b", "c"]
    page.save()
    assert names(tmp_path / "images") == {"a_fake.png", "a_rgb.png", "b_fake.png", "c_fake.png"}
    assert np.array_equal(pixels(tmp_path / "images/c_fake.png"), as_bytes(batch[2]))
    assert Page(tmp_path).texts["h3"] == ["a", "b", "c"]
    assert [one["style"] for one in Page(tmp_path).all("img")] == ["width:64px"] * 4


def test_names_never_collide_and_older_images_stay(tmp_path):
    page = HTML(tmp_path, "t")
    paths = ["/d/x/1.png", "/d/y/1.png", "/d/y/1.png", "/e/y/1.jpg", "/d/x/1.png", "/d/z/Y_1.png", "/d/cat.2.jpg"]
    found = [save_images(page, {"fake": image(i)}, [path])[0] for i, path in enumerate(paths)]
    assert found == ["1", "y_1", "y_1_2", "e_y_1", "1_2", "z_Y_1", "cat.2"]
    for i, name in enumerate(found):
        assert np.array_equal(pixels(tmp_path / f"images/{name}_fake.png"), as_bytes(image(i)[0]))


@pytest.mark.parametrize(("ratio", "size"), [(2.0, (60, 80)), (0.5, (120, 40))])
def test_the_aspect_ratio_stretches_one_side(tmp_path, ratio, size):
    save_images(HTML(tmp_path, "t"), {"fake": image(height=40, width=60)}, ["a.png"], aspect_ratio=ratio)
    assert Image.open(tmp_path / "images" / "a_fake.png").size == size


@pytest.mark.parametrize(("channels", "size"), [(1, (8, 6)), (2, (16, 6)), (4, (8, 6))])
def test_tensors_of_any_number_of_channels_are_shown(tmp_path, channels, size):
    tensor = image(5, channels=channels)
    save_images(HTML(tmp_path, "t"), {"fake": tensor}, ["a.png"])
    picture = Image.open(tmp_path / "images" / "a_fake.png")
    assert picture.size == size
    assert picture.mode == "RGB"
    grey = ((tensor[0] + 1) / 2 * 255).numpy().astype(np.uint8)
    shown = np.array(picture)
    if channels <= 2:  # grey, the channels side by side
        expected = np.concatenate(list(grey), axis=1)
        assert all(np.array_equal(shown[:, :, c], expected) for c in range(3))
    else:
        assert np.array_equal(shown, grey[:3].transpose(1, 2, 0))


@pytest.mark.parametrize("name", ["results", "training"])
def test_a_page_has_less_than_60_kb_of_code(name):
    files = [
        ASSETS / f"{part}.{suffix}" for suffix, common in (("css", "page"), ("js", "viewer")) for part in (common, name)
    ]
    assert sum(file.stat().st_size for file in files) < 60_000
