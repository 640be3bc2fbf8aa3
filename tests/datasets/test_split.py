"""split_dataset.py, as users type it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import pytest
from conftest import ROOT, make_image

SPLIT = ROOT / "datasets/split_dataset.py"


@pytest.fixture
def scans(tmp_path):
    """Two sides of ten patients with two scans each."""
    for side in "AB":
        for patient in range(10):
            for scan in range(2):
                seed = 100 * patient + 10 * scan + (side == "B")
                make_image(tmp_path / "scans" / side / f"patient{patient}_{scan}.png", seed=seed)
    return tmp_path


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}


def test_patients_and_pairs_stay_together_and_the_manifest_lists_all_files(run, scans):
    command = [SPLIT, "scans", "data", "--val", ".1", "--test", ".2", "--group", r"(patient\d+)_"]
    done = run(*command, cwd=scans, status=0)
    data = scans / "data"
    splits = {}
    for file in files(data):
        splits.setdefault(file.partition("/")[2].partition("_")[0], set()).add(file.partition("/")[0][:-1])
    assert Counter(split for (split,) in splits.values()) == {"train": 7, "val": 1, "test": 2}
    assert {file.replace("A/", "B/") for file in files(data) if "A/" in file} == {f for f in files(data) if "B/" in f}
    manifest = json.loads((data / "split.json").read_text())
    assert manifest["counts"]["test"] == {"images": 8, "groups": 2}
    assert {row["file"] for row in manifest["files"]} == files(data)
    for row in manifest["files"]:
        assert row["sha256"] == hashlib.sha256((data / row["file"]).read_bytes()).hexdigest()
    assert "next: python train.py --dataroot data --name NAME --model pix2pix" in done.stdout
    assert (data / "trainA").is_dir()
    assert all((data / file).is_symlink() for file in files(data))


def test_the_seed_decides_and_copies_are_files(run, scans):
    for target, options in {"one": [], "same": ["--copy"], "other": ["--seed", "1"]}.items():
        assert run(SPLIT, "scans/A", target, "--test", "0.5", *options, cwd=scans).returncode == 0
    assert files(scans / "one") == files(scans / "same") != files(scans / "other")
    assert not any(path.is_symlink() for path in (scans / "same").rglob("*"))
    assert len([file for file in files(scans / "one") if file.startswith("test/")]) == 10


def test_files_of_equal_bytes_stay_in_one_split(run, tmp_path):
    for seed in range(8):
        for copy in "abc":
            make_image(tmp_path / "photos" / f"{copy}{seed}.png", seed=seed)
    assert run(SPLIT, "photos", "data", "--test", "0.5", cwd=tmp_path).returncode == 0
    tests = {file for file in files(tmp_path / "data") if file.startswith("test/")}
    assert Counter(file[6] for file in tests) == Counter({file[6]: 3 for file in tests})
    assert len(tests) == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scans", "data"], "type shares from 0 to 1"),
        (["scans", "data", "--test", "1"], "type shares from 0 to 1"),
        (["scans", "data", "--test", ".2", "--group", "patient"], "in parentheses"),
        (["scans", "data", "--test", ".2", "--group", "("], "no regular expression"),
        (["scans", "data", "--test", ".2", "--group", r"slide(\d+)"], "matches nothing in 40 names"),
        (["scans", "data", "--test", ".2", "--group", "(patient)"], "1 groups are too few: none is left for train"),
        (["scans", "scans/data", "--test", ".2"], "is inside scans"),
        (["nowhere", "data", "--test", ".2"], "nowhere is no folder"),
        (["scans", "scans", "--test", ".2"], "scans exists"),
    ],
)
def test_mistakes_end_with_a_message_and_write_nothing(run, scans, words, message):
    before = {*scans.rglob("*")}
    done = run(SPLIT, *words, cwd=scans)
    assert done.returncode != 0
    assert message in done.stderr
    assert {*scans.rglob("*")} == before
