"""GetData: data sets fetched from Python, with the server's list."""

from __future__ import annotations

import builtins
import re
import sys
import urllib.request
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError

import pytest
from file_server import PAGE, Served, serving, tar_of, zip_of
from test_downloads import STRANGE

from util import get_data
from util.errors import UserError
from util.get_data import GetData

LIST = b"""<html><body><table><tr><td><a href="?C=N;O=D">Name</a></td></tr>
<a href="/cyclegan/">Parent Directory</a> <a href="../../evil.zip.exe">no</a> <a href="maps.zip">maps.zip</a>
<a href="/cyclegan/datasets/mini.tar.gz">mini</a> <a name="x">y</a></table></body></html>"""
MAPS = zip_of({"maps/trainA/1.jpg": b"A" * 999, "maps/trainB/2.jpg": b"B"})


@pytest.fixture
def mirror(monkeypatch):
    with serving() as server:
        monkeypatch.setenv("BASE_URL", server.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        mini = Served(tar_of({"mini/a.jpg": b"a"}))
        server.files = {"/": Served(LIST), "/maps.zip": Served(MAPS), "/mini.tar.gz": mini}
        yield server


@pytest.mark.parametrize("name", ["maps", "maps.zip"])
def test_a_data_set_is_fetched_by_its_name_and_its_path_returned(mirror, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = GetData("cyclegan", verbose=False).get("sets", name)
    assert path == str(tmp_path / "sets/maps")
    assert (Path(path) / "trainA/1.jpg").read_bytes() == b"A" * 999
    assert [entry.name for entry in (tmp_path / "sets").iterdir()] == ["maps"]


def test_the_list_is_shown_and_a_number_asked_for(mirror, tmp_path, monkeypatch, capsys):
    answers = iter(["x", "7", "-1", "1"])
    monkeypatch.setattr(builtins, "input", lambda prompt: next(answers))
    assert GetData().get(tmp_path) == str(tmp_path / "mini")
    text = capsys.readouterr().out
    assert text.startswith("(0): maps.zip\n(1): mini.tar.gz\n")
    assert text.count("is not a number from 0 to 1") == 3
    assert (tmp_path / "mini/a.jpg").read_bytes() == b"a"


def test_without_an_answer_the_error_says_how_to_name_the_data_set(mirror, tmp_path, monkeypatch):
    def no_answer(prompt):
        raise EOFError

    monkeypatch.setattr(builtins, "input", no_answer)
    with pytest.raises(UserError, match="Name the data set"):
        GetData().get(tmp_path)


def test_a_folder_that_exists_is_kept_and_no_server_asked(mirror, tmp_path, capsys):
    (tmp_path / "maps").mkdir()
    assert GetData().get(tmp_path, "maps.zip") == str(tmp_path / "maps")
    assert "exists already" in capsys.readouterr().out
    assert mirror.files["/"].asked == []
    assert list((tmp_path / "maps").iterdir()) == []


FAULTS = {
    "a page for an archive": (Served(PAGE), "neither a zip nor a tar.gz"),
    "an error": (Served(PAGE, status=503), "Cannot get .*503"),
    "a cut transfer": (Served(MAPS, cut=200), "did not arrive whole|Cannot get"),
    "a truncated archive": (Served(MAPS[:-40]), "is broken"),
    "a hostile archive": (Served(zip_of({"maps/1.jpg": b"x", "../evil": b"x"})), "leads out of the folder"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_an_error_that_leaves_nothing(mirror, tmp_path, fault):
    mirror.files["/maps.zip"], words = FAULTS[fault]
    with pytest.raises(UserError, match=words):
        GetData(verbose=False).get(tmp_path / "sets", "maps")
    assert list(tmp_path.rglob("*")) == [tmp_path / "sets"]


def test_wrong_names_are_errors_that_list_the_right_ones(mirror, tmp_path):
    with pytest.raises(UserError, match=re.escape("no data set 'map'; it has maps, mini. Did you mean 'maps'?")):
        GetData().get(tmp_path, "map")
    with pytest.raises(UserError, match="has no data set ''"):
        GetData().get(tmp_path, "")
    with pytest.raises(UserError, match="'cyclgan' is not one of cyclegan, pix2pix"):
        GetData("cyclgan")


def test_without_a_mirror_each_paper_has_its_own_address(monkeypatch):
    monkeypatch.delenv("BASE_URL", raising=False)
    assert GetData().url == "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets/"
    assert GetData("pix2pix").url == "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/"


def test_nothing_but_the_standard_library_is_needed(mirror, tmp_path, monkeypatch):
    for name in ("requests", "bs4"):
        monkeypatch.setitem(sys.modules, name, None)
    assert GetData(verbose=False).get(tmp_path, "maps") == str(tmp_path / "maps")


def test_slow_and_endless_servers_are_given_up(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(get_data, "TIMEOUT", 0.5)
    monkeypatch.setattr(get_data, "LARGEST", 10**6)
    monkeypatch.setattr(get_data, "LONGEST_LIST", 10**6)
    slow, endless = Served(MAPS, cut=20, drip=0.1), Served(bytes(10**5), length="", endless=True)
    for path, served, words in (
        ("/maps.zip", slow, r"maps.zip is too slow: \d+ bytes in the last 0.5 seconds"),
        ("/maps.zip", Served(MAPS, cut=20, stall=3), "Cannot get .*timed out"),
        ("/maps.zip", endless, "maps.zip gave more than 1,000,000 bytes"),
        ("/", endless, "gave more than 1,000,000 bytes"),
    ):
        kept, mirror.files[path] = mirror.files[path], served
        with pytest.raises(UserError, match=words):
            GetData(verbose=False).get(tmp_path / "sets", "maps")
        mirror.files[path] = kept
    assert [path.name for path in tmp_path.rglob("*")] in ([], ["sets"])


@pytest.mark.parametrize("case", STRANGE)
def test_a_server_that_misbehaves_is_an_error_that_leaves_nothing(mirror, tmp_path, case):
    mirror.files["/maps.zip"] = STRANGE[case]
    with pytest.raises(UserError, match=r"/maps.zip"):
        GetData(verbose=False).get(tmp_path, "maps")
    assert list(tmp_path.iterdir()) == []


def test_https_does_not_lead_to_http(tmp_path):
    request = urllib.request.Request("https://example.org/maps.zip")
    follow = get_data._NoDowngrade().redirect_request
    for target in ("http://example.org/maps.zip", "ftp://example.org/maps.zip", "file:///etc/passwd"):
        with pytest.raises(HTTPError, match="not followed to"):
            follow(request, None, 302, "Found", Message(), target)
    assert follow(request, None, 302, "Found", Message(), "https://example.com/x").full_url == "https://example.com/x"
