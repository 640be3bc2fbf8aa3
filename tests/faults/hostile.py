"""Files that are no honest checkpoints: pickles that call, tensors outside of their data, bombs, files of other kinds.

Pickles are put together from opcodes, so that nothing that they ask for need be here, and nothing of it runs here.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import pickle
import pickletools
import struct
import warnings
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from file_server import tar_of, zip_of

CANARY = "executed"  # a file that a pickle leaves if it runs, in the current folder
PROTO, STOP = b"\x80\x02", b"."
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
REFUSED = r"more than tensors and plain values \({}"
OTHER = "another architecture|does not fit"  # read well, but no network's weights

# ---- pickles ----


def name(title: str) -> bytes:
    """Ask for `module.attribute`."""
    module, _, attribute = title.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def row(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def call(title: str, *words: str) -> bytes:
    return name(title) + row(*map(word, words)) + b"R"


def in_dict(value: bytes, key: bytes | None = None) -> bytes:
    """Put a value where a weight belongs in a state dict."""
    return PROTO + name("collections.OrderedDict") + b")R" + (word("0.weight") if key is None else key) + value + b"s."


def archive(data_pkl: bytes, *entries: tuple[str, bytes], storage: bytes = bytes(16), tamper=None) -> bytes:
    """Return a file as torch.save writes it since PyTorch 1.6; `tamper(zip)` changes its directory."""
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w") as archive:
        own = (("data.pkl", data_pkl), ("byteorder", b"little"), ("data/0", storage), ("version", b"3\n"))
        for title, content in own:
            archive.writestr(zipfile.ZipInfo(f"archive/{title}"), content)
        for title, content in entries:
            archive.writestr(zipfile.ZipInfo(title), content)
        if tamper:
            tamper(archive)
    return box.getvalue()


def legacy(value=None, magic=None, version=None, info=None, keys=None, data: bytes = b"") -> bytes:
    """Return a file as PyTorch wrote it before 1.6, each of its five pickles replaceable."""
    empty = PROTO + b"}."
    pickles = (
        magic or pickle.dumps(MAGIC, 2),
        version or pickle.dumps(VERSION, 2),
        info or empty,
        value or empty,
        keys or PROTO + b"].",
    )
    return b"".join(pickles) + data


def saved(value, zipped: bool = True) -> bytes:
    """Return what torch.save writes; of the format before 1.6 the same bytes in every process."""
    if zipped:
        box = io.BytesIO()
        torch.save(value, box)
        return box.getvalue()
    box, storages = io.BytesIO(), {}
    pickler = pickle.Pickler(box, 2)

    def identify(item):
        if not isinstance(item, torch.storage.TypedStorage):
            return None
        number = storages.setdefault(item._untyped_storage.data_ptr(), (len(storages), item))[0]
        return "storage", getattr(torch, item._pickle_storage_type()), str(number), "cpu", item._size(), None

    pickler.persistent_id = identify
    pickler.dump(value)
    data = b"".join(struct.pack("<q", item._size()) + bytes(item._untyped_storage) for _, item in storages.values())
    return legacy(box.getvalue(), keys=pickle.dumps([str(number) for number, _ in storages.values()], 2), data=data)


def pickles_end(content: bytes) -> int:
    """Return where the five pickles of a legacy file end."""
    file = io.BytesIO(content)
    for _ in range(5):
        deque(pickletools.genops(file), maxlen=0)
    return file.tell()


def storage(kind="FloatStorage", key=None, place="cpu", count=4, *more: bytes) -> bytes:
    identity = (word("storage"), name(f"torch.{kind}"), word("0") if key is None else key, word(place), number(count))
    return row(*identity, *more) + b"Q"


def tensor(data: bytes | None = None, offset=0, size=(2, 2), stride=(2, 1), rebuild="_rebuild_tensor_v2", more=None):
    """Make a tensor, by default of four floats in storage 0."""
    shape = (row(*map(number, values)) for values in (size, stride))
    rest = b"\x89" + name("collections.OrderedDict") + b")R" if more is None else more
    return name(f"torch._utils.{rebuild}") + row(data or storage(), number(offset), *shape, rest) + b"R"


# ---- what must not run ----

SHELL = f"touch {CANARY}"
PYTHON = f"open({CANARY!r}, 'w')"
CALLS = {
    SHELL: "os.system subprocess.Popen pty.spawn torch.utils.collect_env.run",
    PYTHON: "builtins.eval __builtin__.execfile types.CodeType torch.fx.graph_module._exec_with_source",
    CANARY: "builtins.open shutil.rmtree builtins.getattr builtins.__import__ runpy.run_path ctypes.CDLL marshal.loads "
    "pickle.loads _codecs.encode functools.partial urllib.request.urlopen socket.create_connection "
    "torch.load torch.hub.load torch.storage._load_from_bytes torch.ops.load_library numpy.load torch.nn.Linear "
    "models.networks.define_G builtins.bytearray torch.Tensor torch.UntypedStorage torch._utils._rebuild_qtensor "
    "torch._utils._rebuild_sparse_tensor torch._tensor._rebuild_from_type_v2 torch.serialization._get_layout",
}


def callers() -> Iterator[tuple[str, bytes, str]]:
    """Put each call into one of the places of a file in turn."""
    places: tuple[Callable[[bytes], bytes], ...] = (
        lambda made: archive(in_dict(made)),
        lambda made: legacy(in_dict(made)),
        lambda made: archive(PROTO + made + STOP),
        lambda made: PROTO + made + STOP,
        lambda made: archive(in_dict(made + b"Q")),  # a persistent id
        lambda made: legacy(info=PROTO + made + STOP),
        lambda made: archive(in_dict(tensor(storage(key=made)))),
        lambda made: legacy(keys=PROTO + made + STOP),
        lambda made: archive(in_dict(tensor(more=b"\x89" + made))),  # a hook
        lambda made: legacy(magic=PROTO + made + STOP),
        lambda made: archive(in_dict(b"N", key=made)),
    )
    titles = [(title, argument) for argument, titles in CALLS.items() for title in titles.split()]
    for i, (title, argument) in enumerate(titles):
        made = call(title, argument)
        refused = "calls " if title == "torch.UntypedStorage" else REFUSED.format(title.replace(".", r"\."))
        yield f"call {title}", places[i % len(places)](made), refused


class Calls:
    """Pickles as a call, in any protocol."""

    def __reduce__(self):
        return os.system, (SHELL,)


def opcodes() -> Iterator[tuple[str, bytes, str]]:
    """Use every way to name, make or fill an object that pickles have."""
    system = REFUSED.format(r"(posix|os)\.system")
    for protocol in range(6):
        content = pickle.dumps(Calls(), protocol)
        yield f"protocol {protocol}", archive(content), system
        yield (
            f"protocol {protocol}, bare",
            content,
            system if protocol > 1 else "it is text, not a network|more than tensors",
        )
    shell = word(SHELL)
    by_stack = b"\x8c\x02os\x8c\x06system\x93"
    ways = {
        "STACK_GLOBAL": b"\x80\x04" + by_stack + row(shell) + b"R.",
        "INST": b"(" + shell + b"ios\nsystem\n.",
        "OBJ": b"(" + name("os.system") + shell + b"o.",
        "NEWOBJ": PROTO + name("subprocess.Popen") + row(shell) + b"\x81.",
        "BUILD of __setstate__": in_dict(b"}" + word("__setstate__") + name("os.system") + b"sb" + shell + b"b"),
        "a class for a value": in_dict(name("collections.OrderedDict")),
    }
    for title, content in ways.items():
        yield title, archive(content), REFUSED.format("")
    cut, many, none = "damaged, cut short", "more than 300,000 operations", "holds no state dict"
    build = tensor() + row(storage(), number(9), row(number(9)), row(number(9))) + b"b"
    laugh = [b"(" + b"h%c" % i * 10 for i in range(40)]
    keys = [word(f"k{i}") + b"N" for i in range(30_000)]
    alike = [number(i * (2**61 - 1)) + b"N" for i in range(1, 90_000)]
    strange = {
        "EXT1": (b"\x82\x01.", "its pickle has EXT1"),
        "PERSID": (b"P0\n.", "its pickle has PERSID"),
        "a call of a word": (shell + row() + b"R.", "it calls touch executed"),
        "BUILD of a tensor": (in_dict(build)[2:], "it sets the insides"),
        "BINUNICODE8 of 2^62 bytes": (b"\x8d" + struct.pack("<Q", 2**62) + b"a.", cut),
        "nothing": (b"", cut),
        "four million marks": (b"(" * 4_000_000 + b"t.", many),
        "200,000 lists in a tuple": (b"(" + b"]" * 200_000 + b"t.", "made to take endless time"),
        "lists in lists, 100,000 deep": (b"]" * 100_000 + b"a" * 99_999 + b".", "nested in each other"),
        "a billion laughs": (b"]" + b"".join(b"q%c]" % i + laugh[i] + b"e" for i in range(40)) + b".", "a list"),
        "numbers of one hash": (b"}(" + b"".join(alike) + b"u.", r"number of \d+ bits"),
        "30,000 keys": (b"}(" + b"".join(keys) + b"u.", rf"{none} .*k0, k1, k2, k3, k4, \.\.\."),
    }
    for title, (content, pattern) in strange.items():
        yield title, archive(PROTO + content), pattern


# ---- tensors and state dicts ----


def tensors() -> Iterator[tuple[str, bytes, str]]:
    """Make tensors that lie outside of their data, or are none that a network has."""
    outside = "tensor at 0.weight reaches outside"
    shapes = {
        "larger than its data": {"size": (2, 3)},
        "an offset past its data": {"offset": 1},
        "a size of 2^63 elements": {"size": (2**31 - 1, 2**31 - 1, 4), "stride": (0, 0, 0)},
        "one value stretched over terabytes": {"size": (2**20, 2**20), "stride": (0, 0)},
        "the old way": {"size": (9,), "stride": (9,), "rebuild": "_rebuild_tensor", "more": b""},
        "of another type than its data": {"rebuild": "_rebuild_tensor_v3", "more": b"\x89}" + name("torch.float64")},
    }
    for title, changes in shapes.items():
        made = in_dict(tensor(**changes))
        yield f"a tensor {title}", archive(made), outside
        keys, data = PROTO + b"]" + word("0") + b"a.", struct.pack("<q", 4) + bytes(16)
        yield f"a tensor {title}, legacy", legacy(made, keys=keys, data=data), outside

    def view(offset, size):
        return storage("FloatStorage", None, "cpu", 4, row(word("1"), number(offset), number(size)))

    data = {
        "more data than there are": (storage(count=5), "fewer than its shape says"),
        "data that are missing": (storage(key=word("7")), "data at 0.weight are missing"),
        "data outside of the archive": (storage(key=word("../../../../etc/passwd")), "are missing"),
        "a view outside of its data": (view(3, 2), "outside of the data that they are a part of"),
    }
    for title, (made, pattern) in data.items():
        yield title, archive(in_dict(tensor(made))), pattern
    yield "data that never come, legacy", legacy(in_dict(tensor()), data=bytes(24)), "the data at 0.weight are missing"


def state_dicts(state: dict) -> Iterator[tuple[str, bytes, str]]:
    """Save what users save by mistake, and what no network has."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(net.parameters())
    none = "holds no state dict"
    values = {
        "a whole network": (net, REFUSED.format(r"torch\.nn\.modules\..*torch\.save\(net\.state_dict")),
        "another program's checkpoint": (
            {"epoch": 3, "state_dict": state, "optimizer": optimizer.state_dict()},
            rf"{none}.*holds epoch, state_dict, optimizer\..*\['state_dict'\]",
        ),
        "nothing": ({}, f"{none}.*holds nothing"),
        "a list": ([torch.ones(2)], f"{none}.*holds a list"),
        "numbers for keys": ({1: torch.ones(2)}, none),
        "keys that steer a terminal": ({"a\n\x1b[2Jb": torch.ones(2)}, r"a\\n\\x1b\[2Jb|does not fit"),
        "a key of endless prefixes": ({"module." * 100_000: torch.ones(2)}, OTHER),
        "a number for a weight": ({**state, next(iter(state)): 3}, rf"{OTHER}|weight"),
        "weights of other shapes": ({k: torch.ones(7) for k in state}, OTHER),
    }  # fmt: skip
    for title, (value, pattern) in values.items():
        yield title, saved(value), pattern
    yield "a whole network, legacy", saved(net, zipped=False), REFUSED.format(r"torch\.nn\.modules")


def welcome(state: dict) -> Iterator[tuple[str, bytes, str]]:
    """Write a state dict in unusual ways that load; the text is the expected warning, if any."""
    first = next(iter(state))
    yield "legacy", saved(state, zipped=False), ""
    yield "of 2017 and Python 2", python2(state), ""
    yield "a plain dictionary", saved(dict(state)), ""
    torch.serialization.set_crc32_options(False)
    yield "without checksums", saved(state), ""
    torch.serialization.set_crc32_options(True)
    yield "parameters", saved({k: nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()}), ""
    for dtype in ("bfloat16", "float64", "complex64", "bool", "float8_e4m3fn"):
        yield dtype, saved({**state, first: torch.zeros_like(state[first], dtype=getattr(torch, dtype))}), ""
    yield "NaN", saved({**state, first: state[first] * float("nan")}), f"{first} has values that are not finite"
    for place in ("cuda:7", "mps", "privateuseone"):
        here, there = word("cpu"), word(place)
        yield f"of {place}", repickled(saved(state), lambda p, here=here, there=there: p.replace(here, there)), ""
        yield f"of {place}, legacy", saved(state, zipped=False).replace(here, there), ""


def python2(state: dict[str, torch.Tensor]) -> bytes:
    """Write a state dict as PyTorch 0.3 with Python 2 did: short words, pairs in lists, an older function."""

    def short(text: str) -> bytes:
        return b"U" + bytes([len(text)]) + text.encode()

    kinds = {torch.float32: "FloatStorage", torch.int64: "LongStorage"}
    pairs, data = [], b""
    for i, (key, value) in enumerate(state.items()):
        identity = (short("storage"), name(f"torch.{kinds[value.dtype]}"), short(str(i)), short("cuda:0"))
        made = row(*identity, number(value.numel()), b"N") + b"Q"
        made = tensor(made, 0, tuple(value.shape), value.stride(), "_rebuild_tensor", b"")
        pairs.append(b"](" + short(key) + made + b"e")
        data += struct.pack("<q", value.numel()) + value.numpy().tobytes()
    value = PROTO + name("collections.OrderedDict") + row(b"](" + b"".join(pairs) + b"e") + b"R."
    return legacy(value, keys=pickle.dumps([str(i) for i in range(len(state))], 2), data=data)


def repickled(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change the pickle of a zipped file, whose checksums then fit again."""
    box = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(box, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(zipfile.ZipInfo(info.filename), change(data) if info.filename.endswith("/data.pkl") else data)
    return box.getvalue()


# ---- archives and files of other kinds ----


def archives() -> Iterator[tuple[str, bytes, str]]:
    """Lie in a zip file's directory, or pack what would fill the memory."""
    good = in_dict(tensor())

    def entry(archive: zipfile.ZipFile, title: str) -> zipfile.ZipInfo:
        return archive.getinfo(f"archive/{title}")

    def change(title: str, **fields):
        def tamper(archive):
            for field, value in fields.items():
                setattr(entry(archive, title), field, value)

        return tamper

    def again(archive):  # every entry a hundred times, all at one place
        whole = entry(archive, "data/0")
        for i in range(1, 200):
            info = zipfile.ZipInfo(f"archive/data/{i}")
            for field in ("header_offset", "file_size", "compress_size", "CRC", "external_attr", "create_version"):
                setattr(info, field, getattr(whole, field))
            archive.filelist.append(info)

    larger = "larger than itself"
    packed = "compressed or encrypted"
    megabyte = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = megabyte.compress(bytes(2**20)) + megabyte.flush(zlib.Z_FULL_FLUSH)
    bomb = block * 10_000 + megabyte.flush()

    def ten_gigabytes(archive):
        change("data/0", compress_type=zipfile.ZIP_DEFLATED, file_size=10_000 * 2**20)(archive)

    yield "a zip bomb of 10 GB", archive(good, storage=bomb, tamper=ten_gigabytes), packed
    yield "200 entries of one megabyte", archive(good, storage=bytes(2**20), tamper=again), larger
    lies = {"file_size": 2**63 - 1, "compress_size": 2**63 - 1}
    yield "an entry said to be of 2^63 bytes", archive(good, tamper=change("data/0", **lies)), larger
    yield "an index said to be of 2^63 bytes", archive(good, tamper=change("data.pkl", **lies)), larger
    yield "an entry elsewhere", archive(good, tamper=change("data/0", header_offset=1)), "damaged"
    yield "data said to be a folder", archive(good, tamper=change("data/0", external_attr=0x10)), "folder for an entry"
    yield "an encrypted entry", archive(good, tamper=change("data/0", flag_bits=1)), packed
    yield "a wrong checksum of the data", archive(good, tamper=change("data/0", CRC=1)), "data at 0.weight are damaged"
    yield (
        "a wrong checksum of the index",
        archive(good, tamper=change("data.pkl", CRC=1)),
        "names and shapes are damaged",
    )
    evil = in_dict(call("os.system", SHELL))
    yield "two indices", archive(good, ("archive/data.pkl", evil)), "zip archive|twice"
    yield "two indices but for case", archive(good, ("archive/DATA.PKL", evil)), "twice"
    yield "paths for entries", archive(good, ("../x", b"1"), ("/tmp/x", b"1")), "damaged, cut short"
    yield "data twice", archive(good, ("archive/data/0", bytes(16))), "twice"
    yield "another archive in front", archive(evil) + archive(good), "damaged|another architecture|does not fit"
    yield "another archive behind", archive(good) + archive(evil), REFUSED.format(r"os\.system")
    yield "an empty archive", b"PK\x05\x06" + bytes(18), "zip archive"


def other_kinds() -> Iterator[tuple[str, bytes, str]]:
    """Return what is found under a network's name because a download or a conversion went another way."""
    weights = saved({"0.weight": torch.ones(2)})
    evil = PROTO + call("os.system", SHELL) + STOP
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    array = io.BytesIO()
    np.save(array, np.ones(3))
    yield "nothing in it", b"", "it is empty"
    yield "a page of HTML", b"<!DOCTYPE html><html><title>404</title>", "web page.*download it again"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 45575747\n"
    yield "a pointer of Git LFS", pointer, r"Git LFS.*git lfs pull"
    yield "gzip", gzip.compress(weights, mtime=0), "archive.*unpack it"
    yield "tar.gz", tar_of({"latest_net_G.pth": weights}), "archive.*unpack it"
    old = {"storages": pickle.dumps(0, 2) + pickle.dumps([], 2), "tensors": pickle.dumps(0, 2), "pickle": evil}
    yield "tar as PyTorch of 2016 wrote it", tar_of(old, "w"), "PyTorch of 2016"
    yield "zip of a network", zip_of({"latest_net_G.pth": weights}), "zip archive.*unpack it.*pth"
    script = {"net/code/__torch__.py": PYTHON.encode(), "net/data.pkl": evil, "net/constants.pkl": evil}
    yield "TorchScript", zip_of(script), r"TorchScript program.*net.state_dict\(\)"
    yield "safetensors", struct.pack("<Q", len(header)) + header + bytes(4), "safetensors file"
    yield "ONNX", b"\x08\x07\x12\x07pytorch\x1a\x052.1.0" + bytes(40), "ONNX file"
    yield "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5 file"
    yield "an array", array.getvalue(), "NumPy array"
    yield "a picture", b"\x89PNG\r\n\x1a\n" + bytes(40), "it is an image, not a network"
    yield "a pickle of plain values", pickle.dumps({"a": 1}, 2), "no file that torch.save wrote"


def in_the_way() -> Iterator[tuple[str, Callable[[Path], object], str]]:
    """Put something at a path that is no file to read."""

    def unreadable(path):
        path.write_bytes(b"1")
        path.chmod(0)

    yield "a folder", Path.mkdir, "it is a folder"
    yield "a pipe", os.mkfifo, "no ordinary file"
    yield "a link to an endless device", lambda path: path.symlink_to("/dev/zero"), "no ordinary file"
    yield "unreadable", unreadable, "Permission denied|damaged"  # root reads all


def every(state: dict) -> list[tuple[str, bytes, str]]:
    """Return all files that loading must refuse, with the text of the error; some hold most of `state`, a good one."""
    kinds = (callers(), opcodes(), tensors(), state_dicts(state), archives(), other_kinds())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are twice in an archive, and kinds of tensors that are to go
        return list(itertools.chain(*kinds))
