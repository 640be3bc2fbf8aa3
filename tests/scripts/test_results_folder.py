"""The scripts read the rows of the last run of test.py, whatever else lies in its folder."""

from __future__ import annotations

import contextlib
import io
import json
import shutil

import pytest
from conftest import make_image, program
from experiments import trained_copy

from options.test_options import TestOptions as TestingOptions
from scripts.evaluate import main
from scripts.evaluation.label_maps import find_results
from scripts.evaluation.results_folder import read_results
from scripts.evaluation.targets import find_pairs
from scripts.experiments import reader
from util.errors import UserError

TEST = "--dataroot data --name toy --gpu_ids -1"


def translate(words):
    program("test").translate(TestingOptions(words).parse())


def evaluate(*words):
    """Run evaluate.py; return its JSON and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main([*map(str, words), "--gpu_ids", "-1"])
    return json.loads((words[0] / "evaluation.json").read_text()), printed.getvalue()


def l1(report):
    score = report["outputs"]["fake_B"]["metrics"]["l1"]
    return score["value"], score["images"]


@pytest.fixture
def tree(away):
    """A trained pix2pix with the results of its four test images, in the current folder."""
    return trained_copy("pix2pix", away, results=True)


@pytest.fixture
def web(tree):
    return tree / "results/toy/test_latest"


def test_a_run_on_fewer_images_is_measured_alone(tree, web):
    translate(f"{TEST} --num_test 3 --direction BtoA")
    assert len(list((web / "images").glob("*_fake_B.png"))) == 4
    report, printed = evaluate(web, "--metrics", "l1")
    translate(f"{TEST} --num_test 3 --direction BtoA --results_dir alone")
    alone, quiet = evaluate(tree / "alone/toy/test_latest", "--metrics", "l1")
    assert l1(report) == l1(alone)
    assert l1(report)[1] == 3
    assert "images: 3 files of earlier runs of test.py are left out; the last run has 9\n" in printed
    assert "left out" not in quiet
    assert [len(found) for found in (find_pairs(web), find_results(web, "B"))] == [3, 3]
    assert [path.name for path, _ in find_pairs(web / "images")] == [path.name for path, _ in find_pairs(web)]
    pairs = {row.name: row.pictures["real_B"] for row in read_results(web).rows}
    shutil.copytree(web / "images", tree / "truths", ignore=lambda _, files: {f for f in files if "real_B" not in f})
    assert l1(evaluate(web, tree / "truths", "--output", "fake_B", "--metrics", "l1")[0]) == l1(report)
    assert len(pairs) == 3


def test_results_of_model_test_in_the_same_folder_are_one_clear_error(tree, web):
    make_image(tree / "photos/x.png", 40, 40)
    translate(f"{TEST} --dataroot photos --model test")
    for words in ([], ["--metrics", "l1"], ["--paired"], ["--unpaired"]):
        with pytest.raises(UserError, match="images has real, fake, but no fake_B with its real_B: also name"):
            evaluate(web, *words)
    with pytest.raises(UserError, match="It contains results of --model test"):
        find_pairs(web)
    (web / "data.js").unlink()  # as results of the reference project
    report, printed = evaluate(web, "--metrics", "l1")
    assert l1(report)[1] == 4
    assert "1 images without fake_B are left out\n" in printed


def test_a_folder_that_does_not_say_whether_it_has_pairs_is_measured_as_sets(web):
    assert evaluate(web)[0]["paired"] is True
    (web / "data.js").unlink()
    report, printed = evaluate(web)
    assert report["paired"] is False
    assert "test_latest does not say whether results and real images are pairs; --paired if they are" in printed
    assert {"fd_lite0", "kid_lite0"} == report["outputs"]["fake_B"]["metrics"].keys()
    for words in (["--paired"], ["--metrics", "psnr"]):
        assert "psnr" in evaluate(web, *words)[0]["outputs"]["fake_B"]["metrics"]


def test_a_run_without_pairs_records_that(tree, web):
    for side in "AB":
        shutil.copytree(tree / "data/test", tree / f"data/test{side}")
    translate(f"{TEST} --dataset_mode unaligned")
    report, printed = evaluate(web)
    assert report["paired"] is False
    assert "the dataset has no pairs: real_B is not the ground truth of fake_B" in printed
    with pytest.raises(UserError, match="there are no pairs here; --paired if there are"):
        evaluate(web, "--metrics", "psnr")


def test_damaged_records_and_missing_files_are_errors_and_an_unfinished_run_is_reported(web, capsys):
    whole = (web / "data.js").read_text()
    (web / "data.js").write_text(whole.replace("done(true);\n", ""))
    assert len(read_results(web).rows) == 4
    assert "the last run of test.py has not ended; it has written 4 rows" in capsys.readouterr().out
    for damage in (
        'row("x", "../../x");\n',
        "row(1);\n",
        "layout(3);\n",
        "about(null);\n",
        'layout({"images": [[1]]});\n',
    ):
        (web / "data.js").write_text(whole + damage)
        with pytest.raises(UserError, match=r"data.js is damaged: run test.py again"):
            read_results(web)
    (web / "data.js").write_text(whole)
    next((web / "images").glob("*_real_B.png")).unlink()
    with pytest.raises(UserError, match=r"lacks \S+_real_B.png of the last run of test.py: run it again"):
        read_results(web)


def test_the_index_does_not_show_scores_of_an_earlier_run(tree, web):
    found = lambda: reader.find(tree / "checkpoints", tree / "results")[0]  # noqa: E731
    evaluate(web, "--metrics", "l1")
    assert found().results[0][1].keys() == {"l1"}
    translate(f"{TEST} --num_test 1")
    assert not found().results[0][1]
    assert found().notes == ["test_latest/evaluation.json measures an earlier run of test.py"]
