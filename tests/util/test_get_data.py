"""GetData: datasets fetched from Python, with the server's list."""

from __future__ import annotations

import builtins
import re
from pathlib import Path

import pytest
from file_server import PAGE, Served, tar_of, zip_of

from util.errors import UserError
from util.get_data import GetData

LIST = b"""<html><body><table><tr><td><a href="?C=N;O=D">Name</a></td></tr>
<a href="/cyclegan/">Parent Directory</a> <a href="../../evil.zip.exe">no</a> <a href="maps.zip">maps.zip</a>
<a href="/cyclegan/datasets/mini.tar.gz">mini</a> <a name="x">y</a></table></body></html>"""
MAPS = zip_of({"maps/trainA/1.jpg": b"A" * 999, "maps/trainB/2.jpg": b"B"})


@pytest.fixture
def mirror(server, monkeypatch):
    monkeypatch.setenv("BASE_URL", server.url)
    mini = Served(tar_of({"mini/a.jpg": b"a"}))
    server.files = {"/": Served(LIST), "/maps.zip": Served(MAPS), "/mini.tar.gz": mini}
    return server


def test_a_dataset_is_fetched_by_its_name_and_its_path_returned(mirror, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = GetData("cyclegan", verbose=False).get("sets", "maps")
    assert path == str(tmp_path / "sets/maps")
    assert (Path(path) / "trainA/1.jpg").read_bytes() == b"A" * 999
    assert [entry.name for entry in (tmp_path / "sets").iterdir()] == ["maps"]
    assert capsys.readouterr().out == ""


def test_the_list_is_shown_and_a_number_asked_for(mirror, tmp_path, monkeypatch, capsys):
    answers = iter(["x", "7", "-1", "1"])
    monkeypatch.setattr(builtins, "input", lambda prompt: next(answers))
    assert GetData().get(tmp_path) == str(tmp_path / "mini")
    text = capsys.readouterr().out
    assert text.startswith("(0): maps.zip\n(1): mini.tar.gz\n")
    assert text.count("is not a number from 0 to 1") == 3
    assert (tmp_path / "mini/a.jpg").read_bytes() == b"a"


def test_a_folder_that_exists_is_kept_and_no_server_asked(mirror, tmp_path, capsys):
    (tmp_path / "maps").mkdir()
    assert GetData().get(tmp_path, "maps.zip") == str(tmp_path / "maps")
    assert "exists already" in capsys.readouterr().out
    assert mirror.files["/"].asked == []
    assert list((tmp_path / "maps").iterdir()) == []


def test_a_fault_is_an_error_that_leaves_no_dataset(mirror, tmp_path):
    for path, served, words in (
        ("/maps.zip", Served(MAPS[:-40]), "is broken"),
        ("/", Served(PAGE), "has no dataset 'maps'; it has nothing"),
        ("/", Served(PAGE, status=404), "cannot get .*404"),
    ):
        mirror.files[path] = served
        with pytest.raises(UserError, match=words):
            GetData(verbose=False).get(tmp_path / "sets", "maps")
        assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == []


def test_wrong_names_are_errors_that_list_the_right_ones(mirror, tmp_path):
    with pytest.raises(UserError, match=re.escape("no dataset 'map'; it has maps, mini. Did you mean 'maps'?")):
        GetData().get(tmp_path, "map")
    with pytest.raises(UserError, match="'cyclgan' is not one of cyclegan, pix2pix"):
        GetData("cyclgan")


def test_without_a_mirror_each_paper_has_its_own_address(monkeypatch):
    monkeypatch.delenv("BASE_URL", raising=False)
    assert GetData().url == "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets/"
    assert GetData("pix2pix").url == "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/"
