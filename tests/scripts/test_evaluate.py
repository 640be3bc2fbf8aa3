"""scripts/evaluate.py on results, on two folders and on an experiment: its scores, files and errors."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from browser import Visitor
from conftest import make_image
from experiments import trained_copy
from PIL import Image
from terminal import table

from scripts.evaluate import main
from util.errors import UserError
from util.pages.data_file import parse

C1 = (0.01 * 255) ** 2  # SSIM's constant; for two flat images only its luminance term remains
QUICK = "--metrics l1,psnr,ssim"


def flat(path, value, width=16, height=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (value,) * 3).save(path)


def psnr(difference):
    return 20 * math.log10(255 / difference)


def ssim(a, b):
    return (2 * a * b + C1) / (a * a + b * b + C1)


def evaluate(*parts, more=QUICK):
    """Run the command; return the JSON and its output."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main([*map(str, parts), *more.split(), "--gpu_ids", "-1"])
    file = next(line for line in printed.getvalue().splitlines() if line.endswith(".json"))
    return json.loads(Path(file).read_text()), printed.getvalue()


def error_of(*parts, more=QUICK):
    """Return the error of a command."""
    with contextlib.redirect_stderr(io.StringIO()) as printed, pytest.raises((UserError, SystemExit)) as error:
        evaluate(*parts, more=more)
    return printed.getvalue() + str(error.value)


def values(report, output="fake_B", baseline=None):
    found = report["outputs"][output]
    scores = found["answers"][baseline] if baseline else found["metrics"]
    return {name: score["value"] for name, score in scores.items()}


@pytest.fixture
def results(tmp_path):
    """Two results, 10 and 51 from the ground truth; the inputs are 100 and 85 from it."""
    folder = tmp_path / "test_latest"
    for name, fake, real, given in (("one", 110, 100, 200), ("two", 102, 153, 68)):
        flat(folder / "images" / f"{name}_fake_B.png", fake)
        flat(folder / "images" / f"{name}_real_B.png", real)
        flat(folder / "images" / f"{name}_real_A.png", given)
    return folder


# ---- scores ----


def test_scores_are_means_over_the_images(results):
    report, text = evaluate(results)
    assert report["paired"] is True
    assert values(report) == pytest.approx(
        {"l1": (10 + 51) / 510, "psnr": (psnr(10) + psnr(51)) / 2, "ssim": (ssim(110, 100) + ssim(102, 153)) / 2}
    )
    assert values(report, baseline="the input itself") == pytest.approx(
        {"l1": (100 + 85) / 510, "psnr": (psnr(100) + psnr(85)) / 2, "ssim": (ssim(200, 100) + ssim(68, 153)) / 2}
    )
    assert re.search(r"^psnr +21\.06 dB +7\.187 to 34\.92 +higher is better +2$", text, re.MULTILINE)
    assert re.search(r"^l1 +0\.1196 +0\.000 to 0\.2772 +lower is better +2$", text, re.MULTILINE)
    assert re.search(r"^the input itself +0\.3627 +8\.837 +0\.7712$", text, re.MULTILINE)
    rows = table(results / "evaluation_images.csv")
    assert [(row["image"], row["output"]) for row in rows] == [("one", "fake_B"), ("two", "fake_B")]
    assert [float(row["psnr"]) for row in rows] == pytest.approx([psnr(10), psnr(51)])


def test_the_mean_target_comes_from_a_folder_of_targets_or_of_pairs(results, tmp_path):
    for name, value in (("a", 100), ("b", 140)):
        flat(tmp_path / "trainB" / f"{name}.png", value)
        pair = np.zeros((16, 32, 3), np.uint8)
        pair[:, 16:] = value
        (tmp_path / "train").mkdir(exist_ok=True)
        Image.fromarray(pair).save(tmp_path / "train" / f"{name}.png")
    for words, expected in (
        (["trainB"], (20, 33)),  # 120 against 100 and 153
        (["train"], (20, 33)),
        (["train", "--direction", "BtoA"], (100, 153)),  # left halves: 0
    ):
        report, _ = evaluate(results, "--train_B", tmp_path / words[0], *words[1:])
        assert values(report, baseline="the mean training target")["psnr"] == pytest.approx(
            np.mean([*map(psnr, expected)])
        )


def test_a_perfect_result_has_infinite_psnr_which_is_null_in_json(tmp_path):
    flat(tmp_path / "x_fake_B.png", 90)
    flat(tmp_path / "x_real_B.png", 90)
    report, text = evaluate(tmp_path)
    assert values(report) == {"l1": 0.0, "psnr": None, "ssim": 1.0}
    assert "inf dB" in text
    assert table(tmp_path / "evaluation_images.csv")[0]["psnr"] == "inf"


def test_an_input_of_another_size_is_no_baseline(results):
    flat(results / "images" / "two_real_A.png", 200, width=32)
    assert not evaluate(results)[0]["outputs"]["fake_B"]["answers"]


def test_the_default_metrics_need_no_further_package(results):
    report, _ = evaluate(results, more="--paired")
    assert values(report).keys() == {"l1", "psnr", "ssim"}
    assert "ms_ssim: not measured; images are smaller than 176 pixels" in report["outputs"]["fake_B"]["notes"]
    assert evaluate(results, more="--paired")[0] == report
    assert "note: fd_lite0: 2 images are too few" in evaluate(results, more="--metrics fd_lite0")[1]


# ---- results, folders, experiments ----


@pytest.fixture(scope="module", params=["pix2pix", "cycle_gan"])
def trained(request, tmp_path_factory):
    """A trained experiment with its results, and the options that name it."""
    folder = trained_copy(request.param, tmp_path_factory.mktemp(request.param), results=True)
    options = (
        f"--dataroot {folder}/data --name toy --checkpoints_dir {folder}/checkpoints --results_dir {folder}/results"
    )
    return request.param, folder, f"{options} --num_threads 0"


def test_an_experiment_has_the_scores_of_its_results_folder(trained, tmp_path):
    model, folder, options = trained
    web = folder / "results/toy/test_latest"
    metrics = "--metrics kid_lite0" + (",l1,psnr,ssim" if model == "pix2pix" else "")
    on_disk, _ = evaluate(web, more=metrics)
    memory, _ = evaluate("--out", tmp_path / "out", more=f"{options} {metrics}")
    assert on_disk["outputs"] == memory["outputs"]
    assert [values[0]["scores"][0]["title"] for _, values in lines(web / "metrics.js")] == ["fake_B against real_B"]
    assert not (web / "evaluation.html").exists()
    assert on_disk["paired"] is memory["paired"] is (model == "pix2pix")
    if model == "pix2pix":
        assert (web / "evaluation_images.csv").read_text() == (tmp_path / "out/evaluation_images.csv").read_text()
        links = pictures(tmp_path / "out")
        assert len(links) == 4 * 3  # images, labels
        assert {link.parent.name for link in links} == {"evaluation_images"}
        report, text = evaluate("--out", tmp_path, more=f"{options} {QUICK} --phase train --num_test 2")
        assert report["of"] == "toy, train_latest"
        assert "toy, train_latest: fake_B against real_B, pairs" in text
        assert len(table(tmp_path / "evaluation_images.csv")) == 2
        page, index = web / "evaluation.html", web / "index.html"
        page.write_text("of an earlier version")
        evaluate(web)
        assert "url=index.html" in page.read_text()
        index.write_text(index.read_text().replace('id="scores"', ""))  # as earlier versions wrote it
        evaluate(web)
        assert len(pictures(web)) == 4 * 3
    else:
        assert list(memory["outputs"]) == ["fake_B", "fake_A"]
        counts = {name: output["metrics"]["kid_lite0"]["images"] for name, output in memory["outputs"].items()}
        assert counts == {"fake_B": 4, "fake_A": 3}  # test.py cycles through the smaller domain; its images count once
        assert not (tmp_path / "out/evaluation_images.csv").exists()
        assert "No scores of single images" in (tmp_path / "out/evaluation.html").read_text()
        assert "these compare each result with its ground truth, and there are no pairs here" in error_of(web)
        report, _ = evaluate(web, "--paired")
        assert {row["output"] for row in table(web / "evaluation_images.csv")} == {"fake_A", "fake_B"}
        assert values(report, "fake_A", "the input itself")["psnr"] > 0
        assert list(evaluate(web, "--paired", "--output", "fake_A")[0]["outputs"]) == ["fake_A"]


def test_results_of_model_test_need_a_folder_of_truths(tmp_path):
    for label in ("fake", "real"):
        flat(tmp_path / f"web/images/p_{label}.png", 100)
    flat(tmp_path / "truth/p.jpg", 150)
    text = error_of(tmp_path / "web")
    assert "has real, fake, but no fake_B with its real_B: also name the folder of the real images" in text
    assert values(evaluate(tmp_path / "web", tmp_path / "truth")[0])["l1"] == pytest.approx(50 / 255, abs=0.004)


def test_two_folders_are_paired_by_name_in_any_format(tmp_path, capsys):
    for name, fake, real in (("a", 110, 100), ("sub/b", 102, 153)):
        flat(tmp_path / "fakes" / f"{name}.bmp", fake)
        flat(tmp_path / "reals" / f"{name}.png", real)
    flat(tmp_path / "reals/c.png", 1)
    report, _ = evaluate(tmp_path / "fakes", tmp_path / "reals")
    assert "warning: 1 images of" in capsys.readouterr().err
    assert values(report)["psnr"] == pytest.approx((psnr(10) + psnr(51)) / 2)
    assert [row["image"] for row in table(tmp_path / "fakes" / "evaluation_images.csv")] == ["a", "sub/b"]


def test_folders_without_common_names_are_two_sets(tmp_path):
    for i in range(3):
        make_image(tmp_path / f"fakes/f{i}.png", 30 + i, 30, seed=i)
    for i in range(4):
        make_image(tmp_path / f"reals/r{i}.png", 25, 40 + i, seed=10 + i)
    both = (tmp_path / "fakes", tmp_path / "reals")
    report, text = evaluate(*both, "--out", tmp_path / "out", more="")
    assert "no file names in common: they are compared as two sets" in text
    assert list(values(report)) == ["fd_lite0", "kid_lite0"]
    assert "there are no pairs here" in error_of(*both)
    assert "missing for 3 results: f0, f1, f2. Pairs need the ground truth" in error_of(*both, "--paired")


# ---- errors ----


def test_results_without_their_truth_are_named(results):
    (results / "images" / "two_real_B.png").unlink()
    for i in range(8):
        flat(results / "images" / f"x{i}_fake_B.png", 9)
    text = error_of(results)
    assert "missing for 10 results: two_real_B.png, x0_real_B.png" in text
    assert "x3_real_B.png and 4 more. Pairs need the ground truth of each result" in text
    assert not list(results.glob("evaluation*"))


def test_a_result_of_another_size_is_an_error_that_leaves_nothing(results):
    flat(results / "images" / "two_fake_B.png", 102, width=20)
    assert "two_fake_B.png is 20 x 16, the ground truth 16 x 16" in error_of(results)
    flat(results / "images" / "two_fake_B.png", 102, width=8, height=16)
    assert "are these A | B pairs? Name a folder of B alone" in error_of(results)
    assert [path.name for path in results.iterdir()] == ["images"]


def test_a_folder_without_results_is_an_error(tmp_path):
    assert f"no *_fake_B.png in {tmp_path}: name a folder that test.py wrote" in error_of(tmp_path)
    assert f"no *_fake_B.png in {tmp_path}/no: name a folder" in error_of(tmp_path / "no")
    assert "has no images" in error_of(tmp_path, tmp_path)


def test_wrong_options_are_errors(results):
    (results / "runs/maps").mkdir(parents=True)
    (results / "runs/maps/latest_net_G.pth").touch()
    missing = error_of(more=f"--name mpas --dataroot {results} --checkpoints_dir {results}/runs")
    assert "there is no folder" in missing
    assert "Did you mean 'maps'?" in missing
    assert "--metric: no such option. Did you mean '--metrics'?" in error_of(results, more="--metric psnr")
    assert "metric 'pnsr' is not one of l1, psnr" in error_of(results, more="--metrics pnsr")
    assert "name a results folder, or results and truths, or an experiment" in error_of(more="")
    assert "fid=FILE (also for kid) or lpips=FILE" in error_of(results, more="--weights x.pth")


# ---- the page ----


def lines(file):
    """Return the lines of data in a page or a script."""
    return list(parse(file.read_text(encoding="utf-8").rpartition("<script>")[2].replace("</script>", "\n")))


def pictures(folder):
    """Return the files that a page shows, which must exist."""
    rows = [values for call, values in lines(folder / "evaluation.html") if call == "row"]
    paths = [folder / unquote(source) for _, _, sources in rows for source in sources]
    assert all(path.is_file() for path in paths)
    return paths


def test_the_page_shows_scores_and_the_best_and_worst_images(tmp_path):
    for i in range(14):
        flat(tmp_path / f"images/n{i:02}_fake_B.png", 100 + i, width=32)
        flat(tmp_path / f"images/n{i:02}_real_B.png", 100, width=32)
    evaluate(tmp_path, more="--metrics l1,psnr --paired")
    assert pictures(tmp_path)[:2] == [tmp_path / "images/n00_fake_B.png", tmp_path / "images/n00_real_B.png"]
    visitor = Visitor().open(tmp_path / "evaluation.html", "", "seen.size > 0")
    assert visitor.js("order.map((one) => one.name)") == [f"n{i:02}" for i in (*range(13, 8, -1), *range(4, -1, -1))]
    cells = visitor.all("#scores tr:nth-child(2) td", "one.textContent")
    assert cells[:2] == ["l1", "0.02549"]
    assert cells[3:] == ["lower is better", "14"]
    assert visitor.all("article:first-child figcaption", "one.innerText.split(/\\s+/).join(' ')") == [
        "fake_B output",
        "real_B truth",
    ]
    visitor.until("[...document.images].every((one) => one.naturalWidth === 32)")
    assert visitor.complaints() == []
    phone = Visitor(360, 740).open(tmp_path / "evaluation.html", "", "seen.size > 0")
    phone.run("$('scores').open = true")
    assert phone.fits()
    assert max(phone.all("#scores td:first-child", "one.clientHeight")) < 40  # names of metrics take one line


def test_names_cannot_break_the_page(tmp_path):
    names = ['"><script>alert(1)<', "<img src=x onerror=alert(1)>", "%41 #?&amp;'", "two\nlines", "ä_fake_B"]
    for i, name in enumerate(names):
        flat(tmp_path / f"images/{name}_fake_B.png", 100 + i)
        flat(tmp_path / f"images/{name}_real_B.png", 100)
    evaluate(tmp_path)
    assert (tmp_path / "evaluation.html").read_text(encoding="utf-8").count("<script") == 3  # two scripts, and the data
    assert {values[0] for call, values in lines(tmp_path / "evaluation.html") if call == "row"} == set(names)
    assert len(pictures(tmp_path)) == 5 * 2
    assert sorted(row["image"] for row in table(tmp_path / "evaluation_images.csv")) == sorted(names)


# ---- files ----


def test_files_go_to_out_and_replace_earlier_ones(results, tmp_path):
    evaluate(results, "--out", tmp_path / "o")
    files = ["evaluation.csv", "evaluation.html", "evaluation.json", "evaluation_images.csv"]
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == files
    assert [path.name for path in results.iterdir()] == ["images"]
    assert len(pictures(tmp_path / "o")) == 2 * 3
    evaluate(results, "--out", tmp_path / "o", more="--metrics kid_lite0 --unpaired")
    assert not (tmp_path / "o/evaluation_images.csv").exists()
