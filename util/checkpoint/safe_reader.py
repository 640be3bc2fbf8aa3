"""Read a file that torch.save wrote, if it holds tensors and plain values only; none of its code runs.

`torch.load(weights_only=True)` does the reading. What it leaves open is settled before: the file's index and pickle are
walked through without making any object, so that a file can neither ask for more memory than its own size, nor have a
tensor outside of its data, nor take endless time. Each refusal says what the file seems to be and what to do.
"""

from __future__ import annotations

import io
import os
import pickletools
import re
import stat
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch

from util.errors import UserError, printable

MAX_PICKLE = 8 << 20  # bytes
MAX_OPCODES = 300_000  # of some 10,000 tensors
MAX_TUPLE = 100_000  # values in a tuple and in those inside of it, each counted as often as it is met
MAX_DEPTH = 50
LOOK_BACK = 20  # values between a tensor's name and its data, in a pickle
DOS_FOLDER = 0x10
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # begins what PyTorch before 1.6 wrote

# What a pickle may ask for: all that a state dict, or the state of an optimizer, needs.
REBUILDS = {f"torch._utils._rebuild_{name}" for name in ("tensor", "tensor_v2", "tensor_v3")}
REBUILDS_AS = {"torch._utils._rebuild_tensor_v3"}  # names its type itself, for those that have no storage of their own
GLOBALS = {"collections.OrderedDict", "torch._utils._rebuild_parameter", "torch.Size", "torch.device"} | REBUILDS
GLOBALS |= {str(value) for value in vars(torch).values() if isinstance(value, torch.dtype)}
ITEMSIZE = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "ComplexDouble": 16, "ComplexFloat": 8}
ITEMSIZE |= {"Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1, "Untyped": 1}
STORAGE = re.compile(rf"torch\.(?:cuda\.|storage\.)?({'|'.join(ITEMSIZE)})Storage")
OPCODES = set(
    "PROTO STOP MARK GLOBAL REDUCE BUILD BINPERSID NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
    "BINUNICODE SHORT_BINSTRING EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 BINGET LONG_BINGET BINPUT LONG_BINPUT".split()
)

UNPACK = "it is a packed archive; unpack it, and use the .pth file inside"
RESAVE = "where it was made, torch.save(net.state_dict(), FILE) writes the weights alone"
# How other files begin, what they are, and what to do.
KINDS = (
    (rb"\s*<", "it is a web page, not a network; download it again"),
    (rb"version https://git-lfs", "it is Git LFS's note of where the file is; `git lfs pull` fetches the file itself"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", UNPACK),
    (rb".{257}ustar", f"{UNPACK} (PyTorch of 2016 wrote such archives, too: save it again with PyTorch 1.0)"),
    (
        rb".{6}\0\0\s*\{",
        "it is a safetensors file; torch.save(safetensors.torch.load_file(IT), FILE) turns it into ours",
    ),
    (rb"\x89HDF", "it is an HDF5 file, of Keras perhaps, not of PyTorch"),
    (rb"\x93NUMPY", "it is a NumPy array, not a network"),
    (rb"GGUF", "it is a GGUF file of a language model, not a network of PyTorch's"),
    (
        rb"\x08[\0-\x20]\x12.(pytorch|onnx)|.{,60}onnx",
        "it is an ONNX file; the .pth file that it was made from is needed",
    ),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF", "it is a picture, not a network"),
    (rb"[\t\n\r -~]{16}", "it is text, not a network; download it again"),
)


class _Refused(Exception):
    """Why a file is not loaded."""


def read(path: Path | str, peek: bool = False):
    """Load a file of tensors and plain values on the CPU, running none of its code.

    `peek` leaves the tensors on the disk until they are used. Raises UserError, naming the file and saying what it
    seems to be, if it is damaged or holds anything else.
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
        reason = str(error) if isinstance(error, _Refused) else "it is damaged, cut short, or no PyTorch file"
        raise UserError(f"{path} can't be loaded as PyTorch weights: {reason}") from error


def shown(name: object) -> str:
    """Return a name out of a file so that it can't fill or steer a terminal."""
    return printable(name if len(str(name)) <= 80 else f"{str(name)[:60]}...")


# ---- before loading ----


def _inspect(file: BinaryIO, size: int, peek: bool) -> bool:
    """Refuse what is no file of tensors and plain values; return whether it is a zip archive, as since PyTorch 1.6."""
    head = file.read(512)
    file.seek(0)
    if not head:
        raise _Refused("it is empty")
    if head.startswith(b"PK\x03\x04"):
        _inspect_zip(file, size, peek)
        return True
    for pattern, kind in KINDS:
        if re.match(pattern, head, re.DOTALL):
            raise _Refused(kind)
    pickles = io.BytesIO(file.read(MAX_PICKLE))
    if _scan(pickles) != LEGACY_MAGIC:
        raise _Refused("it is no file that torch.save wrote")
    storages: dict[str, _Storage] = {}
    for _ in range(4):  # version, system, value, and the order of the data that follow
        begin = pickles.tell()
        _scan(pickles, storages)
    needed = pickles.tell() + sum(storage.size + 8 for storage in storages.values())
    if needed > size:
        raise _Refused(f"it is cut short: it should have {needed:,} bytes and has {size:,}; copy or download it again")
    pickles.seek(begin)
    missing = storages.keys() - {arg for _, arg, _ in pickletools.genops(pickles)}
    if missing:  # torch takes whatever is in memory for their data
        raise _Refused(f"the data{storages[missing.pop()].at} are missing; copy or download it again")
    return False


def _inspect_zip(file: BinaryIO, size: int, peek: bool) -> None:
    try:
        infos = zipfile.ZipFile(file).infolist()
    except zipfile.BadZipFile as error:
        raise _Refused("it is damaged, cut short perhaps; copy or download it again") from error
    names = [info.orig_filename for info in infos]
    folder = names[0].split("/")[0] + "/" if names else ""
    if len({name.lower() for name in names}) < len(names):
        raise _Refused("it has an entry twice, which torch.save never writes")
    index = [info for info in infos if info.orig_filename == f"{folder}data.pkl"]
    if f"{folder}constants.pkl" in names or any(name.startswith(f"{folder}code/") for name in names):
        raise _Refused(f"it is a TorchScript program, not weights; {RESAVE}")
    if len(index) != 1:
        inside = ", ".join(map(shown, names[:3]))
        packed = [name for name in names if name.endswith((".pth", ".pt"))]
        raise _Refused(UNPACK if packed else f"it is a zip archive (of {inside}), not a network")
    if any(info.compress_type or info.flag_bits & 1 or info.file_size != info.compress_size for info in infos):
        raise _Refused("its entries are compressed or encrypted, which torch.save never does; unpack and save it again")
    if any(info.external_attr & DOS_FOLDER for info in infos):  # torch takes whatever is in memory for its data
        raise _Refused("it has a folder for an entry: it is damaged")
    if sum(info.file_size for info in infos) > size:
        raise _Refused("its entries are larger than itself: it is damaged, or made to fill the memory")
    if index[0].file_size > MAX_PICKLE:
        raise _Refused(f"its index is of {index[0].file_size:,} bytes, far more than a network needs")
    _inspect_entries(file, infos, index[0], peek)


def _inspect_entries(file: BinaryIO, infos: list[zipfile.ZipInfo], index: zipfile.ZipInfo, peek: bool) -> None:
    """Refuse what the pickle asks for, and data that are missing, cut or damaged."""
    damaged = "are damaged; copy or download it again"
    if _checksum(file, index) != index.CRC:
        raise _Refused(f"its names and shapes {damaged}")
    _seek(file, index)
    storages: dict[str, _Storage] = {}
    _scan(io.BytesIO(file.read(index.file_size)), storages)
    folder = index.orig_filename.removesuffix("data.pkl")
    needed = {f"{folder}data/{key}": storage for key, storage in storages.items()}
    for name in needed.keys() - {info.orig_filename for info in infos}:
        raise _Refused(f"the data{needed[name].at} are missing; copy or download it again")
    for info in infos:
        storage = needed.get(info.orig_filename)
        if storage and info.file_size < storage.size:
            raise _Refused(f"the data{storage.at} are fewer than its shape says; copy or download it again")
        if not peek and _checksum(file, info) != info.CRC:
            raise _Refused(f"the data{storage.at if storage else ''} {damaged}")


def _seek(file: BinaryIO, info: zipfile.ZipInfo) -> None:
    """Go to an entry's content: zipfile itself would not read it where torch.save left out the checksum."""
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


class _Global(str):
    """What a pickle asks for, `module.name`."""


class _Made(str):
    """What calling a global of this name gave."""


class _Storage(NamedTuple):
    """The data of tensors."""

    size: int  # bytes
    itemsize: int
    at: str  # for which key


class _Tuple(tuple):
    """A tuple that knows how many values are in it, all in all: hashing it would visit each."""

    def __new__(cls, values):
        self = super().__new__(cls, values)
        self.size = 1 + sum(value.size if isinstance(value, _Tuple) else 1 for value in values)
        if self.size > MAX_TUPLE:
            raise _Refused("its tuples hold each other many times over: it is made to take endless time")
        return self


def _scan(file: BinaryIO, storages: dict[str, _Storage] | None = None):
    """Walk through the next pickle of a file without making its objects; return its value if that is a number.

    What its tensors' data are is put into `storages`. Raises _Refused for what no state dict holds.
    """
    mark, stack, memo, odd, made = object(), [], {}, None, None
    for count, (op, arg, _) in enumerate(pickletools.genops(file)):
        taken: list = []  # from the stack, without the mark
        for kind in reversed(op.stack_before):
            while kind is pickletools.stackslice and stack[-1] is not mark:
                taken.append(stack.pop())
            if kind is not pickletools.stackslice and (item := stack.pop()) is not mark:
                taken.append(item)
        taken.reverse()
        made = taken[0] if taken else arg  # BUILD, SETITEMS and others leave the thing that they add to
        if op.name in ("BINPUT", "LONG_BINPUT"):
            memo[arg] = stack[-1]
        elif op.name == "MEMOIZE":
            memo[len(memo)] = made
        elif op.name in ("BINGET", "LONG_BINGET"):
            made = memo[arg]
        elif op.name == "MARK":
            made = mark
        elif op.name.startswith(("TUPLE", "EMPTY_TUPLE")):
            made = _Tuple(taken)
        elif op.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
            made = _Global(".".join(taken) if op.name == "STACK_GLOBAL" else arg.replace(" ", "."))
            _check_global(made, stack)
        elif op.name == "BINPERSID":
            made = _storage(made, storages, _at(stack))
        elif op.name == "REDUCE":
            made = _call(*taken, stack)
        elif op.name == "BUILD" and made != _Made("collections.OrderedDict"):
            raise _Refused(f"it sets the insides of a {shown(made or 'value')}{_at(stack)}, as no state dict does")
        elif op.name == "LONG1" and storages is not None and arg.bit_length() > 64:
            raise _Refused(f"it has a number of {arg.bit_length()} bits{_at(stack)}")
        if count > MAX_OPCODES:
            raise _Refused(f"its pickle has more than {MAX_OPCODES:,} operations, far more than a network needs")
        if op.name not in OPCODES:
            odd = odd or op.name
        stack.extend([made] * len(op.stack_after))
    if odd:
        raise _Refused(f"its pickle has {odd}, which torch.save does not write; save it again, without pickle_protocol")
    return made


def _at(stack: list) -> str:
    """Say for which key the value on top of the stack would be."""
    key = next((item for item in stack[: -(LOOK_BACK + 1) : -1] if type(item) is str), None)
    return "" if key is None else f" at {shown(key)}"


def _check_global(name: _Global, stack: list) -> None:
    if name not in GLOBALS and not STORAGE.fullmatch(name):
        raise _Refused(
            f"it holds more than tensors and plain values ({shown(name)}{_at(stack)}), which is not loaded for safety. "
            f"If it is a whole network that you trust: {RESAVE}"
        )


def _storage(identity: _Tuple, storages: dict[str, _Storage], at: str) -> _Storage:
    """Note a tensor's data: `("storage", type, key, location, count)`, and before 0.4 which part of them it is."""
    word, kind, key, _, count, *view = identity
    itemsize = ITEMSIZE[STORAGE.fullmatch(kind)[1]]
    whole = _Storage(count * itemsize, itemsize, at)
    storages[key] = max(storages.get(key, whole), whole)
    if view and view[0] is not None:
        _, offset, part = view[0]
        if not 0 <= offset <= offset + part <= count:
            raise _Refused(f"the data{at} reach outside of what they are a part of")
        count = part
    if word != "storage" or count < 0:
        raise _Refused(f"the data{at} are none: {shown(word)} of {count}")
    return whole._replace(size=count * itemsize)


def _call(function: _Global, values: _Tuple, stack: list) -> _Made:
    """Refuse all calls but those that make a dictionary, or a tensor that lies in its data and has none twice."""
    if not isinstance(function, _Global) or STORAGE.fullmatch(function):
        raise _Refused(f"it calls {shown(function)}{_at(stack)}, as no state dict does")
    if function in REBUILDS:
        storage, offset, size, stride = values[:4]
        itemsize = getattr(torch, values[6].removeprefix("torch.")).itemsize if function in REBUILDS_AS else None
        itemsize = itemsize or storage.itemsize
        inside, reach = min(offset, *size, *stride, 0) >= 0, 0
        for step, n in sorted((step, n) for n, step in zip(size, stride, strict=True) if n > 1):
            inside &= step > reach  # or two elements were in one place
            reach += (n - 1) * step
        if 0 not in size and not (inside and (offset + reach + 1) * itemsize <= storage.size):
            text = "reaches outside of its data, or has some twice: it is damaged, or made to do harm"
            raise _Refused(f"the tensor{_at(stack)} {text}")
    return _Made(function)


# ---- after loading ----


def _plain(value, name: str | int | None = None, made: dict | None = None, depth: int = 0):
    """Copy dictionaries and lists that hold plain values and tensors, as such; refuse what else may be in them."""
    made = {} if made is None else made  # by identity: what is met twice, or inside itself, is copied once
    if id(value) in made:
        return made[id(value)]
    if depth > MAX_DEPTH:
        raise _Refused(f"its values are nested in each other more than {MAX_DEPTH} times")
    if isinstance(value, torch.Tensor):
        copy = made[id(value)] = value.detach()  # leaves behind what else came with it: hooks, attributes
        return copy
    if isinstance(value, dict):
        copy = made[id(value)] = {}
        for key, item in dict.items(value):  # an OrderedDict may bring an `items` of its own
            if type(key) not in (str, int):
                raise _Refused(f"it has {shown(repr(key))} for a name")
            copy[key] = _plain(item, key, made, depth + 1)
        return copy
    if type(value) is list:
        copy = made[id(value)] = []
        copy.extend(_plain(item, name, made, depth + 1) for item in value)
        return copy
    if isinstance(value, tuple):
        copy = made[id(value)] = tuple(_plain(item, name, made, depth + 1) for item in value)
        return copy
    if value is None or type(value) in (bool, int, float, str, torch.dtype, torch.device):
        return value
    at = "" if name is None else f" at {shown(name)}"
    raise _Refused(f"it holds more than tensors and plain values (a {type(value).__name__}{at})")
