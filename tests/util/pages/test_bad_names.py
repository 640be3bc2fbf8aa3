"""Files and experiments of any name: trained on, translated, and shown on the pages, where nothing runs."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from conftest import make_image
from html_page import Page
from terminal import TINY, copy_tree, loss_lines, shown_rows, table, type_fast

from util.errors import printable

RUNS = "document.title=document.body.id='executed'"
NAMES = [  # of image files, without what `Path` or the file system forbid: a slash, a zero byte, more than 255 bytes
    *("a b", " leads", "trails ", "ünï 東京", "e\u0301", "\u202egnp.exe", "\u200bzero width", "🦓\u200d♀️", "con"),
    *('it\'s "quoted"', "a & b &amp; c", "50%25 100%", "#top?x=1", "a,b;c", "{{x}}", "{0}", "%s", "*?[a]", "~"),
    *(f"<img src=x onerror={RUNS}>", f"<script>{RUNS}<_script>", f'" onload="{RUNS}', "<!--rows-->"),
    *("line\nbreak", "tab\there", "return\rhome", "\x1b[31mred", "bell\a", "\x7f", "a\u2028b", "]]>", "--name", "-rf"),
    *("back\\slash", "$HOME`id`$(id)", "data.js", "..a", "a..", "n" * 245, "é" * 122, os.fsdecode(b"\xff\xfe\x80")),
]
NAMES = [name.lstrip(".") for name in NAMES]  # hidden files are no data
EXPERIMENTS = ["../beside/b c", "-x\nbreak" + os.fsdecode(b"\xff\xfe\x80")]
HOSTILE = f"<img src=x onerror={RUNS}>"  # the name of an experiment
SHORT = f"{TINY} --netG resnet_6blocks --n_epochs 1 --n_epochs_decay 0 --print_freq 1"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The program, and pairs of all names; some are in folders with the same names."""
    tree = copy_tree(tmp_path_factory.mktemp("tree"))
    for i, name in enumerate(NAMES):
        for phase in ("train", "test"):
            make_image(tree / f"pairs/{phase}/{folder_of(i)}{name}.png", 64, 32, seed=i)
    return tree


def folder_of(i):
    return f"{NAMES[i][:100]}/" if i % 8 == 0 else ""


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


@pytest.fixture(scope="module")
def trained(tree):
    """The experiment HOSTILE, trained and tested on all images; no name has broken a line."""
    words = f"--dataroot pairs --name {shlex.quote(HOSTILE)}"
    said = type_cleanly(f"train.py {words} --model pix2pix {SHORT} --display_freq 10 --update_html_freq 10", tree)
    assert len(loss_lines(said)) == len(NAMES)
    assert len(table(tree / "checkpoints" / HOSTILE / "metrics.csv")) == len(NAMES)
    said = type_cleanly(f"test.py {words} --num_test inf --gpu_ids -1", tree)
    assert len([line for line in said.splitlines() if line.startswith("processing (")]) == -(-len(NAMES) // 5)


def test_images_of_any_name_are_trained_on_translated_and_shown(tree, trained):
    web_dir = tree / "results" / HOSTILE / "test_latest"
    assert len(results(web_dir)) == 3 * len(NAMES)
    shown = [f"{folder_of(i)}{name}.png" for i, name in enumerate(NAMES)]
    # As they are, except bytes that are not UTF-8.
    assert sorted(name for name, _ in shown_rows(web_dir)) == sorted(n.encode(errors="replace").decode() for n in shown)


@pytest.mark.parametrize("name", EXPERIMENTS, ids=ascii)
def test_an_experiment_of_any_name_is_trained_and_tested(tree, name):
    for phase in ("train", "test"):
        make_image(tree / "short" / phase / "1.png", 64, 32)
    words = f"--dataroot short --name={shlex.quote(name)}"
    type_cleanly(f"train.py {words} --model pix2pix {SHORT}", tree)
    folder = tree / "checkpoints" / name
    assert json.loads((folder / "train_opt.json").read_text())["name"] == name
    assert f" name: {printable(name)}" in (folder / "train_opt.txt").read_text(encoding="utf-8")
    type_cleanly(f"test.py {words} --gpu_ids -1", tree)
    results(tree / "results" / name / "test_latest")


def test_names_in_messages_take_one_line_and_cannot_command_the_terminal(tree):
    name = "line\nbreak \x1b[2J" + os.fsdecode(b"\xff")
    root = tree / "broken" / "train"
    root.mkdir(parents=True)
    (root / f"{name}.png").write_bytes(b"")
    done = type_fast(f"train.py --dataroot broken --model pix2pix --name m {SHORT}", tree)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == f"error: cannot read broken/train/{ascii(name)[1:-1]}.png: it is empty."


def test_an_ascii_terminal_stops_nothing(tree, trained):
    (tree / "narrow.py").write_text(
        "import io, runpy, sys\n"
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='ascii')\n"
        "runpy.run_path('test.py', run_name='__main__')\n"
    )
    words = f"--dataroot pairs --name {shlex.quote(HOSTILE)} --results_dir ünï --gpu_ids -1 --num_test 1"
    assert r"\xfcn\xef" in type_cleanly(f"narrow.py {words}", tree)
