"""Walk through a pickle without making its objects, and refuse everything that no state dict holds."""

from __future__ import annotations

import pickletools
import re
from typing import BinaryIO, NamedTuple

import torch

from util.errors import printable_name

MAX_OPCODES = 300_000  # enough for 10,000 tensors
MAX_TUPLE = 100_000  # values in a tuple and the tuples inside it, counted as often as they occur
LOOK_BACK = 20  # values between a tensor's name and its data, in a pickle

# Everything that the pickle of a state dict, or of an optimizer's state, may name.
REBUILDS = {f"torch._utils._rebuild_{name}" for name in ("tensor", "tensor_v2", "tensor_v3")}
REBUILDS_AS = {"torch._utils._rebuild_tensor_v3"}  # names the type itself, for types without a storage class
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
RESAVE = "where it was made, torch.save(net.state_dict(), FILE) writes the weights alone"


class Refused(Exception):
    """The reason why a file is not loaded."""


class Storage(NamedTuple):
    """The data of tensors."""

    size: int  # bytes
    itemsize: int
    at: str  # " at KEY", or ""


class _Global(str):
    """A name that a pickle asks for, `module.name`."""


class _Result(str):
    """The result of calling the global of this name."""


class _Tuple(tuple):
    """A tuple that knows its size with all nested tuples: hashing it would visit each value."""

    def __new__(cls, values):
        self = super().__new__(cls, values)
        self.size = 1 + sum(value.size if isinstance(value, _Tuple) else 1 for value in values)
        if self.size > MAX_TUPLE:
            raise Refused("its tuples hold each other many times over: it is made to take endless time")
        return self


class Scan:
    """Walk through one pickle after the other; `storages` collects the data that their tensors need."""

    MARK = object()

    def __init__(self):
        self.storages: dict[str, Storage] = {}
        self.stack: list = []
        self.memo: dict = {}

    def next_pickle(self, file: BinaryIO, long_numbers: bool = False):
        """Walk through the next pickle of a file; return its value if that is a number.

        Raises Refused for anything that no state dict holds; `long_numbers` allows integers of more than 64 bits.
        """
        self.stack, self.memo, odd, value = [], {}, None, None
        for count, (op, arg, _) in enumerate(pickletools.genops(file)):
            taken = self._pop(op)
            value = self._value(op, arg, taken)
            if op.name == "LONG1" and not long_numbers and arg.bit_length() > 64:
                raise Refused(f"it has a number of {arg.bit_length()} bits{self._at()}")
            if count > MAX_OPCODES:
                raise Refused(f"its pickle has more than {MAX_OPCODES:,} operations, far more than a network needs")
            if op.name not in OPCODES:
                odd = odd or op.name
            self.stack.extend([value] * len(op.stack_after))
        if odd:
            raise Refused(
                f"its pickle has {odd}, which torch.save does not write; save it again, without pickle_protocol"
            )
        return value

    def _pop(self, op) -> list:
        """Take an operation's arguments from the stack, without the mark."""
        taken: list = []
        for kind in reversed(op.stack_before):
            while kind is pickletools.stackslice and self.stack[-1] is not self.MARK:
                taken.append(self.stack.pop())
            if kind is not pickletools.stackslice and (item := self.stack.pop()) is not self.MARK:
                taken.append(item)
        return taken[::-1]

    def _value(self, op, arg, taken: list):
        """Return the value that an operation puts on the stack, as far as it matters here."""
        value = taken[0] if taken else arg  # BUILD, SETITEMS and others leave the object that they extend
        if op.name in ("BINPUT", "LONG_BINPUT"):
            self.memo[arg] = self.stack[-1]
        elif op.name == "MEMOIZE":
            self.memo[len(self.memo)] = value
        elif op.name in ("BINGET", "LONG_BINGET"):
            value = self.memo[arg]
        elif op.name == "MARK":
            value = self.MARK
        elif op.name.startswith(("TUPLE", "EMPTY_TUPLE")):
            value = _Tuple(taken)
        elif op.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
            value = self._global(".".join(taken) if op.name == "STACK_GLOBAL" else arg.replace(" ", "."))
        elif op.name == "BINPERSID":
            value = self._storage(value)
        elif op.name == "REDUCE":
            value = self._call(*taken)
        elif op.name == "BUILD" and value != _Result("collections.OrderedDict"):
            raise Refused(f"it sets the insides of a {printable_name(value or 'value')}{self._at()}")
        return value

    def _at(self) -> str:
        """Return " at KEY" for the key of the value on top of the stack, if any."""
        key = next((item for item in self.stack[: -(LOOK_BACK + 1) : -1] if type(item) is str), None)
        return "" if key is None else f" at {printable_name(key)}"

    def _global(self, name: str) -> _Global:
        if name not in GLOBALS and not STORAGE.fullmatch(name):
            raise Refused(
                f"it holds more than tensors and plain values ({printable_name(name)}{self._at()}), which is not "
                f"loaded for safety. If it is a whole network that you trust: {RESAVE}"
            )
        return _Global(name)

    def _storage(self, identity: _Tuple) -> Storage:
        """Note a tensor's data: `("storage", type, key, location, count)`, before PyTorch 0.4 with a part of them."""
        word, kind, key, _, count, *view = identity
        at = self._at()
        itemsize = ITEMSIZE[STORAGE.fullmatch(kind)[1]]
        whole = Storage(count * itemsize, itemsize, at)
        self.storages[key] = max(self.storages.get(key, whole), whole)
        if view and view[0] is not None:
            _, offset, part = view[0]
            if not 0 <= offset <= offset + part <= count:
                raise Refused(f"the data{at} reach outside of the data that they are a part of")
            count = part
        if word != "storage" or count < 0:
            raise Refused(f"the data{at} are invalid: {printable_name(word)} of {count}")
        return whole._replace(size=count * itemsize)

    def _call(self, function: _Global, values: _Tuple) -> _Result:
        """Refuse all calls but those that make a dictionary, or a tensor inside its data without repeated elements."""
        if not isinstance(function, _Global) or STORAGE.fullmatch(function):
            raise Refused(f"it calls {printable_name(function)}{self._at()}, as no state dict does")
        if function in REBUILDS:
            storage, offset, size, stride = values[:4]
            itemsize = getattr(torch, values[6].removeprefix("torch.")).itemsize if function in REBUILDS_AS else None
            itemsize = itemsize or storage.itemsize
            inside, reach = min(offset, *size, *stride, 0) >= 0, 0
            for step, n in sorted((step, n) for n, step in zip(size, stride, strict=True) if n > 1):
                inside &= step > reach  # otherwise two elements share one place
                reach += (n - 1) * step
            if 0 not in size and not (inside and (offset + reach + 1) * itemsize <= storage.size):
                text = "reaches outside of its data or repeats them: the file is damaged, or made to do harm"
                raise Refused(f"the tensor{self._at()} {text}")
        return _Result(function)
