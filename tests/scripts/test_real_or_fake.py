"""The study of real and fake images: its page in a browser, and the summary of answers."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import time

import browser
import numpy as np
import pytest
from conftest import ROOT, type_command
from PIL import Image

from scripts.perceptual import answers as answers_of
from scripts.perceptual.answers import read_session
from scripts.perceptual.study import make, make_study, scramble
from scripts.real_or_fake import parse
from util.errors import UserError

SCRIPT = ROOT / "scripts/real_or_fake.py"
HOSTILE = ["<!--<script>a", "\"'><img src=x onerror=hacked()>", "]]>&lt;", "ü 東京", "__proto__", "line\nbreak"]


def write_results(folder, names):
    """Write a results folder whose fakes are red and whose real images are green; blue is the number of the input."""
    (folder / "images").mkdir(parents=True)
    for i, name in enumerate(names):
        for label, colour in (("fake_B", (200, 30)), ("real_B", (30, 160))):
            Image.new("RGB", (24, 16), (*colour, i)).save(folder / "images" / f"{name}_{label}.png")
    return folder


@pytest.fixture
def results(tmp_path):
    return write_results(tmp_path / "facades_cGAN/test_latest", [f"{i:02d}" for i in range(12)])


def options(results, words="", small="--practice 2 --trials 4 --seconds 0.2"):
    return parse(["make", str(results), *small.split(), *words.split()])


# ---- the page ----


def decoded(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.mark.parametrize("pairing", ["same", "random"])
def test_a_study_shows_pixels_unchanged_and_no_image_twice(results, pairing):
    words = f"--practice 3 --trials 7 --vigilance 2 --pairing {pairing}"
    study = make_study(options(results, words, small=""))
    assert [pair["use"] for pair in study["pairs"]] == ["practice"] * 3 + ["test"] * 7 + ["vigilance"] * 2
    inputs = [[int(decoded(image)[0, 0, 2]) for image in pair["images"]] for pair in study["pairs"]]
    assert [sorted(numbers) for numbers in zip(*inputs, strict=True)] == [list(range(12))] * 2
    for pair, (fake, real) in zip(study["pairs"], inputs, strict=True):
        assert (fake == real) == (pairing == "same")
        assert fake == int(pair["name"])
        assert np.array_equal(decoded(pair["images"][1]), Image.open(results / f"images/{real:02d}_real_B.png"))


def test_a_study_is_a_function_of_its_images_and_settings_without_metadata(results):
    base = make_study(options(results))
    for file in (results / "images").glob("*_real_B.png"):
        Image.open(file).save(file, icc_profile=b"secret", exif=Image.Exif())
    assert make_study(options(results)) == base
    for changed in ("--seed 1", "--seconds 1", "--jpeg 95", "--pairing same"):
        assert make_study(options(results, changed))["id"] != base["id"], changed


def test_a_scrambled_image_keeps_its_pixels_and_not_their_order():
    image = np.arange(13 * 29 * 3).reshape(13, 29, 3)
    result = scramble(image, random.Random(0))
    assert (result != image).any(axis=2).mean() > 0.7
    assert sorted(result.ravel()) == sorted(image.ravel())


def test_the_page_is_one_file_that_requests_nothing(results, tmp_path, capsys):
    out = tmp_path / "new/folder/study.html"
    make(options(results, f"--out {out}"))
    written = out.read_text()
    assert re.search(r"pairs: 2 practice, 4 test, study [0-9a-f]{16}\n", capsys.readouterr().out)
    assert not re.search(r"https?:|src=[^'\"]*[.]|@import|url\(|fetch|XMLHttp|WebSocket|sendBeacon", written)
    assert "default-src 'none'" in written
    assert "unsafe" not in written
    assert list(out.parent.iterdir()) == [out]


def test_impossible_studies_are_errors_that_name_the_options(results, tmp_path):
    for words, message in (
        ("--practice 10 --trials 40", "has 12 pairs, and this study shows 50, none twice.*--practice 2 --trials 10"),
        ("--trials 0", "--trials 0: it must be 1 to 10000"),
        ("--seconds nan", "--seconds nan: it must be 0.05 to 60"),
        ("--practice 2 --trials 6 --domain A", r"no \*_fake_A.png"),
    ):
        with pytest.raises(UserError, match=message):
            make(options(results, words, small=f"--out {tmp_path / 's.html'}"))
    Image.new("RGB", (25, 16)).save(results / "images/03_real_B.png")
    with pytest.raises(UserError, match=r"is 24x16 and 03_real_B.png is 25x16, which would reveal the fake"):
        make(options(results, small=f"--practice 2 --trials 10 --out {tmp_path / 's.html'}"))
    assert not (tmp_path / "s.html").exists()


def test_help_explains_the_pairings_and_does_not_import_torch():
    done = type_command("-X", "importtime", SCRIPT, "make", "--help")
    assert done.returncode == 0
    assert re.search(r"random: .*map-aerial\s+study; same: .*\s+colorization\s+study", done.stdout, re.DOTALL)
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)


# ---- the page in a browser ----

# `fake` is the side of the red image that was shown last.
WATCH = """(() => new MutationObserver(() => {
  const canvas = document.querySelector(".shown#first canvas"), middle = [canvas?.width / 2, canvas?.height / 2, 1, 1];
  if (!canvas) return;
  const [red, green] = canvas.getContext("2d").getImageData(...middle).data;
  window.fake = red > green ? "first" : "second";
}).observe(document.getElementById("pair"), { subtree: true, attributes: true }))()"""
SPACE, KEYS = "\ue00d", {"first": "\ue012", "second": "\ue014"}  # WebDriver's names of the keys


def answer_round(visitor, number):
    """Find the fake of a round by its colour, and answer by key or mouse alternately; return its side."""
    visitor.until("!document.getElementById('first').disabled")
    assert visitor.find("#question").text == "Which one was the fake?"
    fake = visitor.js("fake")
    if number % 2:
        visitor.press(KEYS[fake])
    else:
        visitor.find(f"#{fake}").click()
    return fake


def test_a_participant_who_finds_every_fake_gets_0_percent(tmp_path, monkeypatch):
    results = write_results(tmp_path / "<img src=x onerror=hacked()>/test_latest", HOSTILE)
    make(options(results, f"--out {tmp_path / 'index.html'}"))
    visitor = browser.Visitor().open(tmp_path)
    downloads = {"behavior": "allow", "downloadPath": str(tmp_path)}
    visitor.driver.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    visitor.js("window.hacked = () => { window.was_hacked = true; }")
    visitor.js(WATCH)
    firsts = visitor.js("Array(999).fill().flatMap(draw).filter((round) => round.fake === 'first').length")
    assert firsts / 5994 == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(5994))  # four standard errors
    visitor.press(SPACE)
    fakes = []
    for number in range(2):
        fakes.append(answer_round(visitor, number))
        visitor.until("document.getElementById('next').hidden", False)
        side = "left" if fakes[-1] == "first" else "right"
        assert visitor.find("#question").text == f"Correct: it was the {side} one."
        assert visitor.find("#count").text == f"practice {number + 1} of 2"
        visitor.press(SPACE)
    visitor.until("document.getElementById('between').hidden", False)
    visitor.press(SPACE)
    for number in range(4):
        visitor.until("document.getElementById('count').textContent", f"{number + 1} of 4")
        fakes.append(answer_round(visitor, number))
        assert visitor.js("document.querySelectorAll('.was_fake').length") == 0
    visitor.until("document.getElementById('end').hidden", False)
    assert {re.match(r"\w+:", address)[0] for address in visitor.requests()} <= {"file:", "blob:"}
    assert [line for line in visitor.complaints() if "willReadFrequently" not in line] == []
    assert not visitor.js("window.was_hacked")
    visitor.find("#save").click()
    file = tmp_path / visitor.js("document.getElementById('save').download")
    end = time.monotonic() + 10
    while not file.exists():
        assert time.monotonic() < end, file
        time.sleep(0.05)
    assert re.fullmatch(r"answers_[A-Za-z0-9._-]+_[0-9a-f]{16}\.json", file.name)
    assert visitor.find("#answers").get_property("value") == file.read_text()
    data = json.loads(file.read_text())
    assert [answer["fake"] for answer in data["answers"]] == fakes
    assert [answer["use"] for answer in data["answers"]] == ["practice"] * 2 + ["test"] * 4
    assert {answer["pair"] for answer in data["answers"]} == set(HOSTILE)
    assert all(abs(ms - 200) <= 100 for answer in data["answers"] for ms in answer["shown"])
    monkeypatch.setattr(answers_of, "TOLERANCE", 1000)  # for a busy machine
    (study,) = summarise(tmp_path, file)
    assert (study["name"], study["rounds"], study["sessions"], study["labelled_real"]) == (results.parent.name, 4, 1, 0)


# ---- the summary ----


def summarise(tmp_path, *words):
    """Summarise files of answers; return the JSON file's studies."""
    answers_of.summarise(parse(["summarise", *map(str, words), "--json", str(tmp_path / "out/summary.json")]))
    return json.loads((tmp_path / "out/summary.json").read_text())["studies"]


def answers(participant, fooled, study=None):
    """Make a file's content: `fooled` says for each test round whether the fake was taken for real."""
    rounds = {"practice": 1, "test": len(fooled), "vigilance": 0}
    settings = {"id": "ab" * 8, "name": "cGAN", "seconds": 1, "rounds": rounds}
    listed = [{"pair": "p", "use": "practice", "fake": "first", "chosen": "second", "shown": [1000.1, 1000.1]}]
    for i, was in enumerate(fooled):
        fake, other = ("first", "second")[:: -1 if i % 2 else 1]
        listed.append({**listed[0], "pair": f"i{i}", "use": "test", "fake": fake, "chosen": other if was else fake})
    content = {"format": "real_or_fake 1", "study": {**settings, **(study or {})}, "participant": f"{participant:016x}"}
    return {**content, "answers": listed}


def save(folder, *contents):
    folder.mkdir(exist_ok=True)
    for i, content in enumerate(contents):
        (folder / f"answers_{i}.json").write_text(json.dumps(content))
    return folder


def test_the_share_is_exact_and_practice_does_not_count(tmp_path, capsys):
    folder = save(tmp_path / "a", answers(1, [1, 0] * 3 + [0] * 4), answers(2, [1, 1, 1, 1] + [0] * 6))
    (study,) = summarise(tmp_path, folder)
    assert (study["sessions"], study["rounds"], study["labelled_real"]) == (2, 20, 0.35)
    assert study["pairs"]["i0"] == {"rounds": 2, "labelled_real": 1}
    assert study["pairs"]["i1"] == {"rounds": 2, "labelled_real": 0.5}
    assert "p" not in study["pairs"]
    half = 1.96 * np.std([0.3, 0.4], ddof=1) / np.sqrt(2)
    assert study["interval"] == {"low": pytest.approx(0.35 - half), "high": pytest.approx(0.35 + half)}
    printed = capsys.readouterr().out
    assert re.search(r"cGAN \(ababab\) +2 +20 +35\.0 % +25\.2 to 44\.8\n", printed)
    assert "most often taken for real: i0 (100 % of 2), i2 (100 % of 2), i1 (50 % of 2)" in printed
    assert "least often taken for real: i9 (0 % of 2)" in printed


def test_unusable_sessions_are_left_out_with_their_reasons(tmp_path):
    short, unseen, slow = (answers(i, [1] * 20) for i in range(2, 5))
    short["answers"].pop()
    for content, number in ((unseen, 3), (slow, 2)):
        for answer in content["answers"][-number:]:
            answer["shown"] = [1100.2, 1000]
    vigilance = {"rounds": {"practice": 1, "test": 4, "vigilance": 4}}
    blind, awake = answers(6, [0] * 4, vigilance), answers(7, [0] * 4, vigilance)
    for content, wrong in ((blind, 2), (awake, 1)):
        for i in range(4):
            chosen = "second" if i < wrong else "first"
            extra = {"pair": f"v{i}", "use": "vigilance", "fake": "first", "chosen": chosen}
            content["answers"].append({**content["answers"][0], **extra})
    (study,) = summarise(tmp_path, save(tmp_path / "a", answers(1, [0] * 20), short, unseen, slow))
    assert list(study["sessions_left_out"].values()) == [
        "incomplete: 20 of 21 rounds",
        "in 3 of 20 rounds images were not shown for 1000 ms within 100",
    ]
    assert (study["sessions"], study["rounds"], study["rounds_left_out"]) == (2, 38, 2)
    assert study["labelled_real"] == 18 / 38
    (study,) = summarise(tmp_path, save(tmp_path / "b", blind, awake))
    assert list(study["sessions_left_out"].values()) == ["not vigilant: 2 of 4 scrambled images were found"]
    assert (study["sessions"], study["rounds"], study["labelled_real"]) == (1, 4, 0)  # scrambled ones do not count


def test_each_page_has_its_own_line_and_copies_count_once(tmp_path, capsys):
    other = {"id": "cd" * 8, "name": "L1"}
    folder = save(tmp_path / "a", answers(1, [1] * 4), answers(2, [0] * 4, other), answers(3, [0] * 4, other))
    found = summarise(tmp_path, folder)
    assert [(s["name"], s["sessions"], s["labelled_real"]) for s in found] == [("L1", 2, 0), ("cGAN", 1, 1)]
    save(folder, answers(2, [1] * 4), answers(2, [1] * 4), answers(3, [0] * 4))
    assert summarise(tmp_path, folder)[0]["labelled_real"] == 0.5
    assert re.search(r"answers_1\.json is a copy of .*answers_0\.json: counted once", capsys.readouterr().out)
    save(folder, answers(2, [0] * 4))
    with pytest.raises(UserError, match="different answers of one participant"):
        summarise(tmp_path, folder)


def test_files_that_the_page_did_not_write_are_errors_that_name_the_problem(tmp_path):
    good = answers(1, [1, 0])
    practice, first, second = good["answers"]
    for changes, message in (
        ({"format": "real_or_fake 2"}, 'no "format"'),
        ({"study": {}}, "'id' is missing"),
        ({"study": {**good["study"], "rounds": [1]}}, "list indices"),
        ({"answers": [practice, first, second, {**first, "pair": "x"}]}, "more rounds than the study has"),
        ({"answers": [{**first, "chosen": "left"}]}, "('first', 'left') are no sides"),
        ({"answers": [{**first, "use": "tests"}]}, "'tests' is missing or unknown"),
        ({"answers": [{**first, "shown": [1000, "x"]}]}, "could not convert"),
        ({"answers": [first, first]}, "a pair occurs twice"),
    ):
        content = {**good, **changes}
        file = save(tmp_path / "a", content) / "answers_0.json"
        with pytest.raises(UserError) as error:
            read_session(file)
        assert str(error.value).startswith(f"{file} holds no answers of a page of real_or_fake.py: ")
        assert message in str(error.value)


def test_files_that_are_no_json_and_folders_without_answers_are_errors(tmp_path):
    for content in (b"", b"[]", b"\xff\xfe\x00", b"[" * 100_000):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(UserError, match=rf"{tmp_path / 'x.json'} holds no answers"):
            summarise(tmp_path, tmp_path / "x.json")
    with pytest.raises(UserError, match=rf"no answers_\*.json in {tmp_path}"):
        summarise(tmp_path, tmp_path)
