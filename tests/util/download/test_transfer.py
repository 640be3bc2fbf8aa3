"""Transfers from servers that behave and misbehave: the file arrives whole, or an error says why in time."""

from __future__ import annotations

import gzip
import os
import time
import urllib.request
from email.message import Message
from functools import partial
from urllib.error import HTTPError

import pytest
from file_server import PAGE, Served, tar_of, zip_of

from util.download import transfer
from util.download.archive import unpack
from util.download.transfer import ContentError, DownloadError, fetch

IMAGES = {name: os.urandom(30_000) for name in ("trainA/1.jpg", "trainB/2.jpg", "testA/3.jpg", "testB/4.jpg")}
MAPS = zip_of({f"maps/{name}": data for name, data in IMAGES.items()})


@pytest.fixture
def get(server, tmp_path):
    """`get(served)`: fetch and unpack what the server gives; return whether the dataset is whole."""

    def get(served=None):
        server.files["/maps.zip"] = served or Served(MAPS)
        fetch(f"{server.url}/maps.zip", get.part, partial(unpack, folder=get.folder), lambda text: None)
        files = {str(p.relative_to(get.folder)): p.read_bytes() for p in get.folder.rglob("*.jpg")}
        return files == IMAGES and not get.part.exists()

    get.part, get.folder = tmp_path / "sets/maps.zip.part", tmp_path / "sets/maps"
    get.part.parent.mkdir()
    return get


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_transfer_is_resumed_at_once(get, ranges):
    served = Served(MAPS, ranges=ranges, cut=50_000, cuts=1)
    assert get(served)
    assert served.asked == [None, "bytes=50000-"]


def test_a_second_call_resumes_where_the_first_was_cut(get):
    with pytest.raises(DownloadError, match=r"did not arrive .* the same command resumes where it stopped"):
        get(Served(MAPS, cut=10_000))
    assert (get.part.stat().st_size, get.folder.exists()) == (50_000, False)
    served = Served(MAPS)
    assert get(served)
    assert served.asked == ["bytes=50000-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_wrong_part_does_not_spoil_the_file(get, tmp_path, ranges):
    for number, part in enumerate((PAGE, b"PK\3\4" + bytes(9_000), MAPS, MAPS + bytes(70_000), b"x" + MAPS[1:60_000])):
        get.folder = tmp_path / f"sets/{number}"
        get.part.write_bytes(part)
        assert get(Served(MAPS, ranges=ranges))
    get.folder = tmp_path / "sets/lies"
    get.part.write_bytes(MAPS[:50_000])
    assert get(Served(MAPS, lies=True))  # it sends another range than the one asked for


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n"
FAULTS = {
    "not found": (Served(PAGE, status=404), "refuses .*: 404"),
    "web page": (Served(PAGE), "web page in place of the file"),
    "truncated, and its length claims so": (Served(MAPS[:-500]), "is broken"),
    "length too large": (Served(MAPS[:-500], length=len(MAPS)), "did not arrive|is broken"),
    "flipped byte": (Served(MAPS[:40_000] + b"\0\1\2\3" + MAPS[40_004:]), "is broken"),
    "a hostile archive": (Served(tar_of({"maps/1.jpg": b"a", "../../evil": b"b"})), "leads out of the folder"),
    "hangs up": (Served(raw=b""), "did not arrive"),
    "no HTTP": (Served(raw=b"220 smtp.example.com ready\r\n"), "did not arrive"),
    "endless headers": (Served(raw=b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * 300_000), "did not arrive"),
    "a broken chunk": (Served(raw=CHUNKED + MAPS[:999]), "did not arrive"),
    "compressed on the way": (Served(gzip.compress(MAPS)), "is broken"),
    "to a file": (Served(status=302, location="file:///etc/hostname"), "refuses .*file:///etc/hostname"),
    "to nowhere": (Served(status=302, location="http://127.0.0.1:9/maps.zip"), "did not arrive"),
    "to itself": (Served(status=302, location="/maps.zip"), "refuses .*: 302"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_an_error_and_the_next_call_succeeds_once_the_server_is_right(get, case):
    served, words = FAULTS[case]
    with pytest.raises(DownloadError, match=words) as error:
        get(served)
    assert not get.folder.exists()
    assert not (isinstance(error.value, ContentError) and get.part.exists())
    assert get()


def test_a_redirect_is_followed_but_not_from_https_to_http(get, server):
    server.files["/moved.zip"] = Served(MAPS)
    assert get(Served(status=302, location=server.url + "/moved.zip"))
    request = urllib.request.Request("https://example.org/maps.zip")
    follow = partial(transfer.SafeRedirects().redirect_request, request, None, 302, "Found", Message())
    for target in ("http://example.org/maps.zip", "ftp://example.org/maps.zip", "file:///etc/passwd"):
        with pytest.raises(HTTPError, match="not followed to"):
            follow(target)
    assert follow("https://example.com/x").full_url == "https://example.com/x"


def test_slow_silent_and_endless_servers_are_given_up_in_time(get, monkeypatch):
    monkeypatch.setattr(transfer, "STALL", 0.5)
    monkeypatch.setattr(transfer, "MOST_BYTES", 10**6)
    start = time.monotonic()
    for served, words in (
        (Served(MAPS, cut=20, drip=0.1), r"too slow: \d+ bytes in the last 0.5 seconds"),
        (Served(MAPS, cut=20, stall=9), "did not arrive .*timed out"),
        (Served(bytes(100_000), length="", endless=True), "gives more than 1 megabytes"),
    ):
        with pytest.raises(DownloadError, match=words):
            get(served)
    assert time.monotonic() - start < 9
    assert not get.folder.exists()
    assert get()
