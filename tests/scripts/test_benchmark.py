"""The benchmark: counts and arithmetic by hand, and its command at a tiny size. No test asserts a time."""

from __future__ import annotations

import argparse
import json
import re

import pytest
import torch
from conftest import ROOT, refused

from scripts import benchmark
from scripts.benchmarks import steps, tables, throughput
from util.errors import UserError

COMMAND = "scripts/benchmark.py"
TINY = ("--", "--netG", "unet_32", "--ngf", 4, "--ndf", 4)


def document(**parts):
    """The measurements of a run on some machine."""
    about = {"device": "cpu", "name": "X", "torch": "2", "threads": 1, "python": "3", "date": "today", "commit": "c"}
    return {"machine": about, "settings": {"quick": False}, "parts": parts}


def step_row(**values):
    """A row of the table of steps."""
    row = {"model": "pix2pix", "batch_size": 2, "variant": "default", "speed": "fp32", "samples": [0.5, 0.25, 1.0]}
    row |= {"memory": None, "flops": 10}
    return {**row, **values}


def rows_of(text, part):
    """Read a part's table back: a dict for each row, by the columns' names."""
    lines = text.partition(f"## {part}\n")[2].partition("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


# ---- arithmetic ----


def test_numbers_have_three_significant_digits_and_cells_the_median_minimum_and_maximum():
    written = [tables.figure(value) for value in (0, 0.012345, 0.5, 99.96, 1234.5, 123456, float("inf"))]
    assert written == ["0", "0.0123", "0.500", "100.0", "1,230", "123,000", "inf"]
    assert tables.spread([3.0, 1.0, 2.0, 10.0]) == "2.50 (1.00 to 10.0)"
    assert tables.spread([0.002], 1000) == "2.00"


def test_the_share_of_the_limit_is_the_count_over_time_and_rate():
    limits = {"fp32": [30, 40, 90], "tf32": [80], "bf16": [100]}
    found = document(limits=[{"limit": name, "samples": rates} for name, rates in limits.items()])
    assert tables.share_of_limit(step_row(), found) == 10 * 2 / 40
    assert tables.share_of_limit(step_row(speed="bf16 channels_last cuda"), found) == 10 * 2 / 100
    assert tables.share_of_limit(step_row(speed="fp16"), found) is None
    found["machine"]["tf32"] = True
    assert tables.share_of_limit(step_row(), found) == 10 * 2 / 80


def test_steps_are_compared_with_the_default_of_their_batch_size():
    rows = [
        step_row(),
        step_row(variant="bf16", speed="bf16", samples=[0.125], memory=2e9),
        step_row(variant="fp16", alone=True),
        {"model": "pix2pix", "batch_size": 64, "variant": "default", "failed": "out of memory"},
    ]
    default, bf16, fp16, failed = rows_of(tables.markdown(document(steps=rows)), "steps")
    assert (default["steps/s"], default["images/s"], default["times default"]) == (
        "2.00 (1.00 to 4.00)",
        "4.00",
        "1.00",
    )
    assert (bf16["images/s"], bf16["times default"], bf16["GB at most"]) == ("16.0", "4.00", "2.00")
    assert (fp16["variant"], default["of products"]) == ("fp16*", "-")
    assert (failed["what runs"], failed["images/s"]) == ("out of memory", "-")


def test_settings_of_threads_are_compared_with_the_best_beside_as_many_neighbours():
    head = {"model": "pix2pix", "threads": 2}
    rows = [("a", 0, [0.5]), ("b", 0, [0.25]), ("a", 1, [1, 2, 3]), ("b", 1, [8])]
    rows = [{**head, "setting": name, "neighbours": count, "samples": times} for name, count, times in rows]
    shown = rows_of(tables.markdown(document(neighbours=rows)), "neighbours")
    assert [row["times the best's time"] for row in shown] == ["2.00", "1.00", "1.00", "4.00"]


def test_a_schedule_is_extrapolated_from_the_epochs_after_the_first():
    about = {"model": "pix2pix", "arm": "fp32", "images": 400}
    rows = [{**about, "samples": [10, 1, 3], "end": 0.5}, {**about, "samples": [1.0] * 200, "end": 2.0}]
    shown = rows_of(tables.markdown(document(schedule=rows)), "schedule")
    assert [(row["minutes for 200 epochs"], row["how"]) for row in shown] == [
        (tables.figure((10 + 2 * 199 + 0.5) / 60), "extrapolated from 3 epochs"),
        (tables.figure(202 / 60), "measured"),
    ]


def test_tables_replace_the_text_between_their_marks():
    found = document(limits=[{"limit": "fp32", "samples": [1e12]}])
    page = "before\n<!-- cpu limits -->\nold\n<!-- /cpu limits -->\nafter\n"
    filled = tables.with_tables(page, found)
    assert filled.startswith("before\n<!-- cpu limits -->\n\n| limit | rate |")
    assert "| matrix products, fp32 | 1.00 TFLOP/s |" in filled
    assert filled.endswith("*\n\n<!-- /cpu limits -->\nafter\n")
    assert tables.with_tables(filled, found) == filled
    with pytest.raises(ValueError, match="no lines <!-- cpu limits -->"):
        tables.with_tables("", found)


def test_the_page_has_marks_for_every_table():
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    marks = [f"{device} {part}" for device in ("cpu", "gpu") for part in benchmark.PARTS]
    assert re.findall(r"<!-- (\w+ \w+) -->\n", page) == re.findall(r"<!-- /(\w+ \w+) -->\n", page) == marks
    assert benchmark.PARTS.keys() == tables.TABLES.keys()


# ---- counting ----


@pytest.mark.parametrize(("model", "giga"), [("pix2pix", 87), ("cycle_gan", 1880)])
def test_a_step_at_the_defaults_has_the_known_number_of_operations(model, giga):
    flops = steps.count_step(benchmark.parse(["--gpu_ids", "-1"]), model)
    assert round(flops / 1e9) == pytest.approx(giga, rel=0.002)


# ---- what goes wrong ----


def test_variants_that_do_not_fit_are_measured_one_by_one_and_failures_are_named(monkeypatch):
    class Arm:
        block, seconds = 1, []

        def run(self, count):
            return 1.0

        measured = lambda self: {"samples": [1.0]}  # noqa: E731

    alive = []

    def prepare(args, head, name):
        if name == "compile":
            raise RuntimeError("no compiler\nand more")
        if name == "--fast" or alive:
            alive.clear()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        alive.append(name)
        return Arm()

    monkeypatch.setattr(steps, "prepare", prepare)
    monkeypatch.setattr(steps, "release", alive.clear)
    args, head = argparse.Namespace(rounds=1), {"model": "pix2pix", "batch_size": 64}
    rows = steps.compare(args, head, ["default", "bf16", "compile", "--fast"])
    assert [(row["variant"], row["alone"], row.get("failed")) for row in rows] == [
        ("default", True, None),
        ("bf16", True, None),
        ("compile", True, "RuntimeError: no compiler"),
        ("--fast", True, "out of memory"),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["speed"], "the parts are limits"),
        (["schedule", "--epochs", "1"], "2 to 200"),
        (["steps", "--", "--netg", "unet_32"], "--netg"),
    ],
)
def test_wrong_words_are_errors_of_the_command_line(words, said, capsys):
    assert said in refused(capsys, benchmark.parse, words)


def test_the_error_of_a_program_is_reported():
    words = ["-c", "print('first'); print('no images in /no'); exit(1)"]
    with pytest.raises(UserError, match="training failed: first no images in /no"):
        list(throughput.output_of(words))


# ---- the command ----


@pytest.mark.slow
def test_a_quick_run_writes_samples_and_tables_that_agree(run, tmp_path):
    small = ("--quick", "--rounds", 1, "--size", 32, "--gpu_ids", -1, "--epochs", 2)
    done = run(COMMAND, *benchmark.PARTS, *small, "--out", tmp_path, *TINY, "--num_threads", 0)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "benchmark.json").read_text())["parts"]
    text = (tmp_path / "benchmark.md").read_text()
    assert text in done.stdout
    assert "not for publication" in text
    assert list(found) == list(benchmark.PARTS)
    for part, column in (("loader", "later epochs, items/s"), ("translation", "images/s")):
        shown = rows_of(text, part)
        assert len(shown) == len(found[part]) > 1
        assert [line[column] for line in shown] == [tables.spread(row["samples"]) for row in found[part]]
    assert [len(row["samples"]) for row in found["schedule"]] == [2]
    lines = rows_of(text, "neighbours")
    assert [(line["busy neighbours"], line["setting"]) for line in lines] == [
        (count, setting) for count in "01" for setting in ("as chosen", "spinning")
    ]
    assert [line["steps/s"] for line in lines] == [
        tables.spread([1 / s for s in row["samples"]]) for row in found["neighbours"]
    ]
    lines = rows_of(text, "steps")
    assert [line["variant"] for line in lines] == ["default", "bf16", "--fast"]
    for row, line in zip(found["steps"], lines, strict=True):
        assert len(row["samples"]) == 1
        assert line["steps/s"] == tables.spread([1 / value for value in row["samples"]])
        assert 0 < row["losses"]["G_L1"] < 200
    assert found["steps"][0]["memory"] > 10**8
    assert all(0 < share <= 1 for row in found["translation"] for share in row["busy"])
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs/performance.md").read_text())
    assert run("scripts/benchmarks/tables.py", tmp_path / "benchmark.json", "--into", page).returncode == 0
    assert "| pix2pix | fp32 | 8 |" in page.read_text()
