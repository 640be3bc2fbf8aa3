"""The study page in a browser, as its participants use it, and what their answers come to."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import shlex
import time
from types import SimpleNamespace

import browser
import numpy as np
import pytest
from conftest import ROOT, type_command
from PIL import Image
from terminal import type_fast

from scripts.perceptual.answers import intervals, read_session
from scripts.real_or_fake import make_study, page, scrambled
from util.errors import UserError

SCRIPT = ROOT / "scripts/real_or_fake.py"
HOSTILE = ["<!--<script>a", "\"'><img src=x onerror=hacked()>", "]]>&lt;", "ü 東京", "__proto__", "line\nbreak"]
RED, GREEN = (200, 30, 30), (30, 160, 30)  # of fakes and of real images, for participants that know


def write_results(folder, names, size=(24, 16)):
    """Write a results folder whose fakes are red and whose real images are green, each a little different."""
    (folder / "images").mkdir(parents=True)
    for i, name in enumerate(names):
        for label, colour in (("fake_B", RED), ("real_B", GREEN)):
            Image.new("RGB", size, (*colour[:2], i)).save(folder / "images" / f"{name}_{label}.png")
    return folder


@pytest.fixture
def results(tmp_path):
    return write_results(tmp_path / "facades_cGAN/test_latest", [f"{i:02d}" for i in range(12)])


def settings(results, **changed):
    """What `make` is told, as its parser would say it."""
    values = {"practice": 2, "trials": 4, "pool": 0, "vigilance": 0, "seconds": 0.2, "in_turn": False, "jpeg": None}
    return SimpleNamespace(results=results, **{"name": None, "domain": "B", "seed": 0, **values, **changed})


def typed(*words):
    """Run the command; return what it printed."""
    done = type_fast(shlex.join(map(str, [SCRIPT, *words])), ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def failing(*words):
    """Run the command, see it fail as it should, and return what it said."""
    done = type_fast(shlex.join(map(str, [SCRIPT, *words])), ROOT)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


# ---- making the page ----


def decoded(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_a_study_holds_pairs_of_one_name_pixel_for_pixel_and_none_twice(results):
    study = make_study(settings(results, practice=3, trials=5, pool=7, vigilance=2))
    assert [pair["use"] for pair in study["pairs"]] == ["practice"] * 3 + ["test"] * 7 + ["vigilance"] * 2
    assert len({pair["name"] for pair in study["pairs"]}) == 12
    for pair in study["pairs"]:
        fake, real = map(decoded, pair["images"])
        assert np.array_equal(real, Image.open(results / f"images/{pair['name']}_real_B.png"))
        if pair["use"] != "vigilance":
            assert np.array_equal(fake, Image.open(results / f"images/{pair['name']}_fake_B.png"))


def test_a_study_is_a_function_of_its_images_and_settings(results):
    base = make_study(settings(results))
    assert make_study(settings(results)) == base
    for changed in ({"seed": 1}, {"seconds": 1}, {"name": "x"}, {"in_turn": True}, {"jpeg": 95}, {"trials": 3}):
        assert make_study(settings(results, **changed))["id"] != base["id"], changed
    for file in (results / "images").glob("*_fake_B.png"):
        Image.new("RGB", (24, 16), (201, 30, 30)).save(file)
    assert make_study(settings(results))["id"] != base["id"]


def test_files_are_alike_and_hold_nothing_but_pixels(results):
    for file in (results / "images").glob("*_real_B.png"):
        image = Image.open(file)
        image.save(file, icc_profile=b"secret", exif=Image.Exif())
    for jpeg, kind in ((None, "PNG"), (95, "JPEG")):
        for pair in make_study(settings(results, jpeg=jpeg))["pairs"]:
            files = [Image.open(io.BytesIO(base64.b64decode(text))) for text in pair["images"]]
            assert {file.format for file in files} == {kind}
            assert files[0].info == files[1].info
            assert "icc_profile" not in files[1].info


@pytest.mark.parametrize(("height", "width"), [(64, 64), (13, 29), (5, 3)])
def test_a_scrambled_image_keeps_its_shape_and_not_its_order(height, width):
    image = np.arange(height * width * 3).reshape(height, width, 3)
    result = scrambled(image, random.Random(0))
    assert result.shape == image.shape
    assert (result != image).any(axis=2).mean() > 0.7
    assert set(result.ravel()) <= set(image.ravel())


def test_the_page_is_one_file_that_asks_for_nothing(results, tmp_path):
    out = tmp_path / "new/folder/study.html"
    text = typed("make", results, "--practice", 2, "--trials", 4, "--out", out)
    written = out.read_text()
    assert re.search(r"pairs: 2 practice, 4 test, study [0-9a-f]{16}\n", text)
    assert not re.search(r"https?:|src=[^'\"]*[.]|@import|url\(|fetch|XMLHttp|WebSocket|sendBeacon", written)
    assert "default-src 'none'" in written
    assert "unsafe" not in written
    assert list(out.parent.iterdir()) == [out]


def test_a_consent_text_is_shown_as_text(results):
    text = page(make_study(settings(results)), "One <b>&\n\nTwo\nlines")
    assert "<p>One &lt;b&gt;&amp;</p><p>Two\nlines</p>" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--practice 10 --trials 40", "has 12 pairs, and this study shows 50, none twice"),
        ("--practice 10 --trials 40", "--practice 2 --trials 10"),
        ("--trials 0", "--trials 0: it is 1 to 10000"),
        ("--seconds 0", "--seconds 0.0: it is 0.05 to 60"),
        ("--seconds nan", "--seconds nan"),
        ("--practice 2 --trials 6 --pool 4", "--pool 4 is too small for --trials 6"),
        ("--practice 2 --trials 6 --max_mb 0.01", "--jpeg 95, or fewer --trials"),
        ("--practice 2 --trials 6 --domain A", "no *_fake_A.png"),
        ("--practice 2 --trials 6 --consent nowhere.txt", "nowhere.txt: No such file"),
    ],
)
def test_studies_that_cannot_be_say_what_to_type(results, tmp_path, words, said):
    assert said in failing("make", results, *words.split(), "--out", tmp_path / "s.html")
    assert not (tmp_path / "s.html").exists()


def test_pairs_of_two_sizes_would_give_the_fake_away(results, tmp_path):
    Image.new("RGB", (25, 16)).save(results / "images/03_real_B.png")
    message = failing("make", results, "--practice", 2, "--trials", 10, "--out", tmp_path / "s.html")
    assert "03_fake_B.png is 24x16 and its real image 25x16, which would give the fake away" in message


def test_help_answers_without_pytorch():
    done = type_command("-X", "importtime", SCRIPT, "make", "--help")
    assert done.returncode == 0
    assert "--practice" in done.stdout
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)


# ---- taking part ----


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser for all tests, and where it downloads to."""
    home = tmp_path_factory.mktemp("browser")
    with browser.open_browser(home) as driver:
        driver.downloads = home / "downloads"
        yield driver


# Notes what a participant who knows red from green sees: in `seen` which side was red, for how long, in which round.
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


def complaints(driver):
    """Return what the console has said, but for what it says of WATCH."""
    return [said for said in browser.complaints(driver) if "willReadFrequently" not in said]


def open_page(driver, results, out, **changed):
    """Make a study, and open its page as a new participant."""
    out.write_text(page(make_study(settings(results, **changed))), encoding="utf-8")
    driver.get(out.as_uri())
    driver.execute_script("sessionStorage.clear()")
    enter(driver, out)


def enter(driver, out):
    """Load the page, anew where it is open, and wait until it is there: the same address alone does not tell."""
    browser.requests(driver), browser.complaints(driver)  # of what was before
    driver.execute_script("window.before = true")
    driver.get(out.as_uri())
    until(driver, "!window.before && document.readyState === 'complete'")
    driver.execute_script(WATCH)


def until(driver, condition, seconds=20):
    """Wait until a script's condition holds."""
    end = time.monotonic() + seconds
    while not driver.execute_script(f"return Boolean({condition})"):
        assert time.monotonic() < end, f"{condition}: {driver.find_element('tag name', 'body').text!r}"
        time.sleep(0.01)


def press(driver, key):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    ActionChains(driver).send_keys(getattr(Keys, key)).perform()


def click(driver, id):
    driver.find_element("id", id).click()


def text(driver, id="question"):
    return driver.find_element("id", id).text


def choose(driver, number, right):
    """Answer a round, rightly or not, by key or by mouse in turn; return the side where the fake was."""
    until(driver, "!document.getElementById('first').disabled")
    assert text(driver) == "Which one was the fake?"
    seen = driver.execute_script("return seen.splice(0)")
    (fake,) = (look["side"] for look in seen if look["red"])
    side = fake if right else ({"first", "second"} - {fake}).pop()
    if number % 2:
        press(driver, {"first": "ARROW_LEFT", "second": "ARROW_RIGHT"}[side])
    else:
        click(driver, side)
    return fake


def practise(driver, rounds, right=True):
    """Begin, and go through the practice to the screen behind it; return the fakes' sides."""
    assert text(driver, "start").startswith("Real or fake?")
    press(driver, "SPACE")
    fakes = []
    for number in range(rounds):
        fakes.append(choose(driver, number, right))
        until(driver, "!document.getElementById('next').hidden")
        place = {"first": "left", "second": "right"}[fakes[-1]]
        assert text(driver) == f"{'Correct' if right else 'No'}: it was the {place} one."
        assert text(driver, fakes[-1]) == "fake"
        press(driver, "SPACE") if number % 2 else click(driver, "next")
    until(driver, "!document.getElementById('between').hidden")
    return fakes


def take_test(driver, rounds, right=True):
    """Go through the test to the end; no feedback may come up. Return the fakes' sides."""
    press(driver, "SPACE")
    driver.execute_script(
        "window.said = []; const node = document.getElementById('question');"
        "new MutationObserver(() => said.push(node.textContent)).observe(node, {childList: true})"
    )
    fakes = [choose(driver, number, right) for number in range(rounds)]
    until(driver, "!document.getElementById('end').hidden")
    assert set(driver.execute_script("return said")) == {"\u00a0", "Which one was the fake?"}
    assert driver.execute_script("return document.querySelectorAll('.was_fake').length") == 0
    return fakes


def download(driver):
    """Save the answers as their participant does; return the file."""
    click(driver, "save")
    name = driver.execute_script("return document.getElementById('save').download")
    file, end = driver.downloads / name, time.monotonic() + 10
    while not file.exists():
        assert time.monotonic() < end, name
        time.sleep(0.05)
    return file


def sum_up(tmp_path, *words):
    typed("summarise", *words, "--json", tmp_path / "out/summary.json", "--bootstrap", 200)
    return json.loads((tmp_path / "out/summary.json").read_text())["studies"]


def test_participants_who_always_see_it_and_never_see_it_come_to_0_and_100_percent(chromium, results, tmp_path):
    out, files, orders = tmp_path / "study.html", [], []
    for right in (True, False):
        open_page(chromium, results, out)
        practised = practise(chromium, 2, right)
        assert not chromium.execute_script("return performance.getEntriesByType('resource').length")
        tested = take_test(chromium, 4, right)
        file = download(chromium)
        assert chromium.find_element("id", "answers").get_property("value") == file.read_text()
        assert {re.match(r"\w+:", address)[0] for address in browser.requests(chromium)} <= {"file:", "blob:"}
        assert complaints(chromium) == []
        data = json.loads(file.read_text())
        assert file.name == f"answers_facades_cGAN_{data['participant']}.json"
        assert [answer["fake"] for answer in data["answers"]] == practised + tested
        assert [answer["use"] for answer in data["answers"]] == ["practice"] * 2 + ["test"] * 4
        assert [answer["by"] for answer in data["answers"]] == ["pointer", "key"] + ["pointer", "key"] * 2
        assert len({answer["pair"] for answer in data["answers"]}) == 6
        assert all(abs(ms - 200) <= 100 for answer in data["answers"] for ms in answer["shown"])
        assert {answer["width"] for answer in data["answers"]} == {256}
        (study,) = sum_up(tmp_path, file, "--tolerance", 1000)
        assert (study["name"], study["rounds"], study["sessions"]) == ("facades_cGAN", 4, 1)
        assert study["labelled_real"] == (0 if right else 1)
        files.append(file)
        orders.append([(answer["pair"], answer["fake"]) for answer in data["answers"]])
    assert orders[0] != orders[1]
    (study,) = sum_up(tmp_path, *files, "--tolerance", 1000)
    assert study["labelled_real"] == 0.5
    assert study["sessions"] == 2
    click(chromium, "another")
    until(chromium, "!document.getElementById('start').hidden")
    known = {json.loads(file.read_text())["participant"] for file in files}
    assert chromium.execute_script("return state.answers.length") == 0
    assert chromium.execute_script("return state.participant") not in known


def test_images_are_shown_for_one_second_as_a_clock_beside_the_page_tells(chromium, results, tmp_path):
    open_page(chromium, results, tmp_path / "s.html", practice=0, trials=1, seconds=1)
    press(chromium, "SPACE")
    until(chromium, "answering")
    seen = chromium.execute_script("return seen")
    press(chromium, "ARROW_UP")
    until(chromium, "!document.getElementById('end').hidden")
    (answer,) = json.loads(download(chromium).read_text())["answers"]
    assert answer["shown"] == pytest.approx([1000, 1000], abs=50)
    assert [look["ms"] for look in seen] == pytest.approx(answer["shown"], abs=60)
    assert answer["chosen"] == "first"


def test_in_turn_the_second_image_comes_when_the_first_has_gone(chromium, results, tmp_path):
    open_page(chromium, results, tmp_path / "s.html", practice=0, trials=1, in_turn=True)
    assert "0.2 seconds each, one after the other" in text(chromium, "start")
    press(chromium, "SPACE")
    until(chromium, "answering")
    seen = chromium.execute_script("return seen")
    assert [look["side"] for look in seen] == ["first", "second"]
    assert seen[1]["begin"] >= seen[0]["begin"] + seen[0]["ms"] - 1
    assert [look["ms"] for look in seen] == pytest.approx([200, 200], abs=100)


def test_what_can_be_seen_of_the_page_tells_neither_names_nor_fakes(chromium, results, tmp_path):
    open_page(chromium, results, tmp_path / "s.html")
    press(chromium, "SPACE")
    forms = set()
    for number in range(2):
        until(chromium, "document.querySelector('.shown')")
        script = """const copy = document.getElementById("trial").cloneNode(true);
            copy.querySelector("#pair").removeAttribute("style"); return copy.outerHTML"""
        forms.add(chromium.execute_script(script))
        choose(chromium, number, True)
        click(chromium, "next")
    assert len(forms) == 1  # whatever the side of the fake, and whatever the pair
    labels = re.findall(r'aria-label="(.*?)"', forms.pop())
    assert labels == [
        *("The first image was the fake", "first image"),
        *("The second image was the fake", "second image"),
    ]


def test_keys_that_are_held_or_come_too_early_answer_nothing(chromium, results, tmp_path):
    open_page(chromium, results, tmp_path / "s.html", practice=0)
    press(chromium, "SPACE")
    until(chromium, "document.querySelector('.shown')")
    press(chromium, "ARROW_LEFT")
    until(chromium, "answering")
    chromium.execute_script(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', repeat: true, bubbles: true}))"
    )
    assert chromium.execute_script("return state.answers.length") == 0


def test_a_page_that_is_loaded_again_goes_on_and_drops_the_round_that_was_cut(chromium, results, tmp_path):
    out = tmp_path / "s.html"
    open_page(chromium, results, out, seconds=0.8)  # long enough to load the page again meanwhile
    practise(chromium, 2)
    enter(chromium, out)
    until(chromium, "!document.getElementById('between').hidden")
    assert text(chromium, "between").startswith("That was the practice.\n4 rounds to go.")
    before = chromium.execute_script("return [state.participant, plan.map((round) => round.pair.name)]")
    press(chromium, "SPACE")
    choose(chromium, 0, False)
    until(chromium, "document.querySelector('.shown')")
    enter(chromium, out)
    assert text(chromium, "begin") == "Go on"
    assert chromium.execute_script("return [state.participant, plan.map((round) => round.pair.name)]") == before
    take_test(chromium, 2, False)
    enter(chromium, out)  # the answers are still there
    data = json.loads(download(chromium).read_text())
    assert [answer["chosen"] is None for answer in data["answers"]] == [False] * 3 + [True] + [False] * 2
    (study,) = sum_up(tmp_path, chromium.downloads / f"answers_facades_cGAN_{before[0]}.json")
    (reason,) = study["sessions_left_out"].values()
    assert reason == "in 1 of 4 rounds images were not shown for 800 ms within 100"


def test_a_page_that_is_covered_hides_its_images_and_says_for_how_long_they_were_seen(chromium, results, tmp_path):
    open_page(chromium, results, tmp_path / "s.html", practice=0, trials=1, seconds=5)
    press(chromium, "SPACE")
    until(chromium, "document.querySelector('.shown')")
    cover = "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
    chromium.execute_script(f"{cover} document.dispatchEvent(new Event('visibilitychange'))", True)
    until(chromium, "answering", 2)
    press(chromium, "ARROW_LEFT")
    until(chromium, "!document.getElementById('end').hidden")
    assert all(ms < 3000 for ms in chromium.execute_script("return state.answers[0].shown"))


def test_draws_are_even_repeat_no_pair_and_follow_from_the_seed(chromium, results, tmp_path):
    open_page(chromium, results, tmp_path / "s.html", practice=2, trials=4, pool=8, vigilance=2)
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
    opening = np.unique([rounds[2][0] for rounds in sessions], return_counts=True)[1]
    assert len(opening) == 10  # any pair may come first, the scrambled ones too
    assert opening.min() > 15


def test_hostile_names_are_shown_and_run_nothing(chromium, tmp_path):
    results = write_results(tmp_path / "x/test_latest", HOSTILE)
    name = "</script><script>hacked()</script><img src=x onerror=hacked()>"
    out, consent = tmp_path / "study.html", tmp_path / "consent.txt"
    consent.write_text(name)
    words = f"--practice 1 --trials {len(HOSTILE) - 1} --seconds 0.05".split()
    typed("make", results, *words, "--out", out, "--name", name, "--consent", consent)
    chromium.get(out.as_uri())
    enter(chromium, out)
    assert name in text(chromium, "start")
    chromium.execute_script("window.hacked = () => { window.was_hacked = true; }")
    practise(chromium, 1)
    take_test(chromium, len(HOSTILE) - 1)
    file = download(chromium)
    assert re.fullmatch(r"answers_[A-Za-z0-9._-]+\.json", file.name)
    data = json.loads(file.read_text())
    assert data["study"]["name"] == name
    assert {answer["pair"] for answer in data["answers"]} == set(HOSTILE)
    assert not chromium.execute_script("return window.was_hacked")
    assert complaints(chromium) == []
    assert "onerror=hacked()>" in typed("summarise", file, "--tolerance", 1000)


# ---- summing up ----


def answers(participant, fooled, study=None, **changed):
    """Make a file's content: `fooled` says for each test round whether the fake was taken for real, or is None."""
    rounds = {"practice": 1, "test": len(fooled), "vigilance": 0}
    study = {
        "id": "ab" * 8,
        "name": "cGAN",
        "seconds": 1,
        "in_turn": False,
        "jpeg": None,
        "rounds": rounds,
        **(study or {}),
    }
    shown = {"shown": [1000.1, 1000.1], "width": 256, "took": 700, "by": "key"}
    listed = [{"pair": "p", "use": "practice", "fake": "first", "chosen": "second", **shown}]
    for i, was in enumerate(fooled):
        fake = ("first", "second")[i % 2]
        chosen = None if was is None else fake if not was else ("second", "first")[i % 2]
        listed.append({"pair": f"i{i}", "use": "test", "fake": fake, "chosen": chosen, **shown})
    window = {"width": 800, "height": 600, "pixel_ratio": 1, "upright": False}
    return {
        "format": "real_or_fake 1",
        "study": study,
        "participant": f"{participant:016x}",
        "seed": "0" * 32,
        "window": window,
        "answers": listed,
        **changed,
    }


def save(folder, *contents):
    folder.mkdir(exist_ok=True)
    for i, content in enumerate(contents):
        (folder / f"{i:03d}.json").write_text(json.dumps(content))
    return folder


def test_the_share_is_exact_and_the_practice_does_not_count(tmp_path):
    """7 of 20 rounds: 3 of 10 and 4 of 10."""
    folder = save(tmp_path / "a", answers(1, [1, 0] * 3 + [0] * 4), answers(2, [1, 1, 1, 1] + [0] * 6))
    (study,) = sum_up(tmp_path, folder)
    assert (study["sessions"], study["rounds"], study["labelled_real"]) == (2, 20, 0.35)
    assert study["pairs"]["i0"] == {"rounds": 2, "labelled_real": 1}
    assert study["pairs"]["i1"] == {"rounds": 2, "labelled_real": 0.5}
    assert "p" not in study["pairs"]
    assert study["intervals"]["participants"] == {"low": pytest.approx(0.3), "high": pytest.approx(0.4)}
    text = typed("summarise", folder)
    assert re.search(r"cGAN \(ababab\) +2 +20 +35\.0 % +30\.0 to 40\.0 ", text)
    assert "most often taken for real: i0 (100 % of 2), i2 (100 % of 2), i1 (50 % of 2)" in text
    assert "least often taken for real: i9 (0 % of 2)" in text


def test_intervals_are_those_of_a_bootstrap_that_is_done_by_hand():
    rng = np.random.default_rng(0)
    fooled = rng.binomial(40, rng.beta(4, 8, 30))
    tallies = np.stack([fooled, np.full(30, 40)], axis=1)
    rounds = [np.arange(40) < k for k in fooled]
    outer, inner = [], []
    for _ in range(3000):
        drawn = rng.integers(30, size=30)
        outer.append(fooled[drawn].sum() / 1200)
        inner.append(np.mean([rounds[i][rng.integers(40, size=40)] for i in drawn]))
    found = intervals(tallies, 3000, 1)["intervals"]
    for name, draws in (("participants", outer), ("participants_and_rounds", inner)):
        expected = np.percentile(draws, [2.5, 97.5])
        assert [found[name]["low"], found[name]["high"]] == pytest.approx(expected, abs=0.008)
        assert found[name]["low"] < fooled.sum() / 1200 < found[name]["high"]
    assert np.std(inner) > np.std(outer)
    assert intervals(tallies, 3000, 1) == intervals(tallies, 3000, 1)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Of 200 studies with 30 participants each, whose true share is 1/3, about 95 % of the intervals hold it."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        tallies = np.stack([rng.binomial(40, rng.beta(4, 8, 30)), np.full(30, 40)], axis=1)
        ends = intervals(tallies, 200, 0)["intervals"]["participants"]
        covered += ends["low"] <= 1 / 3 <= ends["high"]
    assert 0.88 <= covered / 200 <= 0.99


def test_one_participant_alone_has_no_interval_over_participants(tmp_path):
    (study,) = sum_up(tmp_path, save(tmp_path / "a", answers(1, [1, 0, 0, 0])))
    assert study["intervals"]["participants"] is None
    ends = study["intervals"]["participants_and_rounds"]
    assert ends["low"] <= 0.25 <= ends["high"]


def test_sessions_that_cannot_count_are_left_out_with_their_reasons(tmp_path):
    short, unseen, slow, blind = (answers(i, [1] * 20) for i in range(2, 6))
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
    (study,) = sum_up(tmp_path, save(tmp_path / "a", answers(1, [0] * 20), short, unseen, slow))
    assert list(study["sessions_left_out"].values()) == [
        "incomplete: 20 of 21 rounds",
        "in 3 of 20 rounds images were not shown for 1000 ms within 100",
    ]
    assert (study["sessions"], study["rounds"], study["rounds_left_out"]) == (2, 38, 2)
    assert study["labelled_real"] == 18 / 38
    (study,) = sum_up(tmp_path, tmp_path / "a", "--tolerance", 101)
    assert (study["sessions"], study["rounds"]) == (3, 60)
    (study,) = sum_up(tmp_path, save(tmp_path / "b", blind, awake))
    assert list(study["sessions_left_out"].values()) == ["not vigilant: 2 of 4 scrambled images were found"]
    assert (study["sessions"], study["rounds"], study["labelled_real"]) == (1, 4, 0)  # scrambled ones do not count


def test_a_study_without_usable_sessions_has_no_share(tmp_path):
    content = answers(1, [1] * 4)
    content["answers"].pop()
    folder = save(tmp_path / "a", content)
    assert sum_up(tmp_path, folder)[0]["labelled_real"] is None
    assert re.search(r"cGAN \(ababab\) +0 +0 +- +- +-", typed("summarise", folder))


def test_answers_to_several_pages_are_refused_unless_a_line_for_each_is_asked_for(tmp_path):
    other = {"id": "cd" * 8, "name": "L1"}
    folder = save(tmp_path / "a", answers(1, [1] * 4), answers(2, [0] * 4, other), answers(3, [0] * 4, other))
    message = failing("summarise", folder)
    assert "answers to 2 pages; --mixed makes a line for each" in message
    assert f"{'cd' * 8}  L1, 2 sessions" in message
    found = sum_up(tmp_path, folder, "--mixed")
    assert [(s["name"], s["sessions"], s["labelled_real"]) for s in found] == [("L1", 2, 0), ("cGAN", 1, 1)]
    cheated = answers(4, [0] * 4)
    cheated["study"]["seconds"] = 2
    assert "answers to 2 pages" in failing("summarise", save(tmp_path / "b", answers(1, [1] * 4), cheated))


def test_copies_count_once_and_two_answers_of_one_participant_are_an_error(tmp_path):
    folder = save(tmp_path / "a", answers(1, [1] * 4), answers(1, [1] * 4), answers(2, [0] * 4))
    assert re.search(r"001\.json is a copy of .*000\.json: counted once", typed("summarise", folder))
    assert sum_up(tmp_path, folder)[0]["labelled_real"] == 0.5
    save(folder, answers(1, [0] * 4))
    assert "different answers of one participant" in failing("summarise", folder)


def changed(path, value):
    """Return answers in which one place holds another value, or is missing."""
    content = answers(1, [1, 0])
    *way, last = path
    place = content
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], 'no "format"'),
        ("text", 'no "format"'),
        (changed(["format"], "real_or_fake 2"), 'no "format"'),
        (changed(["extra"], 1), "keys are missing or too many"),
        (changed(["seed"], None), "keys are missing or too many"),
        (changed(["participant"], "x"), "participant is not of 16 hexadecimal digits"),
        (changed(["participant"], 5), "participant is not of 16 hexadecimal digits"),
        (changed(["study"], 3), "study: keys"),
        (changed(["study", "rounds"], [1]), "study: rounds"),
        (changed(["study", "rounds", "test"], 2.5), "study: rounds"),
        (changed(["study", "rounds", "test"], 1), "more rounds than the study has"),
        (changed(["study", "seconds"], True), "study: seconds"),
        (changed(["answers"], {}), "answers are no list"),
        (changed(["answers", 1], None), ""),
        (changed(["answers", 1, "fake"], "left"), "round 2: fake is no side"),
        (changed(["answers", 1, "chosen"], 0), "round 2: chosen is no side"),
        (changed(["answers", 1, "use"], ["test"]), "round 2: use is unknown"),
        (changed(["answers", 2, "shown"], [1000]), "round 3: shown is no two times"),
        (changed(["answers", 2, "shown"], [1000, "1000"]), "round 3: shown is no two times"),
        (changed(["answers", 2, "shown"], [1000, float("inf")]), "Infinity is no number"),
        (changed(["answers", 2, "took"], -1), "round 3: took is no time"),
        (changed(["answers", 2, "pair"], "i0"), "a pair comes twice"),
        (changed(["answers", 2, "pair"], {}), "round 3: pair is no text"),
    ],
)
def test_what_the_page_would_not_have_written_is_refused_with_its_place(tmp_path, content, said):
    file = save(tmp_path / "a", content) / "000.json"
    if not said:
        assert len(read_session(file).answers) == 2  # a round less is well formed: incomplete
        return
    with pytest.raises(UserError) as error:
        read_session(file)
    assert str(error.value).startswith(f"{file} holds no answers of a page of real_or_fake.py: ")
    assert said in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"format": NaN}'])
def test_files_that_are_no_json_are_named(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    assert f"{tmp_path / 'x.json'} holds no answers" in failing("summarise", tmp_path / "x.json")


def test_a_folder_without_answers_and_a_file_that_is_not_there_are_errors(tmp_path):
    assert f"no answers in {tmp_path}" in failing("summarise", tmp_path)
    (tmp_path / "evaluation.json").write_text('{"of": "something else"}')
    assert f"no answers in {tmp_path}" in failing("summarise", tmp_path)
    assert "nowhere.json: No such file" in failing("summarise", tmp_path / "nowhere.json")
    assert "--bootstrap, --seed and --tolerance" in failing("summarise", tmp_path, "--tolerance", "nan")
