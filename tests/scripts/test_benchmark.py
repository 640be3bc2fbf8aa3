"""The benchmark: counts and arithmetic against numbers by hand, and its command at a tiny size. No time is asserted."""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys

import pytest
import torch
from conftest import ROOT, make_aligned
from torch import nn

from scripts import benchmark
from scripts.benchmarks import commands, steps
from scripts.benchmarks import tables as tables
from util.errors import UserError

COMMAND = "scripts/benchmark.py"
TINY = ("--", "--netG", "unet_32", "--ngf", 4, "--ndf", 4)


def document(**parts):
    """What a run on some machine has measured."""
    about = {"device": "cpu", "name": "X", "torch": "2", "threads": 1, "python": "3", "date": "today", "commit": "c"}
    return {"machine": about, "settings": {"quick": False}, "parts": parts}


def step_row(**values):
    """A row of the table of steps."""
    row = {"model": "pix2pix", "batch_size": 2, "variant": "default", "speed": "fp32", "samples": [0.5, 0.25, 1.0]}
    row |= {"fed": [], "waiting": [], "memory": None, "flops": 10, "bytes": 5}
    return {**row, **values}


def rows_of(text, part):
    """Read a part's table back: a dict for each row, by the columns' names."""
    lines = text.partition(f"## {part}\n")[2].partition("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


# ---- arithmetic ----


def test_numbers_are_written_with_three_digits_that_count():
    written = [tables.figure(value) for value in (0, 0.012345, 0.5, 12.34, 99.96, 123.4, 1234.5, 123456, float("inf"))]
    assert written == ["0", "0.0123", "0.500", "12.3", "100.0", "123", "1,230", "123,000", "inf"]


def test_a_cell_holds_the_median_the_least_and_the_greatest():
    assert tables.spread([3.0, 1.0, 2.0, 10.0]) == "2.50 (1.00 to 10.0)"
    assert tables.spread([0.002], 1000) == "2.00"
    assert [tables.percent(share) for share in (None, 0.0, 0.123, 1.5)] == ["-", "0%", "12%", "150%"]


def test_shares_of_the_limits_are_the_counts_over_time_and_rate():
    limits = {"fp32": [30, 40, 90], "tf32": [80], "bf16": [100], "memory": [50]}
    found = document(limits=[{"limit": name, "samples": rates} for name, rates in limits.items()])
    assert tables.of_limits(step_row(), found) == (10 * 2 / 40, 5 * 2 / 50)
    assert tables.of_limits(step_row(speed="bf16 channels_last cuda"), found) == (10 * 2 / 100, None)
    assert tables.of_limits(step_row(speed="fp16"), found) == (None, None)
    found["machine"]["tf32"] = True
    assert tables.of_limits(step_row(), found) == (10 * 2 / 80, 5 * 2 / 50)


def test_steps_are_compared_with_the_default_of_their_batch_size():
    rows = [
        step_row(),
        step_row(
            variant="bf16", speed="bf16", samples=[0.125], memory=2e9, fed=[0.25, 0.5, 0.5], waiting=[0.0, 0.5, 0.25]
        ),
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
    assert (bf16["fed: images/s"], bf16["fed: waiting"]) == ("4.00", "25%")
    assert (fp16["variant"], default["fed: images/s"], default["of products"]) == ("fp16*", "-", "-")
    assert (failed["what runs"], failed["images/s"]) == ("out of memory", "-")


def test_a_schedule_is_extrapolated_from_the_epochs_behind_the_first_five():
    row = {"samples": [10, 2, 2, 2, 2, 1, 1, 1, 1, 3], "end": 0.5}
    assert tables.projected(row) == 18 + 7 * 195 / 5 + 0.5
    assert tables.projected({"samples": [1.0] * 200, "end": 2.0}) == 202
    rows = [{**row, "model": "pix2pix", "arm": "fp32", "images": 400}]
    (shown,) = rows_of(tables.markdown(document(schedule=rows)), "schedule")
    assert (shown["minutes for 200 epochs"], shown["how"]) == (tables.figure(291.5 / 60), "extrapolated from 10 epochs")


def test_scores_are_compared_seed_by_seed_with_the_first_arm():
    def row(arm, seed, psnr, loss):
        curve = [{"total_iters": i, "G_L1": value} for i, value in enumerate((9.0,) * 6 + (loss, loss + 1))]
        return {"model": "pix2pix", "arm": arm, "seed": seed, "psnr": psnr, "ssim": 0.5, "seconds": 1.0, "curve": curve}

    rows = [row("fp32", 1, 20.0, 4.0), row("fast", 1, 20.5, 5.0), row("fp32", 2, 22.0, 6.0), row("fast", 2, 22.1, 7.0)]
    fp32, fast = rows_of(tables.markdown(document(quality=rows)), "quality")
    assert fp32["PSNR, dB"] == "21.00 (20.00 to 22.00)"
    assert (fast["PSNR minus fp32's"], fast["SSIM minus fp32's"]) == ("+0.30", "+0.000")
    assert (fp32["losses at the end"], fast["losses at the end"]) == ("G_L1 5.500", "G_L1 6.500")
    drawn = tables.curves(rows)
    assert re.findall(r"pix2pix (\w+) G_L1", drawn) == ["fp32", "fast"]
    assert drawn.count("<polyline") == 2


def test_runs_on_one_machine_are_joined_and_those_of_two_are_not():
    limits = [{"limit": "memory", "samples": [1e9]}]
    one, two = document(limits=limits, steps=[step_row()]), document(limits=limits, steps=[step_row(batch_size=4)])
    two["machine"]["date"] = "tomorrow"
    whole = tables.merged(copy.deepcopy([one, two]))
    assert [row["batch_size"] for row in whole["parts"]["steps"]] == [2, 4]
    assert (len(whole["parts"]["limits"]), whole["machine"]["date"]) == (1, "today, tomorrow")
    two["machine"]["name"] = "Y"
    with pytest.raises(ValueError, match="name is X and Y"):
        tables.merged([one, two])


def test_tables_go_into_their_places_again_and_again():
    found = document(limits=[{"limit": "memory", "samples": [1e9]}])
    page = "before\n<!-- cpu limits -->\nold\n<!-- /cpu limits -->\nafter\n"
    filled = tables.with_tables(page, found)
    assert filled.startswith("before\n<!-- cpu limits -->\n\n| limit | rate |")
    assert "| copying in memory | 1.00 GB/s |" in filled
    assert filled.endswith("*\n\n<!-- /cpu limits -->\nafter\n")
    assert tables.with_tables(filled, found) == filled
    with pytest.raises(ValueError, match="no place"):
        tables.with_tables("", found)


def test_the_page_has_a_place_for_every_table():
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    marks = [f"{device} {part}" for device in ("cpu", "gpu") for part in benchmark.PARTS]
    assert re.findall(r"<!-- (\w+ \w+) -->\n", page) == re.findall(r"<!-- /(\w+ \w+) -->\n", page) == marks
    assert benchmark.PARTS.keys() == tables.TABLES.keys() == {*benchmark.SHORT, *benchmark.LONG}


# ---- counting ----


def test_bytes_are_those_of_inputs_and_outputs_and_views_move_none():
    a, b = torch.zeros(10), torch.zeros(10)
    with steps.OpBytes() as moved:
        a + b  # reads two, writes one
    assert moved.count == 3 * 40
    with steps.OpBytes() as moved:
        a.view(2, 5).t()
        torch.empty(100)
    assert moved.count == 0
    with steps.OpBytes() as moved:
        a.add_(b)
    assert moved.count == 3 * 40


def test_a_step_of_a_known_network_has_the_operations_that_it_should(monkeypatch):
    net = nn.Conv2d(3, 4, 3, padding=1, bias=False)

    class Model(argparse.Namespace):
        def set_input(self, batch):
            self.image = batch["A"]

        def optimize_parameters(self):
            net(self.image).sum().backward()

    monkeypatch.setattr(
        steps,
        "create_model",
        lambda _: Model(optimizers=[], setup=lambda _: net.to("meta"), networks=lambda: {"G": net}),
    )
    args = benchmark.parse(["--size", "8", "--gpu_ids", "-1"])
    multiplications = 8 * 8 * 4 * 3 * 9  # forward; as many for the weights' gradient, and none for the image's
    assert steps.count_step(args, "pix2pix")["flops"] == 2 * 2 * multiplications


@pytest.mark.parametrize(("model", "giga"), [("pix2pix", 87), ("cycle_gan", 1880)])
def test_a_step_at_the_defaults_has_the_known_number_of_operations(model, giga):
    cost = steps.count_step(benchmark.parse(["--gpu_ids", "-1"]), model)
    assert round(cost["flops"] / 1e9) == pytest.approx(giga, rel=0.002)
    assert 28 * 5e7 < cost["bytes"] < cost["flops"]  # Adam alone moves 28 bytes for each of over 50 million weights


# ---- what goes wrong ----


def test_what_does_not_fit_is_measured_alone_and_what_fails_says_so(monkeypatch, tmp_path):
    class Arm:
        block, seconds = 1, []

        def run(self, count):
            return 1.0

        run_fed = measured = lambda self: {"samples": [1.0]}

    alive, room = [], 1

    def prepare(args, head, name, images):
        if name == "compile":
            raise RuntimeError("no compiler\nand more")
        if name == "--fast" or len(alive) == room:
            alive.clear()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        alive.append(name)
        return Arm()

    monkeypatch.setattr(steps, "prepare", prepare)
    monkeypatch.setattr(steps, "release", alive.clear)
    args, head = argparse.Namespace(rounds=1, few=1), {"model": "pix2pix", "batch_size": 64}
    rows = steps.compare(args, head, ["default", "bf16", "compile", "--fast"], tmp_path)
    assert [(row["variant"], row["alone"], row.get("failed")) for row in rows] == [
        ("default", True, None),
        ("bf16", True, None),
        ("compile", True, "RuntimeError: no compiler"),
        ("--fast", True, "out of memory"),
    ]
    room = 2
    rows = steps.compare(args, head, ["default", "compile", "bf16"], tmp_path)
    assert [("alone" in row, row.get("failed")) for row in rows] == [
        (False, None),
        (False, "RuntimeError: no compiler"),
        (False, None),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["speed"], "the parts are limits"),
        (["quality"], "needs --data"),
        (["schedule", "--epochs", "12"], "10, 15, 20"),
        (["steps", "--", "--netg", "unet_32"], "--netg"),
    ],
)
def test_a_command_line_that_can_not_work_is_refused(words, said, capsys):
    with pytest.raises(SystemExit) as error:
        benchmark.parse(words)
    assert error.value.code == 2
    assert said in capsys.readouterr().err


def test_a_program_that_fails_ends_the_measurement_with_its_last_words(tmp_path):
    with pytest.raises(UserError, match=r"train failed.*nowhere"):
        list(
            commands.lines_of(["train.py", "--dataroot", tmp_path / "nowhere", "--gpu_ids", -1], tmp_path / "train.log")
        )


# ---- the command ----


@pytest.mark.slow
def test_a_quick_run_writes_samples_and_tables_that_agree(run, tmp_path):
    small = ("--quick", "--rounds", 2, "--size", 32, "--gpu_ids", -1, "--out", tmp_path)
    done = run(COMMAND, *small, *TINY)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "benchmark.json").read_text())
    text = (tmp_path / "benchmark.md").read_text()
    assert text in done.stdout
    assert "not for quoting" in text
    assert list(found["parts"]) == list(benchmark.SHORT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["benchmark.json", "benchmark.md"]
    for part, column, scale in (
        ("limits", "rate", None),
        ("loader", "later epochs, items/s", 1),
        ("translation", "images/s", 1),
        ("page", "milliseconds an update", 1000),
    ):
        shown = rows_of(text, part)
        assert len(shown) == len(found["parts"][part]) > 1
        for row, line in zip(found["parts"][part], shown, strict=True) if scale else ():
            assert line[column] == tables.spread(row["samples"], scale)
    lines = rows_of(text, "steps")
    assert [line["variant"] for line in lines] == ["default", "bf16", "--fast"]
    for row, line in zip(found["parts"]["steps"], lines, strict=True):
        assert len(row["samples"]) == 2
        assert line["steps/s"] == tables.spread([1 / value for value in row["samples"]])
        assert 0 < row["losses"]["G_L1"] < 200
    assert [len(row["fed"]) for row in found["parts"]["steps"]] == [2, 0, 2]
    assert found["parts"]["steps"][0]["memory"] > 10**8
    assert all(0 < share <= 1 for row in found["parts"]["translation"] for share in row["busy"])


@pytest.mark.slow
def test_a_schedule_and_a_comparison_of_results_run_the_real_commands(run, tmp_path):
    (make_aligned(tmp_path / "earth", count=8) / "earth.json").write_text('{"size": 32}')
    small = ("--quick", "--size", 32, "--gpu_ids", -1, "--out", tmp_path / "out", "--data", tmp_path / "earth")
    arms = ("--epochs", 10, "--seeds", 3, "--arms", "fp32", "fp32 channels_last")
    done = run(COMMAND, "schedule", "quality", *small, *arms, *TINY, "--num_threads", 0, "--print_freq", 4)
    assert (done.returncode, done.stderr) == (0, "")
    parts = json.loads((tmp_path / "out/benchmark.json").read_text())["parts"]
    assert [len(row["samples"]) for row in parts["schedule"]] == [10, 10]
    plain, other = parts["quality"]
    assert [point["total_iters"] for point in plain["curve"]] == list(range(4, 33, 4))
    assert plain["curve"][-1]["G_L1"] == pytest.approx(other["curve"][-1]["G_L1"], rel=0.01)
    assert 5 < plain["psnr"] < 40
    assert "<polyline" in (tmp_path / "out/quality.svg").read_text()
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs/performance.md").read_text())
    words = ("scripts/benchmarks/tables.py", tmp_path / "out/benchmark.json", "--into", page)
    assert run(*words).returncode == 0
    assert "| pix2pix | fp32 channels_last | 1 |" in page.read_text()
    assert sys.executable not in page.read_text()
