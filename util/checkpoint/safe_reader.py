"""Read a file that torch.save wrote, if it holds only tensors and plain values; none of its code runs.

`torch.load(weights_only=True)` reads it. Its gaps are closed first: the file's index and pickle are scanned without
making any object. So a file can neither ask for more memory than its own size, nor place a tensor outside of its data,
nor take endless time. Each error says what the file seems to be and what to do.
"""

from __future__ import annotations

import io
import os
import pickletools
import stat
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import torch

from util.checkpoint.pickle_scan import RESAVE, Refused, Scan, Storage
from util.errors import UserError, printable_name
from util.runtime.file_kinds import HEAD, kind_of

MAX_PICKLE = 8 << 20  # bytes
MAX_DEPTH = 50
DOS_FOLDER = 0x10
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # begins the files of PyTorch before 1.6

UNPACK = "unpack it, and use the .pth file inside"
ADVICE = {
    "a web page": "download it again",
    "an XML file": "download it again",
    "text": "download it again",
    "a Git LFS pointer": "`git lfs pull` fetches the file itself",
    "a gzip archive": UNPACK,
    "a bzip2, xz, 7z, rar or zstd archive": UNPACK,
    "a tar archive": f"{UNPACK} (PyTorch of 2016 also wrote such archives: save it again with PyTorch 1.0)",
    "a safetensors file": "torch.save(safetensors.torch.load_file(IT), FILE) converts it",
    "an ONNX file": "use the .pth file that it was made from",
}


def read(path: Path | str, peek: bool = False):
    """Load a file of tensors and plain values on the CPU, running none of its code.

    `peek` leaves the tensors on the disk until they are used. Raises UserError with the file's name and its likely kind
    if it is damaged or holds anything else.
    """
    path = Path(path)
    if not stat.S_ISREG(path.stat().st_mode):
        raise UserError(f"{path} can't be loaded: it is {'a folder' if path.is_dir() else 'no ordinary file'}")
    try:
        with path.open("rb") as file:
            is_zip = _inspect(file, os.fstat(file.fileno()).st_size, peek)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            utf8 = str(path) == str(path).encode(errors="replace").decode()  # torch maps files of no other name
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=peek and is_zip and utf8)
        return _plain(value)
    except OSError as error:
        if error.filename is None:
            raise UserError(f"{path} can't be read: {error.strerror or error}") from error
        raise
    except Exception as error:  # torch raises many kinds, whose texts advise to load without the safety
        reason = str(error) if isinstance(error, Refused) else "it is damaged, cut short, or no PyTorch file"
        raise UserError(f"{path} can't be loaded as PyTorch weights: {reason}") from error


# ---- before loading ----


def _inspect(file: BinaryIO, size: int, peek: bool) -> bool:
    """Refuse all files but those of tensors and plain values; return whether it is a zip, as since PyTorch 1.6."""
    head = file.read(HEAD)
    file.seek(0)
    if not head:
        raise Refused("it is empty")
    kind = kind_of(head)
    if kind == "a zip archive":
        _inspect_zip(file, size, peek)
        return True
    if kind:
        raise Refused("; ".join(filter(None, (f"it is {kind}, not a network", ADVICE.get(kind)))))
    pickles, scan = io.BytesIO(file.read(MAX_PICKLE)), Scan()
    if scan.next_pickle(pickles, long_numbers=True) != LEGACY_MAGIC:
        raise Refused("it is no file that torch.save wrote")
    for _ in range(4):  # version, system, value, and the order of the data that follow
        begin = pickles.tell()
        scan.next_pickle(pickles)
    needed = pickles.tell() + sum(storage.size + 8 for storage in scan.storages.values())
    if needed > size:
        raise Refused(f"it is cut short: it should have {needed:,} bytes and has {size:,}; copy or download it again")
    pickles.seek(begin)
    missing = scan.storages.keys() - {arg for _, arg, _ in pickletools.genops(pickles)}
    if missing:  # torch would use uninitialized memory for their data
        raise Refused(f"the data{scan.storages[missing.pop()].at} are missing; copy or download it again")
    return False


def _inspect_zip(file: BinaryIO, size: int, peek: bool) -> None:
    try:
        infos = zipfile.ZipFile(file).infolist()
    except zipfile.BadZipFile as error:
        raise Refused("it is damaged, cut short perhaps; copy or download it again") from error
    names = [info.orig_filename for info in infos]
    folder = names[0].split("/")[0] + "/" if names else ""
    if len({name.lower() for name in names}) < len(names):
        raise Refused("it has an entry twice, which torch.save never writes")
    index = [info for info in infos if info.orig_filename == f"{folder}data.pkl"]
    if f"{folder}constants.pkl" in names or any(name.startswith(f"{folder}code/") for name in names):
        raise Refused(f"it is a TorchScript program, not weights; {RESAVE}")
    if len(index) != 1:
        inside = ", ".join(map(printable_name, names[:3]))
        advice = f"; {UNPACK}" if any(name.endswith((".pth", ".pt")) for name in names) else ""
        raise Refused(f"it is a zip archive (of {inside}), not a network{advice}")
    if any(info.compress_type or info.flag_bits & 1 or info.file_size != info.compress_size for info in infos):
        raise Refused("its entries are compressed or encrypted, which torch.save never does; unpack and save it again")
    if any(info.external_attr & DOS_FOLDER for info in infos):  # torch would use uninitialized memory for its data
        raise Refused("it has a folder for an entry: it is damaged")
    if sum(info.file_size for info in infos) > size:
        raise Refused("its entries are larger than itself: it is damaged, or made to fill the memory")
    if index[0].file_size > MAX_PICKLE:
        raise Refused(f"its index has {index[0].file_size:,} bytes, far more than a network needs")
    _inspect_entries(file, infos, index[0], peek)


def _inspect_entries(file: BinaryIO, infos: list[zipfile.ZipInfo], index: zipfile.ZipInfo, peek: bool) -> None:
    """Scan the pickle, and refuse data that are missing, cut or damaged."""
    damaged = "are damaged; copy or download it again"
    if _checksum(file, index) != index.CRC:
        raise Refused(f"its names and shapes {damaged}")
    _seek(file, index)
    scan = Scan()
    scan.next_pickle(io.BytesIO(file.read(index.file_size)))
    folder = index.orig_filename.removesuffix("data.pkl")
    needed: dict[str, Storage] = {f"{folder}data/{key}": storage for key, storage in scan.storages.items()}
    for name in needed.keys() - {info.orig_filename for info in infos}:
        raise Refused(f"the data{needed[name].at} are missing; copy or download it again")
    for info in infos:
        storage = needed.get(info.orig_filename)
        if storage and info.file_size < storage.size:
            raise Refused(f"the data{storage.at} are fewer than its shape says; copy or download it again")
        if not peek and _checksum(file, info) != info.CRC:
            raise Refused(f"the data{storage.at if storage else ''} {damaged}")


def _seek(file: BinaryIO, info: zipfile.ZipInfo) -> None:
    """Go to an entry's content; zipfile itself would not read it where torch.save left out the checksum."""
    file.seek(info.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    file.seek(name + extra, os.SEEK_CUR)


def _checksum(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return the CRC-32 of an entry's content, 0 where torch.save left it out (`set_crc32_options(False)`)."""
    _seek(file, info)
    crc, left = 0, info.file_size if info.CRC else 0
    while left and (block := file.read(min(left, 1 << 20))):
        crc, left = zlib.crc32(block, crc), left - len(block)
    return crc


# ---- after loading ----


def _plain(value, name: str | int | None = None, copies: dict | None = None, depth: int = 0):
    """Copy dictionaries and lists of plain values and tensors; refuse all other values inside them."""
    copies = {} if copies is None else copies  # by identity: a value that occurs twice, or in itself, is copied once
    if id(value) in copies:
        return copies[id(value)]
    if depth > MAX_DEPTH:
        raise Refused(f"its values are nested in each other more than {MAX_DEPTH} times")
    if isinstance(value, torch.Tensor):
        copy = copies[id(value)] = value.detach()  # without hooks and attributes
        return copy
    if isinstance(value, dict):
        copy = copies[id(value)] = {}
        for key, item in dict.items(value):  # an OrderedDict may bring its own `items`
            if type(key) not in (str, int):
                raise Refused(f"it has {printable_name(repr(key))} for a name")
            copy[key] = _plain(item, key, copies, depth + 1)
        return copy
    if type(value) is list:
        copy = copies[id(value)] = []
        copy.extend(_plain(item, name, copies, depth + 1) for item in value)
        return copy
    if isinstance(value, tuple):
        copy = copies[id(value)] = tuple(_plain(item, name, copies, depth + 1) for item in value)
        return copy
    if value is None or type(value) in (bool, int, float, str, torch.dtype, torch.device):
        return value
    at = "" if name is None else f" at {printable_name(name)}"
    raise Refused(f"it holds more than tensors and plain values (a {type(value).__name__}{at})")
