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

from scripts.perceptual.answers import interval, read_session
from scripts.perceptual.answers import summarise as summarise_answers
from scripts.perceptual.study import make, make_study, page, scramble
from scripts.real_or_fake import parse
from util.errors import UserError

SCRIPT = ROOT / "scripts/real_or_fake.py"
HOSTILE = ["<!--<script>a", "\"'><img src=x onerror=hacked()>", "]]>&lt;", "ü 東京", "__proto__", "line\nbreak"]
RED, GREEN = (200, 30), (30, 160)  # of fakes and of real images


def write_results(folder, names, size=(24, 16)):
    """Write a results folder whose fakes are red and whose real images are green; blue is the number of the input."""
    (folder / "images").mkdir(parents=True)
    for i, name in enumerate(names):
        for label, colour in (("fake_B", RED), ("real_B", GREEN)):
            Image.new("RGB", size, (*colour, i)).save(folder / "images" / f"{name}_{label}.png")
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
    words = f"--practice 3 --trials 5 --pool 7 --vigilance 2 --pairing {pairing}"
    study = make_study(options(results, words, small=""))
    assert [pair["use"] for pair in study["pairs"]] == ["practice"] * 3 + ["test"] * 7 + ["vigilance"] * 2
    inputs = [[int(decoded(image)[0, 0, 2]) for image in pair["images"]] for pair in study["pairs"]]
    assert [sorted(numbers) for numbers in zip(*inputs, strict=True)] == [list(range(12))] * 2
    for pair, (fake, real) in zip(study["pairs"], inputs, strict=True):
        assert (fake == real) == (pairing == "same")
        assert fake == int(pair["name"])
        assert np.array_equal(decoded(pair["images"][1]), Image.open(results / f"images/{real:02d}_real_B.png"))


def test_one_trial_of_random_pairing_has_two_inputs(results):
    (pair,) = make_study(options(results, small="--practice 0 --trials 1"))["pairs"]
    assert len({int(decoded(image)[0, 0, 2]) for image in pair["images"]}) == 2


def test_a_study_is_a_function_of_its_images_and_settings(results):
    base = make_study(options(results))
    assert make_study(options(results)) == base
    for changed in ("--seed 1", "--seconds 1", "--name x", "--in_turn", "--jpeg 95", "--trials 3", "--pairing same"):
        assert make_study(options(results, changed))["id"] != base["id"], changed
    for file in (results / "images").glob("*_fake_B.png"):
        Image.new("RGB", (24, 16), (201, 30, 30)).save(file)
    assert make_study(options(results))["id"] != base["id"]


def test_images_of_the_page_have_no_metadata(results):
    for file in (results / "images").glob("*_real_B.png"):
        Image.open(file).save(file, icc_profile=b"secret", exif=Image.Exif())
    for words, kind in (("", "PNG"), ("--jpeg 95", "JPEG")):
        for pair in make_study(options(results, words))["pairs"]:
            files = [Image.open(io.BytesIO(base64.b64decode(text))) for text in pair["images"]]
            assert {file.format for file in files} == {kind}
            assert files[0].info == files[1].info
            assert "icc_profile" not in files[1].info


def test_a_scrambled_image_keeps_its_shape_and_not_its_order():
    image = np.arange(13 * 29 * 3).reshape(13, 29, 3)
    result = scramble(image, random.Random(0))
    assert result.shape == image.shape
    assert (result != image).any(axis=2).mean() > 0.7
    assert set(result.ravel()) <= set(image.ravel())


def test_the_page_is_one_file_that_requests_nothing(results, tmp_path, capsys):
    out = tmp_path / "new/folder/study.html"
    make(options(results, f"--out {out}"))
    written = out.read_text()
    assert re.search(r"pairs: 2 practice, 4 test, study [0-9a-f]{16}\n", capsys.readouterr().out)
    assert not re.search(r"https?:|src=[^'\"]*[.]|@import|url\(|fetch|XMLHttp|WebSocket|sendBeacon", written)
    assert "default-src 'none'" in written
    assert "unsafe" not in written
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--practice 10 --trials 40", "has 12 pairs, and this study shows 50, none twice.*--practice 2 --trials 10"),
        ("--trials 0", "--trials 0: it must be 1 to 10000"),
        ("--seconds nan", "--seconds nan: it must be 0.05 to 60"),
        ("--practice 2 --trials 6 --pool 4", "--pool 4 is too small for --trials 6"),
        ("--practice 2 --trials 6 --max_mb 0.01", "--jpeg 95, fewer --trials"),
        ("--practice 2 --trials 6 --domain A", r"no \*_fake_A.png"),
    ],
)
def test_impossible_studies_are_errors_that_name_the_options(results, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        make(options(results, words, small=f"--out {tmp_path / 's.html'}"))
    assert not (tmp_path / "s.html").exists()


def test_a_pair_of_two_sizes_is_an_error(results):
    Image.new("RGB", (25, 16)).save(results / "images/03_real_B.png")
    with pytest.raises(UserError, match=r"is 24x16 and 03_real_B.png is 25x16, which would reveal the fake"):
        make(options(results, small="--practice 2 --trials 10"))


def test_help_explains_the_pairings_and_does_not_import_torch():
    done = type_command("-X", "importtime", SCRIPT, "make", "--help")
    assert done.returncode == 0
    assert re.search(r"random: .*map-aerial\s+study; same: .*\s+colorization\s+study", done.stdout, re.DOTALL)
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)


# ---- the page in a browser ----


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    home = tmp_path_factory.mktemp("browser")
    with browser.open_browser(home) as driver:
        driver.downloads = home / "downloads"
        yield driver


# `seen` lists the images that were shown: the side, whether it was red, and for how many ms.
WATCH = """
window.seen = [];
const sides = ["first", "second"], red = (side) => {
  const canvas = document.getElementById(side).querySelector("canvas");
  const [r, g] = canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data;
  return r > g;
};
const begun = {};
new MutationObserver(() => {
  const visible = sides.filter((side) => document.getElementById(side).classList.contains("shown"));
  for (const side of visible) begun[side] ??= { side, red: red(side), begin: performance.now() };
  for (const side of sides) if (begun[side] && !visible.includes(side)) {
    window.seen.push({ ...begun[side], ms: performance.now() - begun[side].begin });
    delete begun[side];
  }
}).observe(document.getElementById("pair"), { subtree: true, attributes: true });
"""


def load(driver, out):
    """Load the page, again if it is open, and wait until it has loaded: the address alone does not show that."""
    browser.requests(driver), browser.complaints(driver)  # discard those of earlier pages
    driver.execute_script("window.before = true")
    driver.get(out.as_uri())
    until(driver, "!window.before && document.readyState === 'complete'")
    driver.execute_script(WATCH)


def open_study(driver, results, out, words=""):
    """Make a study, and open its page as a new participant."""
    out.write_text(page(make_study(options(results, words)), "Consent <b>&\n\ntext"), encoding="utf-8")
    driver.get(out.as_uri())
    driver.execute_script("sessionStorage.clear()")
    load(driver, out)


def until(driver, condition, seconds=20):
    end = time.monotonic() + seconds
    while not driver.execute_script(f"return Boolean({condition})"):
        assert time.monotonic() < end, f"{condition}: {driver.find_element('tag name', 'body').text!r}"
        time.sleep(0.01)


def press(driver, key):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    ActionChains(driver).send_keys(getattr(Keys, key)).perform()


def text(driver, id="question"):
    return driver.find_element("id", id).text


def answer_round(driver, number):
    """Find the fake of a round by its colour, and answer by key or mouse alternately; return its side."""
    until(driver, "!document.getElementById('first').disabled")
    assert text(driver) == "Which one was the fake?"
    (fake,) = (image["side"] for image in driver.execute_script("return seen.splice(0)") if image["red"])
    if number % 2:
        press(driver, {"first": "ARROW_LEFT", "second": "ARROW_RIGHT"}[fake])
    else:
        driver.find_element("id", fake).click()
    return fake


def download(driver):
    """Save the answers as a participant does; return the file."""
    until(driver, "!document.getElementById('end').hidden")
    driver.find_element("id", "save").click()
    name = driver.execute_script("return document.getElementById('save').download")
    file, end = driver.downloads / name, time.monotonic() + 10
    while not file.exists():
        assert time.monotonic() < end, name
        time.sleep(0.05)
    return file


def test_a_participant_who_finds_every_fake_gets_0_percent(chromium, tmp_path):
    results = write_results(tmp_path / "<img src=x onerror=hacked()>/test_latest", HOSTILE)
    open_study(chromium, results, tmp_path / "study.html")
    chromium.execute_script("window.hacked = () => { window.was_hacked = true; }")
    assert "Consent <b>&" in text(chromium, "start")
    press(chromium, "SPACE")
    fakes = []
    for number in range(2):
        fakes.append(answer_round(chromium, number))
        until(chromium, "!document.getElementById('next').hidden")
        assert text(chromium) == f"Correct: it was the {'left' if fakes[-1] == 'first' else 'right'} one."
        press(chromium, "SPACE")
    until(chromium, "!document.getElementById('between').hidden")
    press(chromium, "SPACE")
    for number in range(4):
        fakes.append(answer_round(chromium, number))
        assert chromium.execute_script("return document.querySelectorAll('.was_fake').length") == 0
    file = download(chromium)
    assert {re.match(r"\w+:", address)[0] for address in browser.requests(chromium)} <= {"file:", "blob:"}
    assert [line for line in browser.complaints(chromium) if "willReadFrequently" not in line] == []
    assert not chromium.execute_script("return window.was_hacked")
    data = json.loads(file.read_text())
    assert chromium.find_element("id", "answers").get_property("value") == file.read_text()
    assert re.fullmatch(r"answers_[A-Za-z0-9._-]+_[0-9a-f]{16}\.json", file.name)
    assert [answer["fake"] for answer in data["answers"]] == fakes
    assert [answer["use"] for answer in data["answers"]] == ["practice"] * 2 + ["test"] * 4
    assert {answer["pair"] for answer in data["answers"]} == set(HOSTILE)
    assert all(abs(ms - 200) <= 100 for answer in data["answers"] for ms in answer["shown"])
    (study,) = summarise(tmp_path, file, "--tolerance 1000")
    assert (study["name"], study["rounds"], study["sessions"], study["labelled_real"]) == (results.parent.name, 4, 1, 0)
    chromium.find_element("id", "another").click()
    until(chromium, "!document.getElementById('start').hidden")
    assert chromium.execute_script("return state.answers.length") == 0


def test_a_reloaded_page_resumes_and_drops_the_interrupted_round(chromium, results, tmp_path):
    out = tmp_path / "s.html"
    open_study(chromium, results, out, "--practice 0 --trials 3 --seconds 1 --in_turn")
    assert "1 second each, one after the other" in text(chromium, "start")
    press(chromium, "SPACE")
    until(chromium, "answering")
    first, second = chromium.execute_script("return seen")
    assert second["begin"] >= first["begin"] + first["ms"] - 1
    assert [first["ms"], second["ms"]] == pytest.approx([1000, 1000], abs=100)
    before = chromium.execute_script("return [state.participant, plan.map((round) => round.pair.name)]")
    press(chromium, "ARROW_LEFT")
    until(chromium, "document.querySelector('.shown')")
    load(chromium, out)
    assert text(chromium, "begin") == "Continue"
    assert chromium.execute_script("return [state.participant, plan.map((round) => round.pair.name)]") == before
    press(chromium, "SPACE")
    until(chromium, "document.querySelector('.shown')")
    cover = "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
    chromium.execute_script(f"{cover} document.dispatchEvent(new Event('visibilitychange'))")
    until(chromium, "answering", 1.5)  # a covered page hides its images at once
    press(chromium, "ARROW_LEFT")
    data = json.loads(download(chromium).read_text())
    assert [answer["chosen"] for answer in data["answers"]] == ["first", None, "first"]
    assert data["answers"][0]["shown"] == pytest.approx([first["ms"], second["ms"]], abs=60)
    assert sum(data["answers"][2]["shown"]) < 1900


def test_draws_are_even_repeat_no_pair_and_follow_from_the_seed(chromium, results, tmp_path):
    open_study(chromium, results, tmp_path / "s.html", "--pool 8 --vigilance 2")
    script = """const rounds = [];
    for (let i = 0; i < 400; i++) rounds.push(draw(hex(16)).map(({pair, fake}) => [pair.name, pair.use, fake]));
    const seed = hex(16);
    return [rounds, JSON.stringify(draw(seed)) === JSON.stringify(draw(seed))]"""
    sessions, same = chromium.execute_script(script)
    assert same
    for rounds in sessions:
        assert len({name for name, *_ in rounds}) == 8
        assert [use == "practice" for _, use, _ in rounds] == [True] * 2 + [False] * 6
        assert [use for _, use, _ in rounds].count("vigilance") == 2
    first = np.mean([fake == "first" for rounds in sessions for *_, fake in rounds])
    assert first == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(3200))  # four standard errors
    names = [name for rounds in sessions for name, use, _ in rounds if use == "test"]
    counts = np.unique(names, return_counts=True)[1]
    assert len(counts) == 8
    assert counts == pytest.approx(200, abs=4 * np.sqrt(400 * 0.25))


# ---- the summary ----


def summarise(tmp_path, *words):
    """Summarise files of answers; return the JSON file's studies."""
    words = [part for word in words for part in (word.split() if isinstance(word, str) else [str(word)])]
    summarise_answers(parse(["summarise", *words, "--json", str(tmp_path / "out/summary.json")]))
    return json.loads((tmp_path / "out/summary.json").read_text())["studies"]


def answers(participant, fooled, study=None):
    """Make a file's content: `fooled` says for each test round whether the fake was taken for real, or is None."""
    rounds = {"practice": 1, "test": len(fooled), "vigilance": 0}
    settings = {"id": "ab" * 8, "name": "cGAN", "seconds": 1, "in_turn": False, "jpeg": None, "rounds": rounds}
    shown = {"shown": [1000.1, 1000.1], "width": 256, "took": 700, "by": "key"}
    listed = [{"pair": "p", "use": "practice", "fake": "first", "chosen": "second", **shown}]
    for i, was in enumerate(fooled):
        fake, other = ("first", "second")[:: -1 if i % 2 else 1]
        chosen = None if was is None else other if was else fake
        listed.append({"pair": f"i{i}", "use": "test", "fake": fake, "chosen": chosen, **shown})
    window = {"width": 800, "height": 600, "pixel_ratio": 1, "upright": False}
    content = {"format": "real_or_fake 1", "study": {**settings, **(study or {})}, "participant": f"{participant:016x}"}
    return {**content, "seed": "0" * 32, "window": window, "answers": listed}


def save(folder, *contents):
    folder.mkdir(exist_ok=True)
    for i, content in enumerate(contents):
        (folder / f"{i:03d}.json").write_text(json.dumps(content))
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


def test_intervals_contain_the_true_share_about_as_often_as_they_claim():
    rng, covered = np.random.default_rng(2), 0
    for _ in range(400):
        tallies = np.stack([rng.binomial(40, rng.beta(4, 8, 30)), np.full(30, 40)], axis=1)  # 30 participants, 1/3
        ends = interval(tallies)
        covered += ends["low"] <= 1 / 3 <= ends["high"]
    assert 0.90 <= covered / 400 <= 0.98
    assert interval(tallies[:1]) is None


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
    (study,) = summarise(tmp_path, tmp_path / "a", "--tolerance 101")
    assert (study["sessions"], study["rounds"]) == (3, 60)
    (study,) = summarise(tmp_path, save(tmp_path / "b", blind, awake))
    assert list(study["sessions_left_out"].values()) == ["not vigilant: 2 of 4 scrambled images were found"]
    assert (study["sessions"], study["rounds"], study["labelled_real"]) == (1, 4, 0)  # scrambled ones do not count
    (study,) = summarise(tmp_path, save(tmp_path / "c", short))
    assert (study["labelled_real"], study["interval"]) == (None, None)


def test_answers_to_several_pages_are_an_error_without_mixed(tmp_path):
    other = {"id": "cd" * 8, "name": "L1"}
    folder = save(tmp_path / "a", answers(1, [1] * 4), answers(2, [0] * 4, other), answers(3, [0] * 4, other))
    with pytest.raises(UserError, match=rf"answers to 2 pages; --mixed prints one line(.|\n)*{'cd' * 8}  L1, 2 sess"):
        summarise(tmp_path, folder)
    found = summarise(tmp_path, folder, "--mixed")
    assert [(s["name"], s["sessions"], s["labelled_real"]) for s in found] == [("L1", 2, 0), ("cGAN", 1, 1)]
    altered = answers(4, [0] * 4, {"seconds": 2})
    with pytest.raises(UserError, match="answers to 2 pages"):
        summarise(tmp_path, save(tmp_path / "b", answers(1, [1] * 4), altered))


def test_copies_count_once_and_two_answers_of_one_participant_are_an_error(tmp_path, capsys):
    folder = save(tmp_path / "a", answers(1, [1] * 4), answers(1, [1] * 4), answers(2, [0] * 4))
    assert summarise(tmp_path, folder)[0]["labelled_real"] == 0.5
    assert re.search(r"001\.json is a copy of .*000\.json: counted once", capsys.readouterr().out)
    save(folder, answers(1, [0] * 4))
    with pytest.raises(UserError, match="different answers of one participant"):
        summarise(tmp_path, folder)


def changed(path, value):
    """Return answers in which one field holds another value, or is missing."""
    content = answers(1, [1, 0])
    *way, last = path
    field = content
    for step in way:
        field = field[step]
    if value is None:
        del field[last]
    else:
        field[last] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], 'no "format"'),
        (changed(["format"], "real_or_fake 2"), 'no "format"'),
        (changed(["seed"], None), "the file: keys are missing or too many"),
        (changed(["participant"], 5), "participant must have 16 hexadecimal digits"),
        (changed(["study"], 3), "study: keys"),
        (changed(["study", "rounds"], [1]), "study: rounds: keys"),
        (changed(["study", "rounds", "test"], 2.5), "study: rounds"),
        (changed(["study", "rounds", "test"], 1), "more rounds than the study has"),
        (changed(["study", "seconds"], True), "study: seconds"),
        (changed(["answers"], {}), "answers must be a list"),
        (changed(["answers", 1, "fake"], "left"), "round 2: fake is no side"),
        (changed(["answers", 1, "chosen"], 0), "round 2: chosen is no side"),
        (changed(["answers", 1, "use"], ["test"]), "round 2: use is unknown"),
        (changed(["answers", 2, "shown"], [1000, "1000"]), "round 3: shown needs two times"),
        (changed(["answers", 2, "shown"], [1000, float("inf")]), "Infinity is no number"),
        (changed(["answers", 2, "took"], -1), "round 3: took is no time"),
        (changed(["answers", 2, "pair"], "i0"), "a pair occurs twice"),
        (changed(["answers", 2, "pair"], {}), "round 3: pair must be text"),
    ],
)
def test_files_that_the_page_did_not_write_are_errors_that_name_the_field(tmp_path, content, message):
    file = save(tmp_path / "a", content) / "000.json"
    with pytest.raises(UserError) as error:
        read_session(file)
    assert str(error.value).startswith(f"{file} holds no answers of a page of real_or_fake.py: ")
    assert message in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[" * 100_000, b'{"format": NaN}'])
def test_files_that_are_no_json_are_named(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"{tmp_path / 'x.json'} holds no answers"):
        summarise(tmp_path, tmp_path / "x.json")


def test_a_folder_without_answers_and_a_missing_file_are_errors(tmp_path):
    (tmp_path / "evaluation.json").write_text('{"of": "something else"}')
    with pytest.raises(UserError, match=f"no answers in {tmp_path}"):
        summarise(tmp_path, tmp_path)
    done = type_command(SCRIPT, "summarise", tmp_path / "nowhere.json")
    assert done.returncode == 1
    assert "nowhere.json: No such file" in done.stderr
