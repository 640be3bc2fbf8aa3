"""Unpacking archives from strangers: the right ones whole, the hostile ones not at all."""

from __future__ import annotations

import gzip
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from types import SimpleNamespace

import pytest
from conftest import ROOT

from util.download.archive import ArchiveError, unpack

FAR = "../" * 12


def write_tar(path, *members):
    """Write a tar.gz of (name, data) files, TarInfos as they are, and (TarInfo, data)."""
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            info, data = (member, b"") if isinstance(member, tarfile.TarInfo) else member
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
            if info.type == tarfile.REGTYPE and not info.size:
                info.size = len(data)
            archive.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))
            archive.fileobj.write(data + bytes(-len(data) % 512))
    return path


def special(name, kind, target=""):
    """A member of a tar that is no plain file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.devmajor, info.devminor = kind, target, 1, 3
    return info


def sized(name, size, kind=tarfile.REGTYPE):
    """A member of a tar that says how large it is, whatever follows."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


def write_zip(path, *members):
    """Write a zip of (name, data[, mode]) files, names as they are."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data, *mode in members:
            info = zipfile.ZipInfo("placeholder")
            info.filename = info.orig_filename = name
            info.external_attr = (mode[0] if mode else 0o100644) << 16
            archive.writestr(info, data)
    return path


def in_directory(path, offset, value):
    """Overwrite two bytes (four beyond offset 20) of the last entry in a zip's directory."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<i" if offset > 20 else "<H", data, data.rindex(b"PK\x01\x02") + offset, value)
    path.write_bytes(data)
    return path


def with_zero_byte(path):
    """Turn the @ of a zip's names into zero bytes, which zipfile cannot write itself."""
    path.write_bytes(path.read_bytes().replace(b"@", b"\0"))
    return path


GOOD = ("d/train/1.png", b"picture")
LINK, HARD, FIFO = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE
CHAR, BLOCK, SPARSE = tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.GNUTYPE_SPARSE
ZIP_LINK = stat.S_IFLNK | 0o777
# Every name or link leads to .../outside, beside the folder that a test unpacks into, or straight to the root.
HOSTILE_NAMES = ["../evil", "d/../../evil", "d/..", FAR + "tmp/evil_unpack", "/tmp/evil_unpack", "//tmp/evil_unpack"]
HOSTILE_NAMES += [
    "..\\evil",
    "C:\\evil",
    "C:evil",
    "d/./.././../evil",
    "d/\x1b[2Jevil",
    "d/new\nline",
    "d/" + "x" * 300,
]
HOSTILE_NAMES += ["d/" * 600 + "x"]
HOSTILE_LINKS = ["../outside", "/tmp", "/etc/passwd", FAR + "etc/passwd", "../../outside/secret", "d/../../../outside"]
HOSTILE_LINKS += [".", "..", "nowhere", "..\\outside", "1.png/../../../outside"]

HOSTILE = {}
for name in HOSTILE_NAMES:
    HOSTILE[f"tar name {name[:20]!r} {len(name)}"] = lambda path, n=name: write_tar(path, GOOD, (n, b"evil"))
    HOSTILE[f"zip name {name[:20]!r} {len(name)}"] = lambda path, n=name: write_zip(path, GOOD, (n, b"evil"))
for link in HOSTILE_LINKS:
    HOSTILE[f"symlink to {link}"] = lambda path, t=link: write_tar(path, GOOD, special("d/train/link", LINK, t))
    HOSTILE[f"hard link to {link}"] = lambda path, t=link: write_tar(path, GOOD, special("d/train/link", HARD, t))
    HOSTILE[f"zip link to {link}"] = lambda path, t=link: write_zip(path, GOOD, ("d/link", t, ZIP_LINK))
for kind, code in {"fifo": FIFO, "character device": CHAR, "block device": BLOCK, "sparse": SPARSE}.items():
    HOSTILE[kind] = lambda path, c=code: write_tar(path, GOOD, special("d/special", c))
for kind, code in {"fifo": stat.S_IFIFO, "device": stat.S_IFCHR, "socket": stat.S_IFSOCK}.items():
    HOSTILE[f"zip {kind}"] = lambda path, c=code: write_zip(path, GOOD, ("d/special", b"", c | 0o666))
HOSTILE |= {
    "a file written through a link": lambda path: write_tar(
        path, GOOD, special("d/out", LINK, "../../outside"), ("d/out/evil", b"evil")
    ),
    "a link to a link": lambda path: write_tar(
        path, GOOD, special("d/a", LINK, "b"), special("d/b", LINK, "../../outside")
    ),
    "a link to itself": lambda path: write_tar(path, GOOD, special("d/a", LINK, "a")),
    "a link in a file's place": lambda path: write_tar(
        path, GOOD, special("d/train/1.png", LINK, "../../outside/secret")
    ),
    "a file in a link's place": lambda path: write_tar(path, special("x", LINK, "outside"), ("x", b"evil"), GOOD),
    "a file under a file": lambda path: write_zip(path, GOOD, ("d/train/1.png/2.png", b"evil")),
    "the same name twice": lambda path: write_tar(path, GOOD, GOOD),
    "the same name twice, in disguise": lambda path: write_tar(path, GOOD, ("./d//train/./1.png", b"evil")),
    "a zero byte in a name": lambda path: with_zero_byte(write_zip(path, GOOD, ("d/a.png@../evil", b"e"))),
    "a long link": lambda path: write_zip(path, GOOD, ("d/link", b"x" * 5_000, ZIP_LINK)),
    "a bomb": lambda path: write_tar(path, ("d/bomb", bytes(60_000_000))),
    "a bomb between files": lambda path: write_tar(path, GOOD, *[(f"d/{i}", bytes(4_000_000)) for i in range(9)]),
    "a size beyond all": lambda path: write_tar(path, GOOD, (sized("d/1.png", 2**60), b"few")),
    "a name of 20 MB": lambda path: write_tar(path, (sized("././@LongLink", 2 * 10**7, b"L"), b"n" * 2 * 10**7), GOOD),
    "a header of 20 MB": lambda path: write_tar(path, (sized("pax", 2 * 10**7, b"x"), b"9 a=b\n" * 3_333_334), GOOD),
    "a claimed bomb": lambda path: in_directory(write_zip(path, GOOD, ("d/bomb", b"tick")), 24, 2**31 - 1),
    "a claim too large": lambda path: in_directory(write_zip(path, GOOD, ("d/bomb", b"tick")), 24, 5_000),
    "encrypted": lambda path: in_directory(write_zip(path, GOOD), 8, 1),
    "an unknown compression": lambda path: in_directory(write_zip(path, GOOD), 10, 99),
    "a directory that points before the file": lambda path: in_directory(write_zip(path, GOOD), 42, -9_999),
    "only folders": lambda path: write_tar(path, special("d", tarfile.DIRTYPE), special("d/train", tarfile.DIRTYPE)),
    "only empty files": lambda path: write_zip(path, ("d/1.png", b"")),
}


@pytest.fixture
def place(tmp_path):
    """The folder `home` to unpack into, with a neighbour that must stay as it is."""
    (tmp_path / "home").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    return tmp_path


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing(place, case):
    archive = HOSTILE[case](place / "home/archive")
    before = snapshot(place)
    with pytest.raises(ArchiveError):
        unpack(archive, place / "home/set")
    assert snapshot(place) == before
    assert not os.path.lexists("/tmp/evil_unpack")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_truncated_or_flipped_archive_is_refused_at_every_place(place, kind):
    rng = os.urandom(4_000)
    archive = (write_zip if kind == "zip" else write_tar)(place / "archive", ("d/1.png", rng), ("d/2.png", rng[:999]))
    whole = archive.read_bytes()
    for tenth in range(40):
        archive.write_bytes(whole[: len(whole) * tenth // 40])
        with pytest.raises(ArchiveError):
            unpack(archive, place / "home/set")
    for position in range(100, 4_000, 97):
        flipped = bytearray(whole)
        flipped[position] ^= 0x55
        archive.write_bytes(flipped)
        with pytest.raises(ArchiveError):
            unpack(archive, place / "home/set")
    assert snapshot(place / "home") == {}


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["set/train/1.png", "set/val/2.png"], ["train/1.png", "val/2.png"]),
        (["./set/train/1.png", "./set/val/2.png"], ["train/1.png", "val/2.png"]),
        (["other/trainA/1.png", "other/trainB/a b é.png"], ["trainA/1.png", "trainB/a b é.png"]),
        (["train/1.png", "train/2.png"], ["train/1.png", "train/2.png"]),
        (["trainA/1.png", "trainB/2.png"], ["trainA/1.png", "trainB/2.png"]),
        (["set/train/1.png", "__MACOSX/set/1.png", "README"], ["train/1.png"]),
        (["set/..train/1..png", "set/.x"], ["..train/1..png", ".x"]),
    ],
)
def test_the_folder_holds_what_the_archive_holds_however_it_is_wrapped(place, write, names, expected):
    unpack(write(place / "archive", *((name, name.encode()) for name in names)), place / "home/set")
    files = {name: data for name, data in snapshot(place / "home/set").items() if data is not None}
    assert sorted(files) == sorted(expected)
    assert all(re.sub("^.*/", "", name) in data.decode() for name, data in files.items())
    assert os.listdir(place / "home") == ["set"]  # noqa: PTH208 (hidden files count)


def test_links_inside_an_archive_become_copies(place):
    tar = write_tar(
        place / "tar",
        GOOD,
        special("d/val/symbolic.png", LINK, "../train/1.png"),
        special("d/val/hard.png", HARD, "d/train/1.png"),
    )
    unpack(tar, place / "home/tar")
    unpack(write_zip(place / "zip", GOOD, ("d/link.png", "train/1.png", ZIP_LINK)), place / "home/zip")
    for name in ("tar/val/symbolic.png", "tar/val/hard.png", "zip/link.png"):
        path = place / "home" / name
        assert path.read_bytes() == b"picture"
        assert not path.is_symlink()
        assert path.stat().st_nlink == 1


def test_modes_of_an_archive_are_not_taken_over(place):
    unpack(write_zip(place / "archive", ("d/1.png", b"x", 0o104777)), place / "home/set")
    assert (place / "home/set/1.png").stat().st_mode & 0o7111 == 0


def test_an_existing_folder_only_gets_what_it_lacks(place):
    (place / "home/set/train").mkdir(parents=True)
    unpack(write_tar(place / "archive", GOOD, ("d/val/2.png", b"new")), place / "home/set")
    assert snapshot(place / "home/set") == {"train": None, "val": None, "val/2.png": b"new"}


def test_what_a_killed_run_left_is_cleared_away(place):
    (place / "home/.set.unpacking/d").mkdir(parents=True)
    (place / "home/.set.unpacking/d/half").write_text("half")
    unpack(write_tar(place / "archive", GOOD), place / "home/set")
    assert sorted(snapshot(place / "home")) == ["set", "set/train", "set/train/1.png"]


def test_too_little_space_is_no_fault_of_the_archive(place, monkeypatch):
    archive = write_zip(place / "archive", GOOD)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=3))
    with pytest.raises(OSError, match=r"need 0\.0 GB"):
        unpack(archive, place / "home/set")
    assert snapshot(place / "home") == {}


def type_unpack(*words, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "util.download.archive", *map(str, words)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def test_the_command_says_what_is_wrong_and_whose_fault_it_is(place):
    def status(archive, folder):
        run = type_unpack(archive, folder)
        return run.communicate(timeout=60)[1], run.returncode

    assert status(write_tar(place / "good", GOOD), place / "home/set") == ("", 0)
    text, code = status(write_tar(place / "evil", GOOD, ("../evil", b"")), place / "home/two")
    assert (text, code) == ("error: '../evil' leads out of the folder\n", 3)
    text, code = status(place / "absent", place / "home/two")
    assert code == 1
    assert "No such file" in text


def test_a_stopped_run_leaves_nothing_or_all(place):
    with zipfile.ZipFile(place / "archive", "w") as archive:
        for i in range(6_000):
            archive.writestr(f"set/{i}.png", b"%d" % i)
    run = type_unpack(place / "archive", place / "home/set")
    deadline = time.monotonic() + 30
    while not list((place / "home").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.005)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=60)
    if run.returncode == 0:
        assert len(snapshot(place / "home")) == 6_001
    else:
        assert run.returncode == 143
        assert snapshot(place / "home") == {}


def test_an_archive_of_endless_files_is_refused(place, monkeypatch):
    monkeypatch.setattr("util.download.archive.MOST_FILES", 5)
    archive = write_tar(place / "archive", *[(f"d/{i}.png", b"x") for i in range(7)])
    with pytest.raises(ArchiveError, match="more than 5 files"):
        unpack(archive, place / "home/set")
    assert snapshot(place / "home") == {}


def test_a_gzip_that_is_no_tar_is_refused(place):
    (place / "archive").write_bytes(gzip.compress(b"text" * 999))
    with pytest.raises(ArchiveError, match="is broken"):
        unpack(place / "archive", place / "home/set")
