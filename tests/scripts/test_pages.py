"""The index of experiments: its table of complete, damaged and foreign experiments, and its use in a browser."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from browser import Visitor
from conftest import make_image
from html_page import Page

from scripts import pages
from scripts.experiments.page import COLUMNS
from scripts.experiments.reader import find
from util.errors import UserError

RUNS = "document.title=document.body.id='executed'"
NAMES = [
    f"<img src=x onerror={RUNS}>",
    "a/b c",
    "line\nbreak",
    "🦓 %s {0} #1?",
    os.fsdecode(b"\xff\xfe\x80"),
    "n" * 240,
]


def write_experiment(
    root, name="base", psnr=(20, 21, 20.5), epochs=3, images=("real_A", "fake_B", "real_B"), **options
):
    """Write what training leaves in checkpoints/NAME; in `options` a pair is a value and its default."""
    folder = Path(root) / "checkpoints" / name
    (folder / "web").mkdir(parents=True)
    values = {"model": ("pix2pix", "cycle_gan"), "n_epochs": (4, 100), "n_epochs_decay": 1, "norm": "batch", **options}
    pairs = [value if isinstance(value, tuple) else (value, None) for value in values.values()]
    lines = [f"{key:>25}: {value!s:<30}" for key, (value, _) in zip(values, pairs, strict=True)]
    lines = [line + f"\t[default: {default}]" * bool(default) for line, (_, default) in zip(lines, pairs, strict=True)]
    (folder / "train_opt.txt").write_text("---- Options ----\n" + "\n".join(lines) + "\n---- End ----\n")
    log = [f"(epoch: {e}, iters: 8, time: 0.1, data: 0.0) G_L1: {e}.500 D: nan \n" for e in range(1, epochs + 1)]
    (folder / "loss_log.txt").write_text("==== Training Loss (some day) ====\n" + "".join(log))
    rows = [f"{e},{8 * e},{value},{40 - value}\n" for e, value in enumerate(psnr, 1)]
    (folder / "validation.csv").write_text("epoch,total_iters,psnr,l1\n" + "".join(rows))
    for seed, label in enumerate(images):
        make_image(folder / "web" / "images" / f"epoch{epochs:03d}_{label}.png", 48, 32, seed=seed)
    return folder


def write_results(root, name, folder="test_latest", **scores):
    """Write what test.py and evaluate.py leave in results/NAME."""
    results = Path(root) / "results" / name / folder
    for seed, label in enumerate(("real_A", "fake_B", "real_B")):
        make_image(results / "images" / f"a_b_{label}.png", 48, 32, seed=seed)
    (results / "index.html").write_text("<!DOCTYPE html><title>results</title>")
    metrics = {key: {"value": value, "low": value, "high": value} for key, value in scores.items()}
    (results / "evaluation.json").write_text(json.dumps({"outputs": {"fake_B": {"metrics": metrics}}}))
    return results


def make_index(root, *words):
    """Write the index of a folder; return the text of each row's cells, by the experiment's name."""
    where = ["--checkpoints_dir", str(root / "checkpoints"), "--results_dir", str(root / "results")]
    for folder in where[1::2]:
        Path(folder).mkdir(exist_ok=True)
    pages.main([*where, *words])
    text = (root / "checkpoints" / "index.html").read_text(encoding="utf-8")
    rows = [
        re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr>(<td.*?)</tr>", text, re.DOTALL)
    ]
    plain = [[" ".join(re.sub("<.*?>", " ", cell).split()) for cell in row] for row in rows]
    return {row[1].split(" ")[0]: dict(zip(map(str.lower, COLUMNS), row, strict=True)) for row in plain}


def test_a_row_shows_what_the_files_hold(tmp_path, capsys):
    write_experiment(tmp_path, dataroot=("/data/facades", "None"), gpu_ids=("0,1", "0"), lr=(0.001, 0.0002))
    write_experiment(tmp_path, "sub/wide", psnr=(25, 23, 24), epochs=2)
    write_results(tmp_path, "base", psnr=19.5, l1=0.25)
    (write_results(tmp_path, "base", "val_2") / "evaluation.html").touch()
    rows = make_index(tmp_path)
    assert capsys.readouterr().out == f"{tmp_path / 'checkpoints' / 'index.html'}: 2 trained, 2 tested\n"
    assert list(rows) == ["base", "sub/wide"]
    base = rows["base"]
    assert base["experiment"] == "base pix2pix dataroot /data/facades lr 0.001"  # not where and how it ran
    assert (base["epoch"], rows["sub/wide"]["epoch"]) == ("3 of 5", "2 of 5")
    assert base["losses"] == "G_L1 3.5"  # D was never a number
    assert base["validation"] == "psnr 21 epoch 2 l1 19 epoch 2"
    assert base["results"] == "test_latest psnr 19.5 l1 0.25 val_2 evaluation"
    links = [attributes["href"] for attributes in Page(tmp_path / "checkpoints").all("a")]
    assert {"base/web", "../results/base/test_latest/index.html", "sub/wide/web/images/epoch002_fake_B.png"} <= {*links}


def test_the_images_are_the_newest_and_those_of_validation_come_first(tmp_path):
    images = write_experiment(tmp_path) / "web" / "images"
    for name in ("epoch003_000000020_fake_B", "epoch003_000000020_2_fake_B", "epoch1000_fake_B", "epoch999_x"):
        make_image(images / f"{name}.png")
    shown = lambda: [path.stem for path in find(tmp_path / "checkpoints", tmp_path)[0].images.values()]  # noqa: E731
    assert shown() == ["epoch1000_fake_B"]
    make_image(images / "validation002_rec_A.png")
    assert shown() == ["validation002_rec_A"]


def test_an_experiment_of_the_reference_project_is_read(tmp_path):
    folder = write_experiment(tmp_path, "old")
    text = (folder / "train_opt.txt").read_text().replace("n_epochs_decay", "niter_decay").replace("n_epochs", "niter")
    (folder / "train_opt.txt").write_text(text)
    (folder / "validation.csv").unlink()
    rows = make_index(tmp_path)
    assert (rows["old"]["experiment"], rows["old"]["epoch"]) == ("old pix2pix", "3 of 5")


def test_results_without_an_experiment_and_downloaded_networks_have_rows(tmp_path):
    write_results(tmp_path, "alone", psnr=18)
    (tmp_path / "checkpoints" / "download").mkdir(parents=True)
    (tmp_path / "checkpoints" / "download" / "latest_net_G.pth").touch()
    rows = make_index(tmp_path)
    assert (rows["alone"]["epoch"], rows["alone"]["results"]) == ("", "test_latest psnr 18")
    assert rows["download"]["experiment"] == "download"
    assert len(Page(tmp_path / "checkpoints").all("img")) == 3


DAMAGE = {
    "checkpoints/base/train_opt.txt": b"\xff\xfe n_epochs: many\n",
    "checkpoints/base/loss_log.txt": b"(epoch: 3, iters: 8, time: 0.1, data: 0.0) G_L1: 1.0 D\n",
    "checkpoints/base/validation.csv": b"half a li\nne\n",
    "checkpoints/base/web/images": b"no folder",
    "results/base/test_latest/evaluation.json": b"[" * 100_000,
}


@pytest.mark.parametrize("file", DAMAGE)
def test_a_damaged_file_is_reported_and_the_rest_is_shown(tmp_path, capsys, file):
    write_experiment(tmp_path)
    write_results(tmp_path, "base")
    whole = make_index(tmp_path)["base"]
    if (tmp_path / file).is_dir():
        (tmp_path / file).rename(tmp_path / "moved")
    (tmp_path / file).write_bytes(DAMAGE[file])
    row = make_index(tmp_path)["base"]
    assert Path(file).name in row["experiment"]
    assert f"  base: {Path(file).name}" in capsys.readouterr().out
    assert sum(row[name] == whole[name] for name in ("epoch", "losses", "validation", "updated")) >= 1


def test_links_that_lead_in_circles_are_followed_once(tmp_path):
    folder = write_experiment(tmp_path)
    (folder.parent / "linked").symlink_to(write_experiment(tmp_path / "disk", "other"))
    (folder / "up").symlink_to(folder.parent)
    assert set(make_index(tmp_path)) == {"base", "linked"}


def test_addresses_lead_to_files_whatever_their_names(tmp_path):
    for name in NAMES:
        write_experiment(tmp_path, name)
        (write_results(tmp_path, name, psnr=20) / "evaluation.html").touch()
    make_index(tmp_path)
    page, base = Page(tmp_path / "checkpoints"), os.fsencode(tmp_path / "checkpoints") + b"/"
    addresses = [one["href"] for one in page.all("a")] + [one["src"] for one in page.all("img")]
    assert len(addresses) == 9 * len(NAMES)
    for address in addresses:
        assert not re.match(r"[a-zA-Z]+:", address)
        assert Path(os.fsdecode(base + unquote_to_bytes(address))).exists(), address
    assert page.all("script") == [{}]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_only_its_own_page_is_replaced_and_wrong_folders_are_named(tmp_path, monkeypatch):
    write_experiment(tmp_path)
    make_index(tmp_path)
    make_index(tmp_path)
    (tmp_path / "other.html").write_text("mine")
    with pytest.raises(UserError, match="was not written by this program: name another file, --out FILE"):
        make_index(tmp_path, "--out", str(tmp_path / "other.html"))
    with pytest.raises(UserError, match="--results_dir nowhere: there is no such folder"):
        pages.main(["--results_dir", "nowhere"])
    monkeypatch.chdir(tmp_path / "results")
    with pytest.raises(UserError, match="no experiments in checkpoints, no results in results"):
        pages.main([])


# ---- in a browser ----


def test_in_a_browser_rows_are_sorted_and_filtered_and_no_name_runs(tmp_path):
    for k, name in enumerate(NAMES[:4]):
        folder = write_experiment(tmp_path, name, psnr=(20 + k,), epochs=3 - k % 2)
        os.utime(folder / "loss_log.txt", (2e9 + k, 2e9 + k))
    write_results(tmp_path, "alone")
    make_index(tmp_path)
    visitor = Visitor().open(tmp_path / "checkpoints")
    names = lambda: visitor.all("tbody tr:not([hidden])", "one.cells[1].dataset.key")  # noqa: E731
    assert names() == [*NAMES[3::-1], "alone"]  # the newest first
    for head, expected in (("2", sorted([*NAMES[:4], "alone"], key=str.casefold)), ("5", [*NAMES[3::-1], "alone"])):
        visitor.find(f"th:nth-child({head}) button").click()
        assert names() == expected or head == "2"
        assert visitor.all("th[aria-sort$=ending]", "one.cellIndex + 1") == [int(head)]
    visitor.find("th:nth-child(5) button").click()
    assert names() == [*NAMES[:4], "alone"]  # without a value: the last either way
    visitor.find("#filter").send_keys("PIX2PIX a/b")
    assert (names(), visitor.find("#count").text) == (["a/b c"], "1 of 5")
    visitor.until("[...document.images].every((one) => one.naturalWidth || one.closest('[hidden]'))")
    assert visitor.js("document.body.id + document.title") == "Experiments"
    assert visitor.complaints() == []


def test_no_row_is_wider_than_the_window(tmp_path):
    long = "a_very_long_name_of_a_dataset_" * 7
    write_experiment(tmp_path, f"{long}/run", dataroot=(f"/data/{long}", "None"))
    write_results(tmp_path, "other", "test_latest_iter20000", psnr=20)
    make_index(tmp_path)
    visitor = Visitor(390, 800, dark=True).open(tmp_path / "checkpoints")
    assert visitor.fits()
    assert max(visitor.all("td", "one.getBoundingClientRect().right")) <= 390


def test_a_start_that_failed_in_an_earlier_version_is_no_experiment(tmp_path):
    (tmp_path / "checkpoints" / "ghost").mkdir(parents=True)
    for name in ("train_opt.txt", "train_opt.json", ".lock"):
        (tmp_path / "checkpoints" / "ghost" / name).write_text("{}")
    assert find(tmp_path / "checkpoints", tmp_path / "results") == []
