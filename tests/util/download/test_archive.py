"""Archives from strangers: sound ones are unpacked whole, hostile ones are refused and leave nothing."""

from __future__ import annotations

import os
import stat
import struct
import tarfile
import zipfile
from functools import partial

import pytest

from util.download.archive import unpack
from util.download.transfer import ContentError

GOOD = ("d/train/1.png", b"image")
LINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE


def write_tar(path, *members):
    """Write a tar.gz of (name or TarInfo, data); the TarInfo may claim anything."""
    with tarfile.open(path, "w:gz") as archive:
        for info, data in members:
            if isinstance(info, str):
                info = special(info, tarfile.REGTYPE, size=len(data))
            archive.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))
            archive.fileobj.write(data + bytes(-len(data) % 512))
    return path


def special(name, kind, target="", size=0):
    """A member of a tar that is no plain file, or lies about its size."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.devmajor, info.devminor = kind, target, size, 1, 3
    return info


def write_zip(path, *members):
    """Write a zip of (name, data) files that claim every mode; names as they are."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            info = zipfile.ZipInfo("placeholder")
            info.filename = info.orig_filename = name
            info.external_attr = 0o104777 << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


def changed_zip(path, offset, value):
    """Write a zip, and overwrite two bytes (four beyond offset 20) of the last entry in its directory."""
    data = bytearray(write_zip(path, GOOD, ("d/2.png", b"tick")).read_bytes())
    struct.pack_into("<i" if offset > 20 else "<H", data, data.rindex(b"PK\x01\x02") + offset, value)
    path.write_bytes(data)


def of(write, *members):
    """A function that writes an archive of the members at a path."""
    return lambda path: write(path, *members)


NAMES = ("../evil", "../../outside/evil", "/tmp/evil_unpack", "d/" + "n" * 300)
TARS = {
    "a device": [(special("d/special", tarfile.CHRTYPE), b"")],
    "a pipe": [(special("d/special", tarfile.FIFOTYPE), b"")],
    "a link out of it": [(special("link", LINK, "../../outside/secret"), b"")],
    "a hard link out of it": [(special("link", HARD, "/etc/hostname"), b"")],
    "a file written through a link": [(special("d/out", LINK, "../../outside"), b""), ("d/out/evil", b"evil")],
    "the same name twice": [("./d//train/./1.png", b"evil")],
    "a bomb": [("d/bomb", bytes(60_000_000))],
    "a size beyond all": [(special("d/1.png", tarfile.REGTYPE, size=2**60), b"few")],
    "a name of 20 MB": [(special("././@LongLink", b"L", size=2 * 10**7), b"n" * 2 * 10**7), GOOD],
}
HOSTILE = {
    **{f"a zip of {name}": of(write_zip, GOOD, (name, b"evil")) for name in NAMES},
    **{f"a tar of {name}": of(write_tar, GOOD, (name, b"evil")) for name in NAMES},
    **{f"a tar with {name}": of(write_tar, GOOD, *members) for name, members in TARS.items()},
    "a zip of bombs": of(write_zip, *((f"d/{i}", bytes(9_000_000)) for i in range(4))),
    "encrypted": partial(changed_zip, offset=8, value=1),
    "a directory that points before the file": partial(changed_zip, offset=42, value=-9_999),
    "only folders": of(write_tar, (special("d", tarfile.DIRTYPE), b"")),
    "only empty files": of(write_zip, ("d/1.png", b"")),
    "a gzip of no tar": lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(999)),
    "text": lambda path: path.write_bytes(b"text"),
}


@pytest.fixture
def place(tmp_path):
    """A folder `home` to unpack into, with a neighbour that must stay as it is."""
    (tmp_path / "home").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    return tmp_path


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(place, case):
    archive = place / "home/archive"
    HOSTILE[case](archive)
    before = snapshot(place)
    with pytest.raises(ContentError):
        unpack(archive, place / "home/set")
    assert snapshot(place) == before
    assert not os.path.lexists("/tmp/evil_unpack")


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_an_archive_cut_or_changed_anywhere_is_refused(place, write):
    noise = os.urandom(4_000)
    archive = write(place / "archive", ("d/1.png", noise), ("d/2.png", noise[:999]))
    whole = archive.read_bytes()
    changed = [whole[: len(whole) * part // 20] for part in range(20)]
    changed += [whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :] for at in range(100, 4_000, 197)]
    for data in changed:
        archive.write_bytes(data)
        with pytest.raises(ContentError):
            unpack(archive, place / "home/set")
    assert snapshot(place / "home") == {}


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["set/train/1.png", "set/val/2.png"], ["train/1.png", "val/2.png"]),
        (["./other/trainA/1.png", "./other/trainB/a b é.png"], ["trainA/1.png", "trainB/a b é.png"]),
        (["set/train/1.png", "__MACOSX/set/1.png", "README"], ["train/1.png"]),
    ],
)
def test_the_folder_has_the_same_files_however_the_archive_wraps_them(place, write, names, expected):
    unpack(write(place / "archive", *((name, name.encode()) for name in names)), place / "home/set")
    files = {name: data for name, data in snapshot(place / "home/set").items() if data is not None}
    assert sorted(files) == sorted(expected)
    assert all(data.decode().endswith(name) for name, data in files.items())
    assert os.listdir(place / "home") == ["set"]  # noqa: PTH208 (hidden files count)


def test_links_become_copies_and_modes_are_ignored(place):
    unpack(write_tar(place / "tar", GOOD, (special("d/soft", LINK, "train/1.png"), b"")), place / "home/tar")
    path = place / "home/tar/soft"
    assert (path.read_bytes(), path.is_symlink()) == (b"image", False)
    unpack(write_zip(place / "zip", ("d/1.png", b"x")), place / "home/zip")
    assert stat.S_IMODE((place / "home/zip/1.png").stat().st_mode) & 0o7111 == 0


def test_an_existing_folder_gets_only_the_entries_that_it_lacks(place):
    (place / "home/set/train").mkdir(parents=True)
    (place / "home/.set.unpacking/d").mkdir(parents=True)
    (place / "home/.set.unpacking/d/half").write_text("left by a killed run")
    unpack(write_tar(place / "archive", GOOD, ("d/val/2.png", b"new")), place / "home/set")
    assert snapshot(place / "home") == {"set": None, "set/train": None, "set/val": None, "set/val/2.png": b"new"}


def test_a_full_disk_is_no_fault_of_the_archive(place, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    archive = write_zip(place / "archive", GOOD)
    monkeypatch.setattr("util.download.archive.Path.mkdir", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(archive, place / "home/set")
    assert snapshot(place / "home") == {}
