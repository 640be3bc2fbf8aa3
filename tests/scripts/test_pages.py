"""The index of experiments: what it tells of whole, damaged and foreign ones, and how it is used in a browser."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

import numpy as np
import pytest
from browser import complaints, open_browser, requests
from conftest import ROOT, make_aligned, make_image, type_command
from terminal import TINY, copy_tree, type_well
from test_bad_names import EXPERIMENTS, HOSTILE
from test_html import Page

from scripts import pages
from scripts.experiments.reader import find
from util.errors import UserError

NAMES = [HOSTILE, *(name for name in EXPERIMENTS if not name.startswith(".."))]
BEGUN = 1_700_000_000  # seconds since 1970


def write_experiment(root, name, psnr=(20, 21, 20.5), epochs=3, images=("real_A", "fake_B", "real_B"), **options):
    """Write what training leaves in checkpoints/NAME: four printed losses an epoch, of 8 images."""
    folder = Path(root) / "checkpoints" / name
    (folder / "web").mkdir(parents=True)
    values = {"model": "pix2pix", "dataset_mode": "aligned", "netG": "unet_256", "norm": "batch", "n_epochs": 2}
    values |= {"n_epochs_decay": 1, "lr": 0.0002, "max_dataset_size": None, "seed": 1_234_567, "name": name, **options}
    (folder / "train_opt.json").write_text(json.dumps(values))
    rows = [f"{e},{i},{8 * (e - 1) + i},0.1,0.01,{e + i / 8},nan\n" for e in range(1, epochs + 1) for i in (2, 4, 6, 8)]
    (folder / "metrics.csv").write_text("epoch,iters,total_iters,time,data,G_L1,D\n" + "".join(rows))
    rows = [f"{e},{8 * e},{value},{40 - value}\n" for e, value in enumerate(psnr, 1)]
    (folder / "validation.csv").write_text("epoch,total_iters,psnr,l1\n" + "".join(rows))
    (folder / "web" / "data.js").write_text(f'//\nbegin("{BEGUN}123456789", {BEGUN}.5);\n')
    for seed, label in enumerate(images):
        make_image(folder / "web" / "images" / f"epoch{epochs:03d}_{label}.png", 48, 32, seed=seed)
    (folder / "latest_net_G.pth").write_bytes(b"weights")
    os.utime(folder / "latest_net_G.pth", (BEGUN + 60, BEGUN + 60))
    return folder


def write_results(root, name, folder="test_latest", **scores):
    """Write what test.py and evaluate.py leave in results/NAME."""
    results = Path(root) / "results" / name / folder
    for seed, label in enumerate(("real_A", "fake_B", "real_B")):
        make_image(results / "images" / f"a_b_{label}.png", 48, 32, seed=seed)
    (results / "index.html").write_text("<!DOCTYPE html><title>results</title>")
    if scores:
        metrics = {key: {"value": value, "low": value, "high": value} for key, value in scores.items()}
        (results / "evaluation.json").write_text(json.dumps({"outputs": {"fake_B": {"metrics": metrics}}}))
    return results


def make_index(root, *words):
    """Write the index of a folder; return its experiments by name, and the metrics of which less is better."""
    where = ["--checkpoints_dir", str(root / "checkpoints"), "--results_dir", str(root / "results")]
    for folder in where[1::2]:
        Path(folder).mkdir(exist_ok=True)
    pages.main([*where, *words])
    return shown_in(root / "checkpoints" / "index.html")


def shown_in(page):
    """Read what a page tells its script."""
    (line,) = re.findall(r"^show\((.*)\);$", page.read_text(encoding="utf-8").replace("<script>", "\n"), re.MULTILINE)
    runs, lower = json.loads(f"[{line}]")
    return {run["name"]: run for run in runs}, lower


def test_the_page_tells_what_the_files_tell(tmp_path, capsys):
    write_experiment(tmp_path, "base")
    write_experiment(tmp_path, "sub/wide", psnr=(25, 23, 24), epochs=2, lr=0.001, n_epochs=4, seed=7)
    write_results(tmp_path, "base", psnr=19.5, l1=0.25)
    write_results(tmp_path, "base", "val_2")
    runs, lower = make_index(tmp_path)
    assert capsys.readouterr().out == f"2 experiments, 2 results folders: {tmp_path / 'checkpoints' / 'index.html'}\n"
    assert list(runs) == ["base", "sub/wide"]
    assert lower == ["l1"]
    base, wide = runs.values()
    assert (base["model"], base["done"], base["total"], base["notes"]) == ("pix2pix", 3, 3, [])
    assert (wide["done"], wide["total"]) == (3, 5)
    assert base["begun"] == time.strftime("%Y-%m-%d %H:%M", time.localtime(BEGUN))
    assert base["saved"] == time.strftime("%Y-%m-%d %H:%M", time.localtime(BEGUN + 60))
    assert base["best"] == {"psnr": [21, 2], "l1": [19, 2]}
    assert wide["best"]["psnr"] == [25, 1]
    assert base["results"] == [
        ["test_latest", "../results/base/test_latest/index.html", {"psnr": 19.5, "l1": 0.25}, ""],
        ["val_2", "../results/base/val_2/index.html", {}, ""],
    ]
    assert base["facts"]["psnr"] == "21 (epoch 2), 19.5 (test_latest)"
    assert wide["href"] == "sub/wide/web/"  # there is no page in it
    assert [image[0] for image in base["images"]] == ["real_A", "fake_B", "real_B"]
    assert all(image[2:4] == [48, 32] for image in base["images"])
    assert base["shown"] == "epoch 3"


def test_options_are_told_that_differ_among_experiments_and_from_the_defaults(tmp_path):
    write_experiment(tmp_path, "base", ngf=32, dataroot="/data/facades", gpu_ids="0")
    write_experiment(tmp_path, "other", ngf=32, dataroot="/data/maps/", lr=0.001, gpu_ids="1", seed=3, norm="instance")
    runs, _ = make_index(tmp_path)
    assert runs["base"]["told"] == [["dataroot", "facades"]]  # its seed was drawn; lr and norm are pix2pix's own
    assert runs["other"]["told"] == [["norm", "instance"], ["lr", "0.001"], ["seed", "3"], ["dataroot", "maps"]]
    assert runs["other"]["facts"]["--gpu_ids"] == "1"
    assert "--ngf" not in runs["other"]["facts"]
    assert "n_epochs <b>2</b>" in (tmp_path / "checkpoints" / "index.html").read_text()  # in all of them
    assert "ngf <b>32</b>" in (tmp_path / "checkpoints" / "index.html").read_text()


def test_curves_are_over_epochs_and_what_was_done_again_replaces_what_was_before(tmp_path):
    folder = write_experiment(tmp_path, "base")
    runs, _ = make_index(tmp_path)
    points = [[0.25 * k, 1 + (k - 1) // 4 + ((k - 1) % 4 + 1) / 4] for k in range(1, 13)]
    assert runs["base"]["curves"]["G_L1"] == points
    assert runs["base"]["curves"]["validation psnr"] == [[1, 20], [2, 21], [3, 20.5]]
    assert "D" not in runs["base"]["curves"]  # never a number
    (folder / "metrics.csv").unlink()
    log = "".join(f"(epoch: 1, iters: {i}, time: 0.1, data: 0.0) G_L1: {i}.500 D: 0.100 \n" for i in (2, 4, 6, 8))
    again = "(epoch: 1, iters: 6, time: 0.1, data: 0.0) G_L1: 9.000 D: 0.200 \n"
    (folder / "loss_log.txt").write_text(f"==== Training Loss (some day) ====\n{log}==== Training Loss ====\n{again}")
    runs, _ = make_index(tmp_path)
    assert runs["base"]["curves"]["G_L1"] == [[0.25, 2.5], [0.5, 4.5], [0.75, 9]]


def test_long_tables_are_thinned_out_to_the_last_point(tmp_path):
    write_experiment(tmp_path, "long", epochs=900, psnr=[20 + k / 900 for k in range(900)])
    runs, _ = make_index(tmp_path)
    for name, last in (("G_L1", 901), ("validation psnr", 21)):
        curve = runs["long"]["curves"][name]
        assert 60 <= len(curve) <= 100
        assert curve[-1] == [900, pytest.approx(last, abs=0.01)]
    assert runs["long"]["best"]["psnr"][1] == 900


def test_the_images_are_the_last_ones_and_those_of_validation_go_first(tmp_path):
    folder = write_experiment(tmp_path, "base") / "web" / "images"
    later = ("epoch003_000000020_fake_B", "epoch003_000000020_2_fake_B", "epoch003_000000020_2_fake_B_1", "epoch001_x")
    for seed, name in enumerate(later):
        make_image(folder / f"{name}.png", 300, 100, seed=seed)
    runs, _ = make_index(tmp_path)
    ((label, address, width, height, thumb),) = runs["base"]["images"]
    assert (label, address) == ("fake_B", "base/web/images/epoch003_000000020_2_fake_B.png")
    assert (width, height) == (300, 100)
    assert thumb.startswith("data:image/jpeg;base64,")
    for name in ("validation002_fake_B", "validation002_fake_B_1", "validation002_rec_A", "validation002_real_A"):
        make_image(folder / f"{name}.png")
    runs, _ = make_index(tmp_path)
    assert [Path(image[1]).stem[14:] for image in runs["base"]["images"]] == ["real_A", "fake_B", "rec_A"]
    assert runs["base"]["shown"] == "validation, epoch 2"


def test_an_experiment_of_the_reference_project_is_read_from_its_text(tmp_path):
    folder = tmp_path / "checkpoints" / "old"
    folder.mkdir(parents=True)
    lines = [
        "----------------- Options ---------------",
        *(f"{k:>25}: {v:<30}" for k, v in {"model": "cycle_gan"}.items()),
    ]
    lines += [f"{'lr':>25}: {0.01:<30}\t[default: 0.0002]", f"{'n_epochs':>25}: {7:<30}\t[default: 100]"]
    lines += [f"{'n_epochs_decay':>25}: {3:<30}\t[default: 100]", "----------------- End -------------------"]
    (folder / "train_opt.txt").write_text("\n".join(lines))
    (folder / "loss_log.txt").write_text(
        "================ Training Loss (Sun Feb  2 2020) ================\n"
        "(epoch: 1, iters: 100, time: 0.5, data: 0.1) D_A: 0.300 G_A: 0.500 \n"
        "(epoch: 1, iters: 200, time: 0.5, data: 0.1) D_A: 0.200 G_A: 0.400 \n"
        "(epoch: 2, iters: 100, time: 0.5, data: 0.1) D_A: 0.100 G_A: 0.300 \n"
    )
    (folder / "5_net_G_A.pth").write_bytes(b"")
    write_experiment(tmp_path, "new")
    runs, _ = make_index(tmp_path)
    old = runs["old"]
    assert (old["model"], old["done"], old["total"], old["notes"]) == ("cycle_gan", 5, 10, [])
    assert old["told"][:2] == [["lr", "0.01"], ["n_epochs", "7"]]
    assert old["curves"]["D_A"] == [[0.5, 0.3], [1, 0.2], [1.5, 0.1]]
    assert old["href"] == "old/"


def test_results_without_an_experiment_have_a_row_of_their_own(tmp_path):
    write_results(tmp_path, "a/alone", psnr=18)
    runs, _ = make_index(tmp_path)
    alone = runs["a/alone"]
    assert (alone["model"], alone["saved"], alone["done"]) == ("", None, None)
    assert alone["results"][0][2] == {"psnr": 18}
    assert [Path(image[1]).name for image in alone["images"]] == ["a_b_real_A.png", "a_b_fake_B.png", "a_b_real_B.png"]
    assert alone["shown"] == "test_latest, a_b"


DAMAGE = {
    "train_opt.json": b'{"model": "pix2pix", "n_ep',
    "metrics.csv": b"\x00\xff\xfe\n1,2\n" + b'"' * 200_000 + b"\n",
    "validation.csv": b"half a li\nne\n",
    "web/data.js": b"//\nbegin([[[[;\nstart(",
    "web/images/epoch003_fake_B.png": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("file", DAMAGE)
def test_damaged_files_are_told_and_the_rest_is_shown(tmp_path, capsys, file):
    folder = write_experiment(tmp_path, "base")
    whole, _ = make_index(tmp_path)
    (folder / file).write_bytes(DAMAGE[file])
    runs, _ = make_index(tmp_path)
    base = runs["base"]
    if file == "web/data.js":
        assert base["notes"] == []  # the files' dates stand in
        assert base["begun"] != whole["base"]["begun"]
    else:
        assert [note for note in base["notes"] if Path(file).name in note or "a table is damaged" in note]
        assert f"  base: {base['notes'][0]}" in capsys.readouterr().out
    same = {"saved", "results", "name"} | ({"best"} if file != "validation.csv" else {"model", "total"})
    assert all(base[key] == whole["base"][key] for key in same)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", "{}", '{"outputs": 3}', '{"outputs": {"a": {"metrics": {"psnr": {"value": [1]}}}}}']
)
def test_no_evaluation_stops_the_index(tmp_path, text):
    (write_results(tmp_path, "base") / "evaluation.json").write_text(text)
    runs, _ = make_index(tmp_path)
    assert runs["base"]["results"][0][2] == {}
    assert runs["base"]["notes"] == ["test_latest/evaluation.json is damaged"] or "[1]" in text


@pytest.mark.parametrize("size", range(0, 220, 11))
def test_a_table_that_is_being_written_is_read_up_to_its_last_whole_line(tmp_path, size):
    folder = write_experiment(tmp_path, "base")
    text = (folder / "metrics.csv").read_bytes()
    (folder / "metrics.csv").write_bytes(text[:size])
    runs, _ = make_index(tmp_path)
    whole = max(text[:size].count(b"\n") - 1, 0)
    assert len(runs["base"]["curves"].get("G_L1", [])) == whole
    assert runs["base"]["notes"] == ([] if whole or b"\n" in text[:size] or not size else ["metrics.csv is damaged"])


def test_links_that_lead_in_circles_are_followed_once(tmp_path):
    folder = write_experiment(tmp_path, "base")
    elsewhere = write_experiment(tmp_path / "disk", "other")
    (folder.parent / "linked").symlink_to(elsewhere)
    (folder / "up").symlink_to(folder.parent)
    runs, _ = make_index(tmp_path)
    assert set(runs) == {"base", "linked"}


def test_a_folder_that_may_not_be_read_is_no_hindrance(tmp_path, monkeypatch):
    write_experiment(tmp_path, "base")
    folder = write_experiment(tmp_path, "shut")
    opened = Path.open

    def refuse(path, *args, **kwargs):
        if path.name == "metrics.csv" and path.parent == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    runs, _ = make_index(tmp_path)
    assert runs["shut"]["notes"] == ["metrics.csv: Permission denied"]
    assert runs["shut"]["best"]["psnr"] == [21, 2]


def test_addresses_lead_to_files_whatever_their_names(tmp_path):
    for name in NAMES:
        write_experiment(tmp_path, name)
        (write_results(tmp_path, name, psnr=20) / "evaluation.html").write_text("<!DOCTYPE html>")
    runs, _ = make_index(tmp_path)
    assert sorted(runs) == sorted(os.path.normpath(name) for name in NAMES)
    base = os.fsencode(tmp_path / "checkpoints") + b"/"
    for run in runs.values():
        pages_of = [address for one in run["results"] for address in (one[1], one[3])]
        for address in [run["href"], *(image[1] for image in run["images"]), *pages_of]:
            assert not re.match(r"[a-zA-Z]+:", address)
            assert Path(os.fsdecode(base + unquote_to_bytes(address))).exists(), address
    page = Page(tmp_path / "checkpoints")
    assert len(page.all("script")) == 3
    assert not any(name.startswith("on") for tag, own in page.tags for name in own if tag != "form")


def test_the_metric_is_the_one_that_fills_most_cells(tmp_path):
    write_experiment(tmp_path, "base", psnr=(20,))
    write_results(tmp_path, "base", psnr=20, fd_lite0=3)
    write_results(tmp_path, "foreign", fd_lite0=3)
    write_results(tmp_path, "foreign", "val_latest", fd_lite0=3)
    assert pages.metrics(found := find(tmp_path / "checkpoints", tmp_path / "results")) == ["fd_lite0", "psnr", "l1"]
    assert pages.metrics(found[:1])[0] == "psnr"
    write_experiment(tmp_path, "other", psnr=(21,))  # now as many
    assert pages.metrics(find(tmp_path / "checkpoints", tmp_path / "results"))[0] == "psnr"
    make_index(tmp_path)
    options = re.findall(r"<option[^>]*>([^<]*)", (tmp_path / "checkpoints" / "index.html").read_text())
    assert options[:2] == ["psnr (higher is better)", "fd_lite0 (lower is better)"]


def test_two_hundred_experiments_take_a_few_seconds(tmp_path):
    for k in range(200):
        write_experiment(tmp_path, f"group{k % 7}/run{k}", epochs=20, lr=k / 1e4)
    begin = time.process_time()
    found = find(tmp_path / "checkpoints", tmp_path / "results")
    pages.write_page(tmp_path / "index.html", found)
    assert time.process_time() - begin < 10  # 1.5 on a slow core
    assert len(shown_in(tmp_path / "index.html")[0]) == 200


def test_the_command_says_what_is_missing_and_what_to_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"no experiments in checkpoints and no results in results: .*--checkpoints_dir"
    ):
        pages.main([])
    write_experiment(tmp_path, "base")
    with pytest.raises(UserError, match=r"--checkpoints_dir chekpoints: there is no such folder. Did you mean 'checkp"):
        pages.main(["--checkpoints_dir", "chekpoints"])
    with pytest.raises(UserError, match=r"--results_dir elsewhere: there is no such folder"):
        pages.main(["--results_dir", "elsewhere"])
    with pytest.raises(UserError, match=r"--out a/b.html: there is no folder a"):
        pages.main(["--out", "a/b.html"])
    mine = tmp_path / "checkpoints" / "base" / "web" / "index.html"
    mine.write_text("<!DOCTYPE html><title>training page</title>")
    with pytest.raises(UserError, match=r"index.html is there and was not written by this program: .*--out FILE"):
        pages.main(["--out", str(mine)])
    assert mine.read_text() == "<!DOCTYPE html><title>training page</title>"
    pages.main([])
    pages.main([])  # its own page may be replaced
    pages.main(["--out", str(tmp_path)])  # a folder
    assert shown_in(tmp_path / "index.html")[0]["base"]["href"] == "checkpoints/base/web/index.html"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_help_and_errors_as_they_are_typed(tmp_path):
    script = ROOT / "scripts" / "pages.py"
    begin = time.process_time()
    done = type_command(script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--checkpoints_dir" in done.stdout
    assert time.process_time() - begin < 2  # without PyTorch
    done = type_command(script, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no experiments in checkpoints")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Three real runs, two of them tested, and one of a hostile name."""
    tree = copy_tree(tmp_path_factory.mktemp("tree"))
    make_aligned(tree / "pairs", ("train", "val", "test"))
    words = f"--dataroot pairs --model pix2pix --netG unet_32 {TINY} --val_freq 1 --print_freq 1 --n_epochs_decay 0"
    for name, own in {
        "first": "--n_epochs 1",
        "second": "--n_epochs 2 --lr 0.001",
        "sub/third": "--n_epochs 1",
    }.items():
        type_well(f"train.py {words} --name {name} {own}", tree)
    for name in ("first", "second"):
        type_well(f"test.py --dataroot pairs --name {name} --gpu_ids -1", tree)
    figures = {"outputs": {"fake_B": {"metrics": {"psnr": {"value": 11.5}, "l1": {"value": 0.2}}}}}
    (tree / "results/first/test_latest/evaluation.json").write_text(json.dumps(figures))
    (tree / "results/first/test_latest/evaluation.html").write_text("<!DOCTYPE html><title>evaluation</title>")
    write_experiment(tree, HOSTILE, psnr=(90, 91))
    pages.write_index(tree / "checkpoints", tree / "results", None)
    return tree


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("browser"), 1280, 900) as driver:
        yield driver


def names(driver):
    return [node.text for node in driver.find_elements("css selector", "#runs .about > a")]


def opened(driver, tree, state=""):
    driver.get("about:blank")
    driver.get((tree / "checkpoints" / "index.html").as_uri() + state)
    assert driver.title == "Experiments"  # no name has run as a script
    return driver


def test_real_runs_are_listed_with_what_they_came_to(tree):
    runs, _ = shown_in(tree / "checkpoints" / "index.html")
    assert (runs["second"]["done"], runs["second"]["total"]) == (2, 2)
    assert runs["sub/third"]["href"] == "sub/third/web/index.html"
    assert set(runs["first"]["best"]) >= {"psnr", "ssim", "l1"}
    assert runs["first"]["shown"] == "validation, epoch 1"
    assert abs(time.mktime(time.strptime(runs["first"]["saved"], "%Y-%m-%d %H:%M")) - time.time()) < 600
    assert ["lr", "0.001"] in runs["second"]["told"]
    assert len(runs["second"]["curves"]["G_L1"]) == 8


def test_the_table_is_sorted_filtered_and_shows_any_metric(tree, browser):
    driver = opened(browser, tree)
    assert HOSTILE in names(driver)
    driver.find_element("css selector", "button[value=best]").click()
    assert names(driver)[0] == HOSTILE  # psnr 91
    driver.find_element("css selector", "button[value=best]").click()
    assert names(driver)[-1] == HOSTILE
    assert driver.find_element("css selector", "[aria-sort=ascending]").text == "Validation · psnr"
    driver.find_element("css selector", "button[value=test]").click()
    assert names(driver)[0] == "first"  # the only one with a score; the others follow
    assert driver.find_element("css selector", ".test b").text == "11.5"
    driver.find_element("css selector", "#metric option[value=l1]").click()
    assert driver.find_element("css selector", ".test b").text == "0.2"
    driver.find_element("id", "filter").send_keys("LR 0.001")
    assert names(driver) == ["second"]
    assert driver.find_element("id", "count").text == "1 of 4"
    assert "q=LR" in driver.current_url
    driver.refresh()
    assert names(driver) == ["second"]
    assert driver.find_element("id", "metric").get_attribute("value") == "l1"
    driver.find_element("id", "filter").clear()
    assert not complaints(driver)


def until(true, seconds: float = 10.0) -> None:
    """Wait for what a browser does in its own time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_thumbnails_stand_in_the_page_and_links_lead_to_pages(tree, browser):
    driver = opened(browser, tree)
    requests(driver)
    driver.refresh()
    widths = driver.execute_script(
        "return [...document.querySelectorAll('.images img')].map((image) => image.naturalWidth)"
    )
    assert len(widths) == 4 * 3
    assert all(widths)
    asked = [address for address in requests(driver) if address.startswith("file:")]
    assert len(asked) == 1  # the page itself
    for link in driver.find_elements("css selector", "#runs a"):
        path = Path(unquote(link.get_attribute("href").removeprefix("file://")))
        assert path.exists(), path


def tick(driver, *chosen):
    for name in chosen:
        driver.find_elements("css selector", "#runs .tick input")[names(driver).index(name)].click()


def captions(driver):
    return [node.text for node in driver.find_elements("css selector", "#images figcaption")]


def press(driver, key):
    driver.switch_to.active_element.send_keys(key)


def test_two_are_compared_side_by_side(tree, browser):
    driver = opened(browser, tree)
    tick(driver, HOSTILE, "first", "second")  # the first one gives way
    assert driver.find_element("id", "chosen").text == "first and second"
    driver.find_element("id", "open").click()
    place = driver.find_element("id", "compare")
    assert [node.text for node in place.find_elements("css selector", "h2 a")] == ["first", "second"]
    assert captions(driver) == ["first: fake_B", "second: fake_B", "real_A", "real_B"]  # what both saw is shown once
    widths = "return [...document.querySelectorAll('#images img')].map((image) => image.naturalWidth)"
    until(lambda: driver.execute_script(widths) == [32] * 4)  # the full images
    charts = [node.text.split("\n")[0].split()[0] for node in place.find_elements("css selector", ".charts figcaption")]
    assert {"G_L1", "validation"} <= set(charts)
    both = "return [...document.querySelectorAll('.charts svg')].map((node) => node.querySelectorAll('path').length)"
    assert set(driver.execute_script(both)) == {2}
    assert not place.find_elements("css selector", "details")
    rows = [node.text for node in place.find_elements("css selector", "tr")]
    assert "--lr 0.0002 0.001" in rows
    assert "epochs 1 of 1 2 of 2" in rows
    assert not [row for row in rows if row.startswith("--netG")]  # the same in both
    assert not driver.find_element("id", "index").is_displayed()
    assert not complaints(driver)


def test_two_are_laid_over_one_another_by_keys(tree, browser):
    driver = opened(browser, tree)
    press(driver, "2")  # nothing to compare yet
    tick(driver, "first", "second")
    driver.find_element("id", "open").click()
    assert driver.execute_script("return [view.mode, view.pair]") == ["side", ["first: fake_B", "second: fake_B"]]
    narrow = driver.execute_script("return document.querySelector('#images .frame').clientWidth")
    for key, mode in (("3", "blend"), ("4", "blink"), ("5", "diff"), ("2", "slider")):
        press(driver, key)
        assert driver.find_element("css selector", f"#images figure.{mode}")
    assert captions(driver) == ["first: fake_B\nsecond: fake_B"]  # nothing but these, larger
    assert driver.execute_script("return document.querySelector('#images .frame').clientWidth") > narrow
    press(driver, "+")
    press(driver, "x")
    until(lambda: "zoom=2" in driver.current_url and "a=second" in driver.current_url)  # written when all rests
    driver.refresh()  # the address keeps all of it
    assert driver.execute_script("return [view.mode, view.zoom, view.pair[0]]") == ["slider", 2, "second: fake_B"]
    assert captions(driver) == ["second: fake_B\nfirst: fake_B"]
    assert not complaints(driver)


def test_escape_back_and_the_button_end_a_comparison(tree, browser):
    driver = opened(browser, tree, "#sort=name")
    tick(driver, "first", "second")
    before = driver.current_url
    ways = {
        "Escape": lambda: press(driver, "\ue00c"),
        "Back": driver.back,
        "button": lambda: driver.find_element("css selector", "#compare header button").click(),
    }
    for way in ways.values():
        driver.find_element("id", "open").click()
        assert "open=1" in driver.current_url
        way()
        until(driver.find_element("id", "index").is_displayed)
        assert driver.current_url == before
        assert driver.switch_to.active_element.text == "Compare"
    driver.forward()
    until(driver.find_element("id", "compare").is_displayed)
    driver.refresh()
    assert captions(driver)
    driver.back()
    until(driver.find_element("id", "index").is_displayed)
    opened(driver, tree, "#pair=first%00second&open=1")  # from a link there is nothing to go back to
    press(driver, "\ue00c")
    until(driver.find_element("id", "index").is_displayed)
    assert driver.title == "Experiments"
    assert "open" not in driver.current_url.partition("#")[2]
    driver.find_element("id", "clear").click()
    assert not driver.find_element("id", "pair").is_displayed()
    assert not complaints(driver)


def test_experiments_of_other_images_and_losses_are_compared(tmp_path, browser):
    write_experiment(tmp_path, "pix", psnr=())
    labels = ("fake_A", "fake_B", "idt_A", "real_A", "real_B", "rec_A")
    folder = write_experiment(tmp_path, "cycle", images=labels, psnr=())
    (folder / "metrics.csv").write_text("epoch,iters,total_iters,time,data,D_A\n1,8,8,0.1,0.1,0.5\n")
    (folder / "web" / "images" / "epoch003_fake_B.png").write_bytes(b"damaged")
    make_index(tmp_path)
    driver = opened(browser, tmp_path, "#pair=pix%00cycle&open=1")
    both = [f"{name}: {label}" for label in ("fake_B", "real_A", "real_B") for name in ("pix", "cycle")]
    assert captions(driver) == [*both, "cycle: fake_A", "cycle: idt_A", "cycle: rec_A"]
    tops = "return [...document.querySelectorAll('#images .frame')].map((one) => one.getBoundingClientRect().y)"
    assert all(a == b for a, b in zip(*[iter(driver.execute_script(tops)[:6])] * 2, strict=True))  # in pairs
    summary = driver.find_element("css selector", "#more summary")
    assert summary.text == "Curves of one of them alone (2)"
    assert not driver.find_elements("css selector", "#more > .charts figure")
    assert not driver.find_element("css selector", "details figure").is_displayed()
    summary.click()
    shown = [node.text.split() for node in driver.find_elements("css selector", "details figcaption")]
    assert shown == [["G_L1", "4"], ["D_A", "0.5"]]
    complaints(driver)


def test_thumbnails_stand_in_where_the_images_are_gone(tmp_path, browser):
    for name in ("one", "other"):
        write_experiment(tmp_path, name)
    make_index(tmp_path)
    for path in (tmp_path / "checkpoints").rglob("*fake_B.png"):
        path.unlink()
    driver = opened(browser, tmp_path, "#pair=one%00other&open=1")
    sources = "return [...document.querySelectorAll('#images img')].map((image) => image.src.split(':')[0])"
    until(lambda: driver.execute_script(sources) == ["data", "data", "file", "file"])
    assert not driver.find_element("css selector", ".missing").is_displayed()
    complaints(driver)


def test_all_is_reached_by_keyboard_and_named(tree, browser):
    driver = opened(browser, tree)
    seen = []
    for _ in range(60):
        driver.switch_to.active_element.send_keys("\ue004")  # Tab
        node = driver.switch_to.active_element
        if node.tag_name == "body":  # all round
            break
        name = node.accessible_name or node.get_attribute("value")
        seen.append(name.replace("\xa0", " ").strip())
    wanted = {
        "Filter",
        "Metric",
        "Experiment",
        "Epochs",
        "Validation · psnr",
        "Results · psnr",
        "evaluation of test_latest",
        "Begun",
        "Saved",
        f"compare {HOSTILE}",
    }
    assert wanted <= set(seen)
    assert all(seen)
    unnamed = "return [...document.images].filter((image) => !image.alt).length"
    assert driver.execute_script(unnamed) == 0


WIDE = """
const cells = [...document.querySelectorAll("#runs td")], right = (node) => node.getBoundingClientRect().right;
const over = cells.filter((node) => node.scrollWidth > node.clientWidth + 1).map((node) => node.className);
return [Math.max(document.documentElement.scrollWidth, ...cells.map(right)), over];
"""


def fits(driver, width):
    """Whether no row is wider than the window, and no cell's content than the cell."""
    wide, over = driver.execute_script(WIDE)
    return wide <= width and not over


@pytest.mark.parametrize("width", [390, 701, 901, 1024, 1260, 1261])
def test_no_row_is_wider_than_the_window_and_names_stay_whole(tree, tmp_path, width):
    long = "a_very_long_name_of_a_data_set_" * 8
    write_experiment(tmp_path, f"{long}/run", dataroot=f"/data/{long}", max_dataset_size=40, norm="instance")
    write_experiment(tmp_path, "other")
    write_results(tmp_path, "other", "test_latest_iter20000", psnr=20)
    make_index(tmp_path)
    with open_browser(tmp_path / "browser", width, 800) as driver:
        opened(driver, tmp_path)
        assert fits(driver, width)
        lines = "[...document.querySelectorAll('.about span')].map((node) => node.getClientRects()[0].height)"
        assert driver.execute_script(f"return Math.max(...{lines})") < 25  # of one line
        opened(driver, tree)
        assert fits(driver, width)


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_it_without_scrolling_sideways(tree, tmp_path, dark):
    with open_browser(tmp_path, 390, 844, dark) as driver:
        opened(driver, tree)
        cells = [cell for cell in driver.find_elements("css selector", "[data-label]") if cell.is_displayed()]
        told = {cell.get_dom_attribute("data-label").replace("\xa0", " ") for cell in cells}
        assert {"Epochs", "Validation · psnr", "Results · psnr", "Saved"} <= told
        assert not [cell for cell in cells if cell.text in ("", "–")]
        assert not driver.find_element("css selector", "thead").is_displayed()
        driver.find_element("css selector", "#sort option[value='name']").click()
        assert names(driver) == sorted(names(driver))
        assert "sort=name" in driver.current_url
        opened(driver, tree, "#pair=first%00second&open=1")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
        frames = "return [...document.querySelectorAll('#images .frame')].map((one) => one.clientWidth)"
        assert min(driver.execute_script(frames)) > 160
        sizes = "[...document.querySelectorAll('body *')].map((n) => parseFloat(getComputedStyle(n).fontSize))"
        assert driver.execute_script(f"return Math.min(...{sizes})") >= 12
        behind, text = driver.execute_script(
            "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        )
        light = [np.mean([int(number) for number in re.findall(r"\d+", colour)[:3]]) for colour in (behind, text)]
        assert (light[0] < light[1]) == dark
        assert not complaints(driver)
