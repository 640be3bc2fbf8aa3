"""The download scripts as users type them, against a server on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from file_server import PAGE, Served, tar_of, zip_of

from util.download import published

CYCLEGAN, PIX2PIX = "datasets/download_cyclegan_dataset.sh", "datasets/download_pix2pix_dataset.sh"
CYCLEGAN_MODEL, PIX2PIX_MODEL = "scripts/download_cyclegan_model.sh", "scripts/download_pix2pix_model.sh"
FCN8S = "scripts/eval_cityscapes/download_fcn8s.sh"
FCN8S_FILE = "scripts/eval_cityscapes/caffemodel/fcn-8s-cityscapes.caffemodel"

MAPS = zip_of({"maps/trainA/1.jpg": os.urandom(50_000), "maps/testA/3.jpg": b"ours"})
WEIGHTS = zip_of({"archive/data.pkl": b"pickle", "archive/data/0": os.urandom(20_000)})
OLD_WEIGHTS = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + os.urandom(2_000)
CAFFEMODEL = b"\x0a\x03FCN" + b"layers" * 99


@pytest.fixture
def house(tmp_path):
    """A repository with the download scripts alone, so that nothing lands in the real one."""
    house = tmp_path / "a house"
    names = ("__init__", "runtime/__init__", "runtime/file_kinds")
    names += ("download/__init__", "download/transfer", "download/archive", "download/published")
    modules = [f"util/{name}.py" for name in names]
    for name in [CYCLEGAN, PIX2PIX, CYCLEGAN_MODEL, PIX2PIX_MODEL, FCN8S, *modules]:
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, house / name)
    return house


@pytest.fixture
def command(house, server):
    """`command(script, name)`: the words and settings with which a user's shell runs a script from another folder.

    Its Python has no packages, as before anything is installed.
    """
    python = house.parent / "bin/python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -B "$@"\n')
    python.chmod(0o755)
    env = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", "BASE_URL": server.url, "STALL_SECONDS": "9"}
    env.pop("PYTHON", None)

    def command(script, *names):
        return {"args": ["bash", house / script, *names], "cwd": house.parent, "env": env | {"no_proxy": "127.0.0.1"}}

    return command


@pytest.fixture
def fetch(command):
    return lambda *words: subprocess.run(**command(*words), capture_output=True, text=True, timeout=60, check=False)


def test_every_script_puts_its_file_where_users_look_for_it_and_keeps_what_is_there(house, server, fetch):
    server.files = {
        "/maps.zip": Served(MAPS),
        "/night2day.tar.gz": Served(tar_of({"night2day/train/1.jpg": b"pair"})),
        "/horse2zebra.pth": Served(WEIGHTS),
        "/day2night.pth": Served(OLD_WEIGHTS),
        "/fcn-8s-cityscapes.caffemodel": Served(CAFFEMODEL),
    }
    for script, names, file, content in (
        (CYCLEGAN, ["maps"], "datasets/maps/testA/3.jpg", b"ours"),
        (PIX2PIX, ["night2day"], "datasets/night2day/train/1.jpg", b"pair"),
        (CYCLEGAN_MODEL, ["horse2zebra"], "checkpoints/horse2zebra_pretrained/latest_net_G.pth", WEIGHTS),
        (PIX2PIX_MODEL, ["day2night"], "checkpoints/day2night_pretrained/latest_net_G.pth", OLD_WEIGHTS),
        (FCN8S, [], FCN8S_FILE, CAFFEMODEL),
    ):
        done = fetch(script, *names)
        assert (done.returncode, done.stderr) == (0, "")
        assert (house / file).read_bytes() == content
        if names:
            assert re.search(r"next: python (train|test)\.py --dataroot .* --name", done.stdout)
        (house / file).write_bytes(b"mine")
        done = fetch(script, *names)
        assert (done.returncode, "is there already" in done.stdout) == (0, True)
        assert (house / file).read_bytes() == b"mine"
    assert not [path for path in house.rglob("*") if "part" in path.suffix or "unpacking" in path.name]


def test_a_wrong_or_missing_name_lists_the_right_ones(monkeypatch, capsys):
    for kind, (_, _, names) in published.KINDS.items():
        typed = [["--help"], ["../maps"], ["maps2"], ["horse2zebra", "maps"], [""], *([[]] if kind != "fcn8s" else [])]
        for words in typed:
            with pytest.raises(SystemExit) as stopped:
                published.main(kind, *words)
            assert stopped.value.code.split() == names.split()
            script = capsys.readouterr().err.split("usage: bash ")[1].split()[0]
            assert (ROOT / script.replace("scripts/download_fcn8s", "scripts/eval_cityscapes/download_fcn8s")).is_file()


def test_cityscapes_says_how_to_get_it(house, fetch):
    done = fetch(CYCLEGAN, "cityscapes")
    assert done.returncode == 1
    assert "prepare_cityscapes_dataset.py --gtFine_dir" in done.stdout
    assert sorted(path.name for path in (house / "datasets").iterdir()) == [Path(CYCLEGAN).name, Path(PIX2PIX).name]


def test_files_of_both_papers_under_one_name_are_not_confused(house, server, fetch):
    server.files = {
        "/maps.zip": Served(MAPS),
        "/maps.tar.gz": Served(tar_of({"maps/train/1.jpg": b"pair", "maps/testA/3.jpg": b"clash"})),
        "/sat2map.pth": Served(WEIGHTS),
    }
    for script, name in ((CYCLEGAN, "maps"), (PIX2PIX, "maps"), (CYCLEGAN_MODEL, "sat2map")):
        assert fetch(script, name).returncode == 0
    assert (house / "datasets/maps/train/1.jpg").read_bytes() == b"pair"
    assert (house / "datasets/maps/testA/3.jpg").read_bytes() == b"ours"
    done = fetch(PIX2PIX_MODEL, "sat2map")
    assert (done.returncode, "is another network (cyclegan)" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    "data", [PAGE, b"\n" + PAGE, b"", b"text", WEIGHTS[:-30], WEIGHTS[:900] + b"!" + WEIGHTS[901:]]
)
def test_what_is_no_network_is_an_error_and_leaves_nothing(server, tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BASE_URL", server.url)
    server.files = dict.fromkeys(("/sat2map.pth", "/fcn-8s-cityscapes.caffemodel"), Served(data))
    for words in (["cyclegan_model", "sat2map"], ["pix2pix_model", "sat2map"], ["fcn8s"]):
        with pytest.raises(published.DownloadError, match="is not usable and was removed"):
            published.main(*words)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
