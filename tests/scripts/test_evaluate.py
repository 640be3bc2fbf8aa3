"""scripts/evaluate.py as users type it: on results, on two folders, on an experiment; its figures, files and errors."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from conftest import make_aligned, make_image, make_unaligned, type_command
from PIL import Image
from terminal import ROOT, TINY, type_fast, type_well

from scripts.evaluation.page import Extremes, Row

C1 = (0.01 * 255) ** 2  # SSIM's constant; of two flat images nothing but its luminance term is left
QUICK = "--metrics l1,psnr,ssim"


def flat(path, value, width=16, height=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (value,) * 3).save(path)


def psnr(difference):
    return 20 * math.log10(255 / difference)


def ssim(a, b):
    return (2 * a * b + C1) / (a * a + b * b + C1)


def words(*parts):
    return "scripts/evaluate.py " + " ".join(shlex.quote(str(part)) for part in parts)


def evaluate(*parts, more=QUICK):
    """Type the command and see it succeed; return the JSON and what it printed."""
    text = type_well(f"{words(*parts)} --gpu_ids -1 {more}", ROOT)
    file = next(line for line in text.splitlines() if line.endswith(".json"))
    return json.loads(Path(file).read_text()), text


def refused(*parts, more=QUICK, status=1):
    """Type the command and see it fail; return what it said."""
    done = type_fast(f"{words(*parts)} {more}", ROOT)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def values(report, output="fake_B", answer=None):
    found = report["outputs"][output]
    scores = found["answers"][answer] if answer else found["metrics"]
    return {name: score["value"] for name, score in scores.items()}


def table(folder):
    with (folder / "evaluation_images.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def results(tmp_path):
    """Two results, 10 and 51 from the truth; the inputs are 100 and 85 from it."""
    folder = tmp_path / "test_latest"
    for name, fake, real, given in (("one", 110, 100, 200), ("two", 102, 153, 68)):
        flat(folder / "images" / f"{name}_fake_B.png", fake)
        flat(folder / "images" / f"{name}_real_B.png", real)
        flat(folder / "images" / f"{name}_real_A.png", given)
    return folder


# ---- figures ----


def test_figures_are_averages_over_the_images(results):
    report, text = evaluate(results)
    assert report["paired"] is True
    assert values(report) == pytest.approx(
        {"l1": (10 + 51) / 510, "psnr": (psnr(10) + psnr(51)) / 2, "ssim": (ssim(110, 100) + ssim(102, 153)) / 2}
    )
    assert values(report, answer="the input itself") == pytest.approx(
        {"l1": (100 + 85) / 510, "psnr": (psnr(100) + psnr(85)) / 2, "ssim": (ssim(200, 100) + ssim(68, 153)) / 2}
    )
    score = report["outputs"]["fake_B"]["metrics"]["psnr"]
    assert (score["unit"], score["lower_is_better"], score["images"]) == ("dB", False, 2)
    half = 1.96 * (psnr(10) - psnr(51)) / 2
    assert (score["low"], score["high"]) == pytest.approx((score["value"] - half, score["value"] + half))
    assert re.search(r"^psnr +21\.06 dB +7\.187 to 34\.92 +higher is better +2$", text, re.MULTILINE)
    assert re.search(r"^l1 +0\.1196 +0\.000 to 0\.2772 +lower is better +2$", text, re.MULTILINE)
    assert re.search(r"^the input itself +0\.3627 +8\.837 +0\.7712$", text, re.MULTILINE)


def test_each_image_has_its_line(results):
    evaluate(results)
    rows = table(results)
    assert [(row["image"], row["output"]) for row in rows] == [("one", "fake_B"), ("two", "fake_B")]
    assert [float(row["psnr"]) for row in rows] == pytest.approx([psnr(10), psnr(51)])


def test_the_mean_target_comes_from_a_folder_of_targets_or_of_pairs(results, tmp_path):
    for name, value in (("a", 100), ("b", 140)):
        flat(tmp_path / "trainB" / f"{name}.png", value)
        pair = np.zeros((16, 32, 3), np.uint8)
        pair[:, 16:] = value
        (tmp_path / "train").mkdir(exist_ok=True)
        Image.fromarray(pair).save(tmp_path / "train" / f"{name}.png")
    for folder in ("train", "trainB"):
        report, _ = evaluate(results, "--train_B", tmp_path / folder)
        found = values(report, answer="the mean training target")
        assert found["psnr"] == pytest.approx((psnr(20) + psnr(33)) / 2)  # 120 against 100 and 153
    report, _ = evaluate(results, "--train_B", tmp_path / "train", "--direction", "BtoA")
    found = values(report, answer="the mean training target")
    assert found["psnr"] == pytest.approx((psnr(100) + psnr(153)) / 2)  # left halves: 0


def test_the_mean_target_is_of_each_results_size(tmp_path):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    for side in (16, 64):
        image = np.broadcast_to(ramp[None, :, None], (64, 64, 3))
        whole = Image.fromarray(np.ascontiguousarray(image)).resize((side, side), Image.Resampling.BICUBIC)
        for label in ("fake_B", "real_B"):
            (tmp_path / "r").mkdir(exist_ok=True)
            whole.save(tmp_path / f"r/{side}_{label}.png")
    (tmp_path / "trainB").mkdir()
    Image.fromarray(np.ascontiguousarray(image)).save(tmp_path / "trainB/1.png")
    evaluate(tmp_path / "r", "--train_B", tmp_path / "trainB")
    lines = (tmp_path / "r/evaluation.csv").read_text().splitlines()
    [l1] = [float(line.split(",")[3]) for line in lines if line.startswith("fake_B,the mean training target,l1")]
    assert l1 < 0.003  # two results of different sizes, each against the mean at its own


def test_a_perfect_result_has_infinite_psnr_which_json_calls_null(tmp_path):
    flat(tmp_path / "x_fake_B.png", 90)
    flat(tmp_path / "x_real_B.png", 90)
    report, text = evaluate(tmp_path)
    assert values(report) == {"l1": 0.0, "psnr": None, "ssim": 1.0}
    assert "inf dB" in text
    assert table(tmp_path)[0]["psnr"] == "inf"


def test_an_input_of_another_size_is_no_answer(results):
    flat(results / "images" / "two_real_A.png", 200, width=32)
    assert not evaluate(results)[0]["outputs"]["fake_B"]["answers"]


def test_what_is_measured_unless_told_otherwise_needs_no_download(results):
    report, text = evaluate(results, more="")
    assert {"l1", "psnr", "ssim", "fd_lite0", "kid_lite0"} <= values(report).keys()
    assert "ms_ssim: not measured; images are smaller than 176 pixels" in report["outputs"]["fake_B"]["notes"]
    assert "note: fd_lite0: 2 images are too few" in text
    assert evaluate(results, more="")[0] == report


# ---- three ways to name what is measured ----


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """pix2pix and CycleGAN, hardly trained, with what test.py makes of them."""
    folder = tmp_path_factory.mktemp("trained")
    make_aligned(folder / "pairs", ("train", "val", "test"), count=5)
    make_unaligned(folder / "sets", count_A=5, count_B=3)
    options = f"{TINY} --checkpoints_dir {folder}/checkpoints".replace("--display_id -1", "")
    brief = "--n_epochs 1 --n_epochs_decay 0 --no_html --display_id -1"
    net = {"pix2pix": "--netG unet_32", "cycle_gan": "--netG resnet_6blocks"}
    for model, data in (("pix2pix", "pairs"), ("cycle_gan", "sets")):
        these = f"--dataroot {folder}/{data} --name {model} {options}"
        type_well(f"train.py {these} --model {model} {net[model]} {brief}", ROOT)
    test = "--gpu_ids -1 --num_threads 0 --seed 1"
    return (
        folder,
        lambda model, data: (
            f"--dataroot {folder}/{data} --name {model} --model {model} --checkpoints_dir {folder}/checkpoints "
            f"--results_dir {folder}/results {test}"
        ),
    )


@pytest.mark.parametrize(("model", "data"), [("pix2pix", "pairs"), ("cycle_gan", "sets")])
def test_an_experiment_gives_the_figures_of_its_results_folder(trained, tmp_path, model, data):
    folder, options = trained
    type_well(f"test.py {options(model, data)}", ROOT)
    web = folder / "results" / model / "test_latest"
    metrics = "--metrics kid_lite0" + (",l1,psnr,ssim" if model == "pix2pix" else "")
    on_disk, _ = evaluate(web, more=metrics)
    memory, _ = evaluate("--out", tmp_path / "out", more=f"{options(model, data)} {metrics}")
    assert on_disk["outputs"] == memory["outputs"]
    assert on_disk["paired"] is memory["paired"] is (model == "pix2pix")
    if model == "pix2pix":
        for name in ("evaluation.csv", "evaluation_images.csv"):
            assert (web / name).read_text() == (tmp_path / "out" / name).read_text()
        truth = [np.asarray(Image.open(path)).astype(float) for path in sorted(web.glob("images/*_real_B.png"))]
        fakes = [np.asarray(Image.open(path)).astype(float) for path in sorted(web.glob("images/*_fake_B.png"))]
        l1 = [np.abs(a - b).mean() / 255 for a, b in zip(fakes, truth, strict=True)]
        assert [float(row["l1"]) for row in table(web)] == pytest.approx(l1)
        links = pictures(tmp_path / "out")
        assert len(links) == 3 * 5 * 3  # measures, images, pictures of each
        assert {link.parent.name for link in links} == {"evaluation_images"}
    else:
        assert list(memory["outputs"]) == ["fake_B", "fake_A"]
        counts = {name: output["metrics"]["kid_lite0"]["images"] for name, output in memory["outputs"].items()}
        assert counts == {"fake_B": 5, "fake_A": 3}  # the smaller domain is gone through twice, and counts once
        assert not (tmp_path / "out/evaluation_images.csv").exists()
        lines = (tmp_path / "out/evaluation.csv").read_text().splitlines()
        assert [line.split(",")[:3] for line in lines[1:]] == [[name, "the result", "kid_lite0"] for name in counts]
        assert len(pictures(tmp_path / "out")) == 2 * 5 * 3  # outputs, rows, input and result and a real one
        assert "No measure of single images" in (tmp_path / "out/evaluation.html").read_text()


def test_the_phase_and_other_options_of_test_py_are_taken(trained, tmp_path):
    options = trained[1]("pix2pix", "pairs")
    report, text = evaluate("--out", tmp_path, more=f"{options} {QUICK} --phase val --num_test 2")
    assert report["of"] == "pix2pix, val_latest"
    assert "pix2pix, val_latest: fake_B against real_B, pairs" in text
    assert len(table(tmp_path)) == 2


def test_cyclegan_has_pairs_only_if_told_so(trained):
    folder, options = trained
    type_well(f"test.py {options('cycle_gan', 'sets')} --phase train", ROOT)
    web = folder / "results/cycle_gan/train_latest"
    text = refused(web)
    assert "--metrics l1,psnr,ssim: compared is each result with its truth, and there are no pairs here" in text
    report, _ = evaluate(web, "--paired")
    assert {row["output"] for row in table(web)} == {"fake_A", "fake_B"}
    assert list(evaluate(web, "--paired", "--output", "fake_A")[0]["outputs"]) == ["fake_A"]
    assert values(report, "fake_A", "the input itself")["psnr"] > 0


def test_one_generator_alone_has_no_truth_unless_a_folder_is_named(trained, tmp_path):
    folder, _ = trained
    make_image(tmp_path / "in/p.png", 32, 32, seed=1)
    make_image(tmp_path / "truth/p.jpg", 32, 32, seed=2)
    here = f"--checkpoints_dir {folder}/checkpoints --results_dir {tmp_path}/results --gpu_ids -1"
    type_well(f"test.py --model test --dataroot {tmp_path}/in --name pix2pix {here}", ROOT)
    web = tmp_path / "results/pix2pix/test_latest"
    assert "has real, fake, and no fake_B with its real_B: name the folder of the real images, too" in refused(web)
    assert values(evaluate(web, tmp_path / "truth")[0])["l1"] > 0
    assert "there is no truth" in refused(more=f"--model test --dataroot {tmp_path}/in --name pix2pix {here}")


def test_two_folders_are_paired_by_name_whatever_the_kind_of_file(tmp_path):
    for name, fake, real in (("a", 110, 100), ("sub/b", 102, 153)):
        flat(tmp_path / "fakes" / f"{name}.bmp", fake)
        flat(tmp_path / "reals" / f"{name}.png", real)
    flat(tmp_path / "reals/c.png", 1)
    done = type_fast(words(tmp_path / "fakes", tmp_path / "reals") + f" {QUICK} --gpu_ids -1", ROOT)
    assert done.returncode == 0, done.stderr
    assert "warning: 1 images of" in done.stderr
    report = json.loads((tmp_path / "fakes/evaluation.json").read_text())
    assert values(report)["psnr"] == pytest.approx((psnr(10) + psnr(51)) / 2)
    assert [row["image"] for row in table(tmp_path / "fakes")] == ["a", "sub/b"]


def test_folders_without_common_names_are_two_sets(tmp_path):
    for i in range(3):
        make_image(tmp_path / f"fakes/f{i}.png", 30 + i, 30, seed=i)
    for i in range(4):
        make_image(tmp_path / f"reals/r{i}.png", 25, 40 + i, seed=10 + i)
    both = (tmp_path / "fakes", tmp_path / "reals")
    report, text = evaluate(*both, "--out", tmp_path / "out", more="")
    assert "no file names in common: they are compared as two sets" in text
    assert list(values(report)) == ["fd_lite0", "kid_lite0"]
    assert "there are no pairs here" in refused(*both)
    assert "the truth of f0, the truth of f1, the truth of f2 are missing, of 3 results" in refused(*both, "--paired")


def test_a_results_folder_beside_a_folder_of_truths_gives_its_fakes(results, tmp_path):
    flat(tmp_path / "reals/one.jpg", 100)
    flat(tmp_path / "reals/two.jpg", 153)
    assert values(evaluate(results, tmp_path / "reals")[0])["l1"] == pytest.approx(61 / 510, abs=0.004)
    assert values(evaluate(results, results, "--out", tmp_path)[0])["psnr"] == pytest.approx((psnr(10) + psnr(51)) / 2)


# ---- errors ----


def test_results_without_their_truth_are_named(results):
    (results / "images" / "two_real_B.png").unlink()
    assert "two_real_B.png is missing, of 2 results: pairs need the truth of each result" in refused(results)
    for i in range(8):
        flat(results / "images" / f"x{i}_fake_B.png", 9)
    text = refused(results)
    assert "two_real_B.png, x0_real_B.png, x1_real_B.png, x2_real_B.png, x3_real_B.png and 4 more are missing" in text
    assert not list(results.glob("evaluation*"))


def test_a_result_of_another_size_is_an_error_that_leaves_nothing(results):
    flat(results / "images" / "two_fake_B.png", 102, width=20)
    assert "two_fake_B.png is 20 x 16, the truth 16 x 16" in refused(results)
    flat(results / "images" / "two_fake_B.png", 102, width=8, height=16)
    assert "are these A | B pairs? The folder of B alone is needed" in refused(results)
    assert [path.name for path in results.iterdir()] == ["images"]


def test_an_image_that_cannot_be_read_is_named(results):
    (results / "images" / "one_fake_B.png").write_text("<html>not found</html>")
    assert "one_fake_B.png: it is a web page, not an image" in refused(results)


def test_a_folder_without_results_is_an_error(tmp_path):
    assert f"no *_fake_B.png in {tmp_path}: name a folder that test.py wrote" in refused(tmp_path)
    assert f"{tmp_path}/no is not there: name a folder that test.py wrote" in refused(tmp_path / "no")
    assert "has no images" in refused(tmp_path, tmp_path)


def test_wrong_options_are_told(results):
    assert "--metric: no such option. Did you mean '--metrics'?" in refused(results, more="--metric psnr", status=2)
    assert "metric 'pnsr' is not one of l1, psnr" in refused(results, more="--metrics pnsr")
    assert "name a results folder, or results and truths, or an experiment" in refused(more="", status=2)
    assert "fid=FILE (also for kid) or lpips=FILE" in refused(results, more="--weights x.pth", status=2)
    assert "--gpu_ids x: a GPU's number" in refused(results, more="--gpu_ids x")


def test_missing_weights_are_an_error_of_the_command(results, tmp_path):
    env = {"TORCH_HOME": str(tmp_path / "torch"), "HOME": str(tmp_path)}
    done = type_command("scripts/evaluate.py", results, "--metrics", "psnr,fid", "--no_download", env=env)
    assert done.returncode == 1
    assert (
        "fid: FID's InceptionV3 (95 MB) is missing, and --no_download forbids fetching it. Download https://"
        in done.stderr
    )
    assert f"put it at {tmp_path}/torch/hub/checkpoints/weights-inception-2015-12-05-6726825d.pth" in done.stderr
    wrong = tmp_path / "net.pth"
    torch.save({"fc.weight": torch.zeros(1000, 2048)}, wrong)
    text = refused(results, "--weights", f"fid={wrong}", more="--metrics fid")
    assert f"{wrong} is not FID's InceptionV3 (95 MB): it seems to be a classifier of ImageNet's 1,000 classes" in text


# ---- the page ----


class Page(HTMLParser):
    """Collect a page's text and the addresses of its pictures."""

    def __init__(self, file):
        super().__init__()
        self.tags, self.sources, self.texts = [], [], []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if tag == "img" and name == "src"]

    def handle_data(self, text):
        self.texts.append(text)


def pictures(folder):
    """Return the files that a page shows, all of which are there."""
    paths = [folder / unquote(source) for source in Page(folder / "evaluation.html").sources]
    assert all(path.is_file() for path in paths)
    return paths


def test_the_page_shows_the_best_and_the_worst(tmp_path):
    for i in range(14):
        flat(tmp_path / f"images/n{i:02}_fake_B.png", 100 + i)
        flat(tmp_path / f"images/n{i:02}_real_B.png", 100)
    evaluate(tmp_path, more="--metrics l1,psnr")
    texts = Page(tmp_path / "evaluation.html").texts
    names = [text for text in texts if re.fullmatch(r"n\d\d", text)]
    best, worst = [f"n{i:02}" for i in range(5)], [f"n{i:02}" for i in range(13, 8, -1)]
    assert names == (best + worst) * 2
    headings = [text for text in texts if text.startswith(("l1: ", "psnr: "))]
    assert headings == ["l1: the best ", "l1: the worst ", "psnr: the best ", "psnr: the worst "]
    assert "lower is better" in texts
    assert pictures(tmp_path)[:2] == [tmp_path / "images/n00_fake_B.png", tmp_path / "images/n00_real_B.png"]


def test_names_cannot_break_the_page(tmp_path):
    names = ['"><script>alert(1)<', "<img src=x onerror=alert(1)>", "%41 #?&amp;'", "two\nlines", "ä_fake_B"]
    for i, name in enumerate(names):
        flat(tmp_path / f"images/{name}_fake_B.png", 100 + i)
        flat(tmp_path / f"images/{name}_real_B.png", 100)
    _, text = evaluate(tmp_path)
    page = Page(tmp_path / "evaluation.html")
    assert "script" not in page.tags
    assert page.tags.count("img") == len(pictures(tmp_path)) == 3 * 5 * 2
    assert set(names) <= set(page.texts)
    assert sorted(row["image"] for row in table(tmp_path)) == sorted(names)
    assert "\x1b" not in text


def test_extremes_are_those_of_a_sorted_list():
    drawn = np.random.default_rng(0).integers(0, 40, 200) / 4
    for metric, order in (("psnr", -1), ("l1", 1)):
        kept = Extremes(metric)
        for i, value in enumerate(drawn):
            kept.add(float(value), Row(str(i), {"fake_B": np.zeros((900, 700, 3), np.uint8)}))
        kept.add(math.nan, Row("none", {}))
        expected = sorted(range(200), key=lambda i: (order * drawn[i], i))
        ends = {end: [int(place.row.name) for place in places] for end, places in kept.ends().items()}
        assert ends == {"best": expected[:5], "worst": expected[:-6:-1]}
        assert max(kept.best[0].row.pictures["fake_B"].shape) == 512
    few = Extremes("l1")
    for i in range(3):
        few.add(float(i), Row(str(i), {}))
    assert {end: [place.row.name for place in places] for end, places in few.ends().items()} == {
        "best": ["0", "1"],
        "worst": ["2"],
    }


# ---- files, memory ----


def test_files_go_where_they_are_wanted_and_old_ones_away(results, tmp_path):
    evaluate(results, "--out", tmp_path / "o", "--json", tmp_path / "deep/x.json")
    files = ["evaluation.csv", "evaluation.html", "evaluation_images.csv"]
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == files
    assert (tmp_path / "deep/x.json").exists()
    assert len(pictures(tmp_path / "o")) == 3 * 2 * 3
    evaluate(results, "--out", tmp_path / "o", more="--metrics kid_lite0 --unpaired")
    assert not (tmp_path / "o/evaluation_images.csv").exists()


def test_help_says_what_to_type():
    assert "scripts/evaluate.py --name NAME --dataroot DATA" in type_well("scripts/evaluate.py --help", ROOT)


MEASURE = """
import re, sys
sys.path.insert(0, ".")
from scripts.evaluate import main
main([sys.argv[1], *"--gpu_ids -1 --metrics l1,psnr".split()])
print("peak", re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_memory_does_not_grow_with_the_images(tmp_path):
    peaks = {}
    for count in (50, 1000):
        for i in range(count):
            for label, value in (("fake_B", i % 200), ("real_B", 100)):
                flat(tmp_path / f"{count}/n{i:04}_{label}.png", value, 24, 24)
        words = [sys.executable, "-c", MEASURE, str(tmp_path / str(count))]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        peaks[count] = int(re.search(r"peak (\d+)", done.stdout)[1])  # KiB
    assert peaks[1000] - peaks[50] < 8 * 1024  # 950 pairs of these, as float64, would be 25 MiB
