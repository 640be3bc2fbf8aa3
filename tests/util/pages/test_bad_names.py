"""Files and experiments of any name: trained on, translated, and shown on the pages, where nothing runs."""

from __future__ import annotations

import csv
import json
import os
import shlex
import time
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from browser import open_browser
from conftest import make_image
from terminal import TINY, copy_tree, loss_lines, shown_rows, type_fast
from test_html import Page

from util.errors import printable
from util.loggers.visuals import ascii_only

RUNS = "document.title=document.body.id='executed'"
NAMES = [  # of image files, without what `Path` or the file system forbid: a slash, a zero byte, more than 255 bytes
    *("a b", " leads", "trails ", "ünï 東京", "e\u0301", "\u202egnp.exe", "\u200bzero width", "🦓\u200d♀️", "con"),
    *(
        'it\'s "quoted"',
        "a & b &amp; c",
        "50%25 100%",
        "%2e%2e",
        "#top?x=1",
        "a,b;c",
        "{{x}}",
        "{0}",
        "%s",
        "*?[a]",
        "~",
    ),
    *(
        f"<img src=x onerror={RUNS}>",
        f"<script>{RUNS}<_script>",
        f'" onload="{RUNS}',
        f"javascript:{RUNS}",
        "<!--rows-->",
    ),
    *("line\nbreak", "tab\there", "return\rhome", "\x1b[31mred", "bell\a", "\x7f", "a\u2028b", "]]>", "--name", "-rf"),
    *("back\\slash", "$HOME`id`$(id)", "data.js", "..a", "a..", "n" * 245, "é" * 122, os.fsdecode(b"\xff\xfe\x80")),
]
NAMES = [name.lstrip(".") for name in NAMES]  # hidden files are no data
EXPERIMENTS = [
    "a/b c",
    "../beside",
    "...",
    "-x",
    "line\nbreak",
    "\u202e🦓 %s {0}",
    os.fsdecode(b"\xff\xfe\x80"),
    "n" * 240,
]
SHORT = f"{TINY} --netG resnet_6blocks --n_epochs 1 --n_epochs_decay 0 --print_freq 1"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The program, and images of all names: pairs, both domains, and some in folders that are called so, too."""
    tree = copy_tree(tmp_path_factory.mktemp("tree"))
    for i, name in enumerate(NAMES):
        for phase in ("train", "test"):
            inner = f"{name[:100]}/" if i % 8 == 0 else ""
            make_image(tree / f"pairs/{phase}/{inner}{name}.png", 64, 32, seed=i)
            for side in "AB":
                make_image(tree / f"two/{phase}{side}/{inner}{name}.png", 32, 32, seed=i + 100 * (side == "B"))
    return tree


def type_cleanly(command: str, tree: Path) -> str:
    """Type a command, see it succeed without a word on stderr, and return what it wrote to stdout."""
    done = type_fast(command, tree)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def results(web_dir: Path) -> list[Path]:
    """The images of a page; each address on it is that of a file, and nothing on it is a script."""
    page = Page(web_dir)
    assert page.all("script") == [{}, {}]  # the viewer and the page, without an address
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert not page.all("img")
    for link in page.all("a"):  # to the training page
        assert os.path.isfile(os.fsencode(web_dir) + b"/" + unquote_to_bytes(link["href"]))  # noqa: PTH113 - bytes
    addresses = [address for _, images in shown_rows(web_dir) for address in images]
    found = {os.fsencode(web_dir) + b"/" + unquote_to_bytes(address) for address in addresses}
    files = {os.fsencode(file) for file in (web_dir / "images").iterdir()}
    assert found == files
    return sorted((web_dir / "images").iterdir())


HOSTILE = f"<img src=x onerror={RUNS}>"  # the name of an experiment


def train_and_test(tree: Path, model: str, root: str, name: str) -> None:
    """Train on all images of a folder and translate them, and see that no name has broken a line."""
    words = f"--dataroot {root} --name {shlex.quote(name)}"
    said = type_cleanly(f"train.py {words} --model {model} {SHORT} --display_freq 10 --update_html_freq 10", tree)
    assert len(loss_lines(said)) == len(NAMES)
    with (tree / "checkpoints" / name / "metrics.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(NAMES)
    said = type_cleanly(f"test.py {words} --num_test inf --gpu_ids -1", tree)
    assert len([line for line in said.splitlines() if line.startswith("processing (")]) == -(-len(NAMES) // 5)


@pytest.fixture(scope="module")
def pairs(tree):
    """The experiment HOSTILE, trained and tested on the pairs."""
    train_and_test(tree, "pix2pix", "pairs", HOSTILE)


@pytest.mark.parametrize(
    ("model", "root", "labels"), [("pix2pix", "pairs", 3), ("pix2pix", "two", 3), ("cycle_gan", "two", 6)]
)
def test_images_of_any_name_are_trained_on_translated_and_shown(tree, pairs, model, root, labels):
    name = HOSTILE if root == "pairs" else model
    if name != HOSTILE:
        train_and_test(tree, model, root, name)
    web_dir = tree / "results" / name / "test_latest"
    assert len(results(web_dir)) == labels * len(NAMES)
    folders = [f"{name[:100]}/" if i % 8 == 0 else "" for i, name in enumerate(NAMES)]
    shown = [f"{folder}{name}.png" for folder, name in zip(folders, NAMES, strict=True)]
    # As they are, but for bytes that are no UTF-8.
    assert sorted(name for name, _ in shown_rows(web_dir)) == sorted(n.encode(errors="replace").decode() for n in shown)


def test_single_images_of_any_name_are_translated(tree, pairs):
    name = shlex.quote(HOSTILE)
    type_cleanly(f"test.py --dataroot two/testA --model test --name {name} --num_test inf --gpu_ids -1 --epoch 1", tree)
    assert len(results(tree / "results" / HOSTILE / "test_1")) == 2 * len(NAMES)


@pytest.mark.parametrize("name", EXPERIMENTS, ids=ascii)
def test_an_experiment_of_any_name_is_trained_goes_on_and_is_tested(tree, name):
    (tree / "short").mkdir(exist_ok=True)
    root = tree / "short" / name.replace("/", "_").replace("..", "_")
    (root / "train").mkdir(parents=True, exist_ok=True)
    make_image(root / "train/1.png", 64, 32)
    words = f"--dataroot {shlex.quote(str(root.relative_to(tree)))} --name={shlex.quote(name)}"
    type_cleanly(f"train.py {words} --model pix2pix {SHORT}", tree)
    folder = tree / "checkpoints" / name
    assert json.loads((folder / "train_opt.json").read_text())["name"] == name
    assert f" name: {printable(name)}" in (folder / "train_opt.txt").read_text(encoding="utf-8")
    done = type_fast(f"test.py {words} --phase train --gpu_ids -1", tree)
    assert (done.returncode, done.stderr) == (0, "")
    results(tree / "results" / name / "train_latest")


def test_names_in_messages_take_one_line_and_cannot_command_the_terminal(tree):
    for name in ("line\nbreak", "\x1b[2J", "\u202egnp", os.fsdecode(b"\xff")):
        root = tree / "broken" / ascii(name)
        (root / "train").mkdir(parents=True)
        (root / "train" / f"{name}.png").write_bytes(b"")
        done = type_fast(
            f"train.py --dataroot {shlex.quote(f'broken/{name!a}')} --model pix2pix --name m {SHORT}", tree
        )
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last == f"error: cannot read broken/{name!a}/train/{ascii(name)[1:-1]}.png: it is empty."
    said = type_fast("train.py --dataroot two/testA --model cycle_gan --name m", tree).stderr.splitlines()
    assert said[-1].startswith("error: two/testA/trainA is not there")  # and then what is there instead
    assert all(line.isprintable() for line in said)


def test_names_are_made_printable():
    assert printable("a\nb\x1b[2J\u202eé東🦓\udcff 'x'") == "a\\nb\\x1b[2J\\u202eé東🦓\\udcff 'x'"
    assert ascii_only("a\nbé~ ") == "a?b?~ "


def test_a_terminal_that_shows_ascii_alone_ends_nothing(tree, pairs):
    (tree / "narrow.py").write_text(
        "import io, runpy, sys\n"
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='ascii')\n"
        "runpy.run_path('test.py', run_name='__main__')\n"
    )
    words = f"--dataroot two/testA --model test --name {shlex.quote(HOSTILE)} --results_dir ünï --gpu_ids -1"
    assert r"\xfcn\xef" in type_cleanly(f"narrow.py {words}", tree)


# ---- a browser ----


def test_in_a_browser_the_results_of_all_names_are_shown_and_none_is_executed(tree, pairs, tmp_path):
    widths = {}
    with open_browser(tmp_path) as driver:
        driver.get((tree / "results" / HOSTILE / "test_latest/index.html").as_uri())
        for _ in range(200):  # no more rows are in the document than are seen
            time.sleep(0.3)
            script = "return [...document.images].map((image) => [image.src, image.naturalWidth])"
            widths |= {address: width for address, width in driver.execute_script(script) if width}
            driver.execute_script("scrollBy(0, 900)")
            if len(widths) == 3 * len(NAMES):
                break
        assert list(widths.values()) == [32] * 3 * len(NAMES)
        assert driver.title == f"Experiment = {HOSTILE}, Phase = test, Epoch = latest"
        assert driver.find_element("tag name", "h1").text.startswith(HOSTILE)
        assert driver.execute_script("return document.body.id + document.scripts.length") == "2"


def test_in_a_browser_the_training_page_loads_its_images_and_executes_no_name(tree, pairs, tmp_path):
    shown = set()
    with open_browser(tmp_path) as driver:
        driver.get((tree / "checkpoints" / HOSTILE / "web/index.html").as_uri())
        for step in range(200):
            time.sleep(0.1)
            driver.execute_script("if (loaded) scrubTo(arguments[0])", step % (len(NAMES) // 10))
            script = (
                "return [...document.querySelectorAll('.viewer img')].map((image) => [image.src, image.naturalWidth])"
            )
            shown |= {address for address, width in driver.execute_script(script) if width == 32}
            if len(shown) == 3 * (len(NAMES) // 10):
                break
        assert len(shown) == 3 * (len(NAMES) // 10)
        assert driver.title.startswith("100% <")
        assert driver.find_element("tag name", "h1").text == f"{HOSTILE} training"
        assert driver.execute_script("return document.body.id + document.scripts.length") == "2"
