"""A run that is killed and goes on ends as if it had never stopped: a few points of tests/faults/resume.py."""

from __future__ import annotations

import pytest
from faults import resume
from faults.resume import Kill

CASES = {case.name: case for case in resume.CASES}
SAMPLE = [
    ("pix2pix, linear", Kill("before", 9)),
    ("pix2pix, step", Kill("torn", 4)),
    ("pix2pix, cosine", Kill("after", 15)),
    ("pix2pix, plateau", Kill("before", 13)),
    ("cycle_gan, linear", Kill("torn", 8)),
    ("cycle_gan, step", Kill("after", 13)),
    ("cycle_gan, cosine", Kill("before", 5)),
    ("cycle_gan, plateau", Kill("after", 9)),
    ("pix2pix, step, 2 processes", Kill("before", 6, (1,))),
    ("cycle_gan, linear, 2 processes", Kill("after", 5, (0,))),
    ("3 processes", Kill("after", 3, (0,))),
    ("saved after epochs", Kill("torn", 12)),
    ("4 workers", Kill("before", 5)),
    ("averaged weights, batches that accumulate", Kill("torn", 10)),
    ("stopped by SIGTERM", Kill("stop", 8)),
    ("wgangp", Kill("after", 7)),
    ("template", Kill("before", 8)),
    ("old plug-in", Kill("after", 9)),
]


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    return resume.Arena(tmp_path_factory.mktemp("resume"))


@pytest.mark.parametrize(("name", "kill"), SAMPLE)
def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(arena, name, kill):
    steps, _ = arena.whole(CASES[name])
    assert kill.n <= steps
    assert arena.point(CASES[name], [kill]) == {"case": name, "wrong": [], "resumes": 1}


def test_a_run_may_be_killed_again_and_again(arena):
    case = CASES["batches of 2"]
    steps, _ = arena.whole(case)
    kills = [Kill("before", 3)] * 5  # with a save after each second image, a start comes two steps further
    assert arena.point(case, kills) == {"case": case.name, "wrong": [], "resumes": 4}
    assert steps == 9


def test_a_run_may_be_killed_while_it_saves(arena):
    """At an epoch's end 3_* and latest_* are saved; each set counts from the renaming of its state on."""
    case = CASES["changes of files"]
    arena.whole(case)
    changes = (arena.place(case) / "whole" / "changes.txt").read_text().splitlines()
    (third,) = (n for n, line in enumerate(changes, 1) if "rename" in line and "3_state" in line)
    latest = max(n for n, line in enumerate(changes, 1) if "rename" in line and "latest_state" in line)
    for n in (third, third + 1, latest, latest + 1):  # before and after
        assert arena.point(case, [Kill("file", n)]) == {"case": case.name, "wrong": [], "resumes": 1}


def test_another_number_of_processes_sees_the_same_images_and_computes_the_same(tmp_path):
    ranks = resume.OtherRanks(tmp_path)
    order = ranks.whole("pix2pix")
    assert sorted(image for step in order[:2] for image in step) == [f"{i:02d}.png" for i in range(18)]
    for pair in ((1, 3), (4, 2)):
        result = ranks.point("pix2pix", pair, 4, order, same_batch=True)
        assert result["wrong"] == []
        assert result["off"] <= 1e-9
    assert ranks.point("pix2pix", (3, 2), 4, order, same_batch=False)["wrong"] == []
