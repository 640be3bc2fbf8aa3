"""The download scripts, against a server on this machine that behaves and misbehaves."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from file_server import PAGE, Served, serving, tar_of, zip_of

CYCLEGAN, PIX2PIX = "datasets/download_cyclegan_dataset.sh", "datasets/download_pix2pix_dataset.sh"
CYCLEGAN_MODEL, PIX2PIX_MODEL = "scripts/download_cyclegan_model.sh", "scripts/download_pix2pix_model.sh"
FCN8S = "scripts/eval_cityscapes/download_fcn8s.sh"
SCRIPTS = [CYCLEGAN, PIX2PIX, CYCLEGAN_MODEL, PIX2PIX_MODEL, FCN8S]
NEEDED = ["bash", "cat", "dirname", "env", "grep", "head", "mkdir", "mv", "od", "rm", "rmdir", "sleep", "tr", "wc"]
TOOLS = [tool for tool in ("curl", "wget") if shutil.which(tool)]
# What a cut transfer may leave: a part to go on from, not a data set.
PART = re.compile(r".*\.part")


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def house(tmp_path):
    """A repository with the download scripts alone, so that nothing lands in the real one."""
    house = tmp_path / "a house"
    for name in [*SCRIPTS, "scripts/download.sh", "util/__init__.py", "util/download/archive.py"]:
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, house / name)
    return house


def path_with(tool, folder):
    """A folder of links for PATH with one download tool, or none, and the few others that the scripts need."""
    folder.mkdir(exist_ok=True)
    for name in [*NEEDED, *([tool] if tool else [])]:
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(shutil.which(name))
    with contextlib.suppress(FileExistsError):
        (folder / "python3").symlink_to(Path(sys.executable).resolve())
    return str(folder)


def command(house, script, *names, url="", tool="curl", cwd=None, **env):
    """The words and settings with which a user's shell runs a script."""
    path = path_with(tool, house.parent / f"bin_{tool}")
    env = {"PATH": path, "no_proxy": "127.0.0.1", "STALL_SECONDS": "20", "PYTHONDONTWRITEBYTECODE": "1", **env}
    if url:
        env["BASE_URL"] = url
    return {"args": [shutil.which("bash"), house / script, *names], "cwd": cwd or house, "env": env}


def fetch(*args, **kwargs):
    return subprocess.run(**command(*args, **kwargs), capture_output=True, text=True, timeout=60, check=False)


def tree(folder):
    """Every path under a folder, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


PIXELS = {name: os.urandom(30_000) for name in ("trainA/1.jpg", "trainB/2.jpg", "testA/3.jpg", "testB/4.jpg")}
MAPS = zip_of({f"maps/{name}": data for name, data in PIXELS.items()})
WEIGHTS = zip_of({"archive/data.pkl": b"pickle", "archive/data/0": os.urandom(20_000)})
OLD_WEIGHTS = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + os.urandom(20_000)


def holds_maps(house):
    maps = house / "datasets/maps"
    return {str(path.relative_to(maps)): path.read_bytes() for path in maps.rglob("*.jpg")} == PIXELS


def nothing_came(house):
    """Whether the house is as before, but for a part to go on from."""
    left = [name for name in tree(house) if name.startswith(("datasets/", "checkpoints"))]
    return all(name in SCRIPTS or PART.fullmatch(name) or name in ("checkpoints", "datasets") for name in left)


# ---- what users type ----


@pytest.mark.parametrize("tool", TOOLS)
def test_every_script_puts_its_file_where_users_look_for_it(house, server, tool):
    server.files = {
        "/maps.zip": Served(MAPS),
        "/night2day.tar.gz": Served(tar_of({"night2day/train/1.jpg": b"pair", "night2day/val/2.jpg": b"other"})),
        "/horse2zebra.pth": Served(WEIGHTS),
        "/day2night.pth": Served(OLD_WEIGHTS),
        "/fcn-8s-cityscapes.caffemodel": Served(b"\x0a\x03FCN" + b"layers" * 99),
    }
    for script, *names in (
        (CYCLEGAN, "maps"),
        (PIX2PIX, "night2day"),
        (CYCLEGAN_MODEL, "horse2zebra"),
        (PIX2PIX_MODEL, "day2night"),
        (FCN8S,),
    ):
        done = fetch(house, script, *names, url=server.url + "/", tool=tool, cwd=house.parent)
        assert done.returncode == 0, done.stderr
    assert holds_maps(house)
    assert (house / "datasets/night2day/train/1.jpg").read_bytes() == b"pair"
    assert (house / "checkpoints/horse2zebra_pretrained/latest_net_G.pth").read_bytes() == WEIGHTS
    assert (house / "checkpoints/day2night_pretrained/latest_net_G.pth").read_bytes() == OLD_WEIGHTS
    assert (house / "scripts/eval_cityscapes/caffemodel/fcn-8s-cityscapes.caffemodel").stat().st_size == 5 + 6 * 99
    assert not [name for name in tree(house.parent) if "part" in name.split(".") or ".unpacking" in name]


@pytest.mark.parametrize(
    ("script", "names"),
    [
        (
            CYCLEGAN,
            """apple2orange summer2winter_yosemite horse2zebra monet2photo cezanne2photo ukiyoe2photo vangogh2photo maps
            cityscapes facades iphone2dslr_flower ae_photos mini mini_pix2pix mini_colorization""",
        ),
        (PIX2PIX, "night2day edges2handbags edges2shoes facades maps cityscapes"),
        (
            CYCLEGAN_MODEL,
            """apple2orange orange2apple summer2winter_yosemite winter2summer_yosemite horse2zebra zebra2horse
            monet2photo style_monet style_cezanne style_ukiyoe style_vangogh sat2map map2sat cityscapes_photo2label
            cityscapes_label2photo facades_photo2label facades_label2photo iphone2dslr_flower""",
        ),
        (PIX2PIX_MODEL, "edges2shoes sat2map map2sat facades_label2photo day2night"),
    ],
)
def test_a_wrong_or_missing_name_lists_the_right_ones(house, server, script, names):
    typed = [[], ["maps2"], ["--help"], ["../maps"], ["-o/tmp/x"], ["horse2zebra", "maps"], ["a b;c$(d)*"], [""]]
    for words in typed:
        done = fetch(house, script, *words, url=server.url)
        assert done.returncode == 1
        assert sorted(done.stderr.split("one of:")[1].split()) == sorted(names.split())
    assert not server.files
    assert nothing_came(house)


@pytest.mark.parametrize("script", [CYCLEGAN, PIX2PIX])
def test_cityscapes_says_how_to_get_it(house, script):
    done = fetch(house, script, "cityscapes")
    assert done.returncode == 1
    assert "prepare_cityscapes_dataset.py --gtFine_dir" in done.stdout
    assert nothing_came(house)


def test_what_is_there_is_not_overwritten(house, server):
    mine = house / "datasets/horse2zebra/trainA/mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    done = fetch(house, CYCLEGAN, "horse2zebra", url=server.url)
    assert done.returncode == 0
    assert "is there already" in done.stdout
    assert tree(mine.parents[1]) == ["trainA", "trainA/mine.jpg"]
    network = house / "checkpoints/sat2map_pretrained/latest_net_G.pth"
    network.parent.mkdir(parents=True)
    network.write_bytes(b"mine")
    assert fetch(house, PIX2PIX_MODEL, "sat2map", url=server.url).returncode == 0
    assert network.read_bytes() == b"mine"


def test_data_sets_of_both_papers_under_one_name_share_a_folder(house, server):
    server.files = {
        "/maps.zip": Served(MAPS),
        "/maps.tar.gz": Served(tar_of({"maps/train/1.jpg": b"pair", "maps/testA/3.jpg": b"clash"})),
    }
    assert fetch(house, CYCLEGAN, "maps", url=server.url).returncode == 0
    assert fetch(house, PIX2PIX, "maps", url=server.url).returncode == 0
    assert (house / "datasets/maps/train/1.jpg").read_bytes() == b"pair"
    assert (house / "datasets/maps/testA/3.jpg").read_bytes() == PIXELS["testA/3.jpg"]
    assert "is there already" in fetch(house, PIX2PIX, "maps", url=server.url).stdout


def test_networks_of_both_papers_under_one_name_are_not_confused(house, server):
    server.files["/sat2map.pth"] = Served(WEIGHTS)
    assert fetch(house, CYCLEGAN_MODEL, "sat2map", url=server.url).returncode == 0
    assert "is there already" in fetch(house, CYCLEGAN_MODEL, "sat2map", url=server.url).stdout
    done = fetch(house, PIX2PIX_MODEL, "sat2map", url=server.url)
    assert done.returncode == 1
    assert "is another network (cyclegan)" in done.stderr


# ---- what servers do ----


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_transfer_is_finished_at_once(house, server, tool, ranges):
    server.files["/maps.zip"] = served = Served(MAPS, ranges=ranges, cut=50_000, cuts=1)
    done = fetch(house, CYCLEGAN, "maps", url=server.url, tool=tool)
    assert done.returncode == 0, done.stderr
    assert holds_maps(house)
    assert served.asked[:2] == [None, "bytes=50000-"]


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(("script", "data"), [(CYCLEGAN, MAPS), (CYCLEGAN_MODEL, OLD_WEIGHTS)])
def test_a_second_call_goes_on_where_the_first_was_cut(house, server, tool, script, data):
    server.files["/maps.zip"] = server.files["/map2sat.pth"] = served = Served(data, cut=len(data) // 10)
    name = "maps" if script == CYCLEGAN else "map2sat"
    first = fetch(house, script, name, url=server.url, tool=tool)
    assert first.returncode == 1
    assert "the same command goes on" in first.stderr
    assert nothing_came(house)
    before, served.cut = len(served.asked), None
    second = fetch(house, script, name, url=server.url, tool=tool)
    assert second.returncode == 0, second.stderr
    assert served.asked[before:] == [f"bytes={len(data) // 10 * 5}-"]
    if script == CYCLEGAN:
        assert holds_maps(house)
    else:
        assert (house / "checkpoints/map2sat_pretrained/latest_net_G.pth").read_bytes() == data


WRONG_PARTS = {
    "a web page": PAGE,
    "another file": b"PK\x03\x04" + bytes(9_000),
    "whole": MAPS,
    "too long": MAPS + b"PK" + bytes(70_000),
    "of an older file": b"x" + MAPS[1:60_000],
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("part", WRONG_PARTS)
def test_a_part_of_something_else_does_not_spoil_the_next_try(house, server, tool, ranges, part):
    (house / "datasets/maps.zip.part").write_bytes(WRONG_PARTS[part])
    server.files["/maps.zip"] = Served(MAPS, ranges=ranges)
    done = fetch(house, CYCLEGAN, "maps", url=server.url, tool=tool)
    assert done.returncode == 0, done.stderr
    assert holds_maps(house)
    assert not (house / "datasets/maps.zip.part").exists()


REFUSALS = {
    "not found": (Served(PAGE, status=404), "refuses"),
    "forbidden": (Served(PAGE, status=403), "refuses"),
    "server error": (Served(PAGE, status=500), "refuses"),
    "web page": (Served(PAGE, kind="text/html"), "web page in place of the file"),
    "web page called a zip": (Served(PAGE), "web page in place of the file"),
    "nothing": (Served(b""), "not usable"),
    "truncated, and its length claims so": (Served(MAPS[:-500]), "is broken"),
    "length too small": (Served(MAPS, length=70_000), "is broken"),
    "length too large": (Served(MAPS[:-500], length=len(MAPS)), "did not arrive|is broken"),
    "flipped byte": (Served(MAPS[:40_000] + b"\0\1\2\3" + MAPS[40_004:]), "is broken"),
    "random bytes": (Served(os.urandom(5_000)), "neither a zip nor a tar.gz"),
    "empty zip": (Served(zip_of({})), "is empty"),
    "climbing names": (Served(zip_of({"maps/1.jpg": b"a", "../../evil": b"b"})), "leads out of the folder"),
    "an absolute name": (Served(tar_of({"maps/1.jpg": b"a", "/tmp/evil_download": b"b"})), "leads out of the folder"),
}


STRANGE = {
    "no content": Served(b"", status=204),
    "unauthorised": Served(PAGE, status=401),
    "gone": Served(PAGE, status=410),
    "bad gateway": Served(PAGE, status=502),
    "hangs up": Served(raw=b""),
    "no HTTP": Served(raw=b"220 smtp.example.com ready\r\n"),
    "a binary answer": Served(raw=os.urandom(3_000)),
    "endless headers": Served(raw=b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * 300_000),
    "one endless header": Served(raw=b"HTTP/1.0 200 OK\r\nX: " + b"y" * 3_000_000),
    "half a header": Served(raw=b"HTTP/1.0 200 OK\r\nContent-Le"),
    "a length below zero": Served(MAPS[:-500], length=-5),
    "a length that is no number": Served(MAPS[:-500], length="many"),
    "a length beyond all": Served(MAPS[:-500], length=2**70),
    "no length, and a part": Served(MAPS[:-500], length=""),
    "a broken chunk": Served(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + MAPS[:999]),
    "a chunk of no size": Served(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + MAPS),
    "compressed on the way": Served(gzip.compress(MAPS)),
    "to a file": Served(status=302, location="file:///etc/hostname"),
    "to FTP": Served(status=302, location="ftp://127.0.0.1:9/maps.zip"),
    "to nowhere": Served(status=302, location="http://127.0.0.1:9/maps.zip"),
    "to no address": Served(status=302, location="http://[::1"),
    "without an address": Served(status=302),
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("case", STRANGE)
def test_a_server_that_misbehaves_is_an_error_in_time_and_no_data_set(house, server, tool, case):
    server.files["/maps.zip"] = STRANGE[case]
    done = fetch(house, CYCLEGAN, "maps", url=server.url, tool=tool, STALL_SECONDS="5")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert nothing_came(house)
    server.files["/maps.zip"] = Served(MAPS)
    assert fetch(house, CYCLEGAN, "maps", url=server.url, tool=tool).returncode == 0
    assert holds_maps(house)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_wrong_range_does_not_spoil_the_file(house, server, tool):
    (house / "datasets/maps.zip.part").write_bytes(MAPS[:50_000])
    server.files["/maps.zip"] = Served(MAPS, lies=True)
    done = fetch(house, CYCLEGAN, "maps", url=server.url, tool=tool)
    assert (done.returncode == 0 and holds_maps(house)) or ("did not arrive" in done.stderr and nothing_came(house))


@pytest.mark.parametrize("tool", TOOLS)
def test_a_server_that_gives_a_byte_a_second_is_given_up(house, server, tool):
    server.files["/maps.zip"] = Served(MAPS, cut=10, drip=0.5)
    began = time.monotonic()
    done = fetch(house, CYCLEGAN, "maps", url=server.url, tool=tool, STALL_SECONDS="1")
    assert (done.returncode, time.monotonic() - began < 30) == (1, True)
    assert "did not arrive; the same command goes on from where it stopped" in done.stderr
    assert "Terminated" not in done.stderr
    assert nothing_came(house)


@pytest.mark.skipif(not shutil.which("openssl") or "curl" not in TOOLS, reason="no openssl makes a certificate")
def test_https_does_not_lead_to_http(house, server, tmp_path):
    words = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -subj /CN=localhost -days 9 -addext"
    subprocess.run([*words.split(), "subjectAltName=IP:127.0.0.1"], cwd=tmp_path, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server.files["/maps.zip"] = Served(MAPS)
    with serving() as secure:
        secure.socket = tls.wrap_socket(secure.socket, server_side=True)
        address = secure.url.replace("http:", "https:")
        secure.files = {
            "/down/maps.zip": Served(status=302, location=f"{server.url}/maps.zip"),
            "/across/maps.zip": Served(status=302, location=f"{address}/maps.zip"),
            "/maps.zip": Served(MAPS),
        }
        env = {"CURL_CA_BUNDLE": str(tmp_path / "cert")}
        assert fetch(house, CYCLEGAN, "maps", url=f"{address}/down", **env).returncode == 1
        assert nothing_came(house)
        assert fetch(house, CYCLEGAN, "maps", url=f"{address}/across", **env).returncode == 0
    assert holds_maps(house)


@pytest.mark.parametrize("tool", TOOLS)
def test_an_endless_file_is_given_up_and_does_not_stay(house, server, tool):
    server.files["/maps.zip"] = Served(bytes(100_000), length="", endless=True)
    done = fetch(house, CYCLEGAN, "maps", url=server.url, tool=tool, MOST_MEGABYTES="3")
    assert done.returncode == 1
    assert "gives more than 3 megabytes" in done.stderr
    assert not list((house / "datasets").glob("*.part"))


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_no_data_set_is_an_error_and_leaves_nothing(house, server, tool, case):
    served, words = REFUSALS[case]
    server.files["/maps.zip"] = served
    before = tree(house)
    done = fetch(house, CYCLEGAN, "maps", url=server.url, tool=tool)
    assert done.returncode == 1
    assert re.search(words, done.stderr)
    assert nothing_came(house)
    assert case == "length too large" or tree(house) == before
    assert not Path("/tmp/evil_download").exists()
    # The next try succeeds as soon as the server is right.
    server.files["/maps.zip"] = Served(MAPS)
    assert fetch(house, CYCLEGAN, "maps", url=server.url, tool=tool).returncode == 0
    assert holds_maps(house)


@pytest.mark.parametrize("script", [CYCLEGAN_MODEL, PIX2PIX_MODEL, FCN8S])
@pytest.mark.parametrize(
    "data", [PAGE, b"\n" + PAGE, b"", b"text", WEIGHTS[:-30], WEIGHTS[:900] + b"!" + WEIGHTS[901:]]
)
def test_what_is_no_network_is_an_error_and_leaves_nothing(house, server, script, data):
    server.files = dict.fromkeys(("/sat2map.pth", "/fcn-8s-cityscapes.caffemodel"), Served(data))
    done = fetch(house, script, *([] if script == FCN8S else ["sat2map"]), url=server.url)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert not [name for name in tree(house) if "sat2map" in name or name.endswith((".caffemodel", ".part"))]


@pytest.mark.parametrize("tool", TOOLS)
def test_redirects_are_followed_and_endless_ones_are_an_error(house, server, tool):
    server.files = {
        "/old/maps.zip": Served(status=302),
        "/loop/maps.zip": Served(status=302),
        "/maps.zip": Served(MAPS),
    }
    server.files["/old/maps.zip"].location = server.url + "/maps.zip"
    server.files["/loop/maps.zip"].location = server.url + "/loop/maps.zip"
    assert fetch(house, CYCLEGAN, "maps", url=server.url + "/loop", tool=tool).returncode == 1
    assert nothing_came(house)
    assert fetch(house, CYCLEGAN, "maps", url=server.url + "/old", tool=tool).returncode == 0
    assert holds_maps(house)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_server_that_is_not_there_or_falls_silent_is_an_error_in_time(house, server, tool):
    assert fetch(house, CYCLEGAN, "maps", url="http://127.0.0.1:9", tool=tool).returncode == 1
    server.files["/maps.zip"] = served = Served(MAPS, cut=0)
    served.stall = 30
    began = time.monotonic()
    done = fetch(house, CYCLEGAN, "maps", url=server.url, tool=tool, STALL_SECONDS="2")
    assert done.returncode == 1
    assert time.monotonic() - began < 20
    assert nothing_came(house)


def test_without_curl_and_wget_the_error_says_what_is_missing(house, server):
    done = fetch(house, CYCLEGAN, "maps", url=server.url, tool=None)
    assert done.returncode == 1
    assert "neither curl nor wget is installed" in done.stderr


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_download_leaves_a_part_that_the_next_call_finishes(house, server, tool, number):
    server.files["/maps.zip"] = served = Served(MAPS, cut=40_000)
    served.stall = 10
    run = subprocess.Popen(
        **command(house, CYCLEGAN, "maps", url=server.url, tool=tool),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    part = house / "datasets/maps.zip.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(run.pid, number)
    assert run.wait(10) != 0
    assert nothing_came(house)
    served.cut, served.stall = None, 0
    assert fetch(house, CYCLEGAN, "maps", url=server.url, tool=tool).returncode == 0
    assert holds_maps(house)
