"""A killed and resumed run ends as if it had never stopped: a few points of tests/faults/resume.py."""

from __future__ import annotations

import pytest
from faults import resume
from faults.resume import Kill

CASES = {case.name: case for case in resume.CASES}
SAMPLE = [
    ("cycle_gan, step", Kill("torn", 4)),
    ("pix2pix, plateau", Kill("before", 9)),
    ("averaged weights, batches that accumulate", Kill("torn", 10)),
    ("pix2pix, cosine, 2 processes", Kill("before", 6, (1,))),
]


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    return resume.Arena(tmp_path_factory.mktemp("resume"))


@pytest.mark.parametrize(("name", "kill"), SAMPLE)
def test_a_killed_run_resumes_as_if_it_had_not_been_killed(arena, name, kill):
    assert arena.whole(CASES[name]) >= kill.n
    assert arena.point(CASES[name], [kill]) == {"case": name, "wrong": [], "resumes": 1}


def test_another_number_of_processes_sees_the_same_images_and_computes_the_same(tmp_path):
    ranks = resume.OtherRanks(tmp_path)
    order = ranks.whole("pix2pix")
    assert sorted(image for step in order[:2] for image in step) == [f"{i:02d}.png" for i in range(18)]
    assert ranks.point("pix2pix", (1, 2), 4, order)["wrong"] == []
