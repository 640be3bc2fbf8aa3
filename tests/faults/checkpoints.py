"""Load hostile, strange, cut and damaged checkpoints: each loads, or gives one UserError that names its file.

No code in them runs (the interpreter's audit events are watched), no process dies, nothing takes long or much memory.
Checkpoints that load must allow a training step. Every file is read in a forked process.
"""

from __future__ import annotations

import contextlib
import copy
import encodings.cp437  # imported while reading; imported here, because later imports are noticed below
import encodings.raw_unicode_escape  # noqa: F401
import functools
import io
import math
import os
import random
import re
import reprlib
import sys
import tempfile
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from faults import hostile
from faults.driver import damage
from faults.images import Outcome, read_all
from terminal import identical

from models import networks
from models.architecture import read_architecture
from util.checkpoint.checkpointer import Checkpointer
from util.checkpoint.progress import Progress
from util.checkpoint.safe_reader import read
from util.checkpoint.training_state import (
    get_training_state,
    restore_plateau_schedulers,
    restore_training_state,
)
from util.errors import UserError
from util.image_pool import ImagePool

MOST_SECONDS, MOST_MEMORY = 5.0, 2**30
NET, STATE = "latest_net_G.pth", "latest_state.pth"
# What an interpreter reports before it does what no reading of weights needs.
EVENTS = re.compile(
    r"os\.(system|exec|posix_spawn|spawn|fork|kill|remove|rename|rmdir|mkdir|chmod|putenv|startfile)|subprocess\.|pty\.|"
    r"socket\.(connect|bind|getaddrinfo)|urllib\.|shutil\.|ctypes\.|exec$|compile$|code\.__new__|import$|"
    r"pickle\.find_class|marshal\.|webbrowser\.|sqlite3\.|cpython\.run"
)


class Run:
    """The parts of a training that a checkpoint restores: a network, Adam, a pool, a plateau."""

    def __init__(self, folder: Path, parts: str = "net state"):
        self.opt = Namespace(epoch_count=1)
        self.device, self.progress = torch.device("cpu"), Progress()
        self.parts = parts
        self.net = network()
        self.net.zero_grad()
        self.optimizers = [torch.optim.Adam(self.net.parameters())]
        self.schedulers = [torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizers[0])]
        self.pool, self.metric = ImagePool(2, random.Random(0)), 1.0
        self.checkpoints = Checkpointer(folder)

    def load(self) -> None:
        """Load the networks and the training state."""
        read_architecture({"G": self.checkpoints.net_path("latest", "G")})
        if "net" in self.parts:
            self.checkpoints.load_networks("latest", {"G": self.net})
        if "state" in self.parts:
            state = restore_training_state(self, "latest")
            restore_plateau_schedulers(self.schedulers, state.get("plateaus", []))

    def step(self) -> None:
        """Make one step of a training."""
        torch.manual_seed(0)
        fake = self.net(torch.rand(2, 3, 32, 32))
        (fake - self.pool.query(fake)).square().mean().backward()
        self.optimizers[0].step()
        self.schedulers[0].step(float(self.metric))
        self.progress.advance(1)

    def save(self) -> None:
        """Save networks and state."""
        self.checkpoints.save("latest", {"G": self.net}, get_training_state(self))


@functools.cache
def network() -> torch.nn.Module:
    """Make the network that all runs fill."""
    torch.manual_seed(0)
    return networks.define_G(3, 3, 2, "unet_32", "batch")


@functools.cache
def good() -> dict[str, bytes]:
    """Return the files of a set, in both formats."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run = Run(Path(folder))
        for _ in range(3):
            run.step()
        run.save()
        files = {name: (Path(folder) / name).read_bytes() for name in (NET, STATE)}
        values = {name: read(Path(folder) / name) for name in files}
    return files | {f"legacy {name}": hostile.saved(value, zipped=False) for name, value in values.items()}


# ---- one trial ----


class Trial(NamedTuple):
    """A folder's files, the parts to load, and the expected outcome."""

    title: str
    files: dict[str, bytes | Callable[[Path], object]]  # the set's, or what puts something in a file's way
    parts: str = "net"
    expected: str | None = None  # what the error says; "" where it must load; None where either may be
    culprit: str = NET
    said: str = ""  # if it loads, in a warning
    sealed: bool = False  # if it loads, it must hold what was saved


class _Watch:
    """Collect what the interpreter reports."""

    on = False
    seen: set[str] = set()

    @classmethod
    @functools.cache
    def install(cls) -> None:
        sys.addaudithook(cls.hear)

    @classmethod
    def hear(cls, event: str, arguments: tuple) -> None:
        if cls.on and (EVENTS.match(event) or (event == "open" and set(str(arguments[1])) & set("wax+"))):
            cls.seen.add(f"{event} {arguments!r:.200}")


def try_one(folder: Path, trial: Trial) -> str:
    """Lay out a trial's files and load them; say what came of it."""
    _Watch.install()
    text = _load(folder / "it", trial)
    canaries = [path for path in (folder / "it" / hostile.CANARY, Path(hostile.CANARY)) if path.exists()]
    if _Watch.seen or canaries:
        text = f"executed {sorted(_Watch.seen) or canaries}"
        _Watch.seen.clear()
    return text


def _load(folder: Path, trial: Trial) -> str:
    folder.mkdir(exist_ok=True)
    for name, content in trial.files.items():
        if callable(content):
            content(folder / name)
        else:
            (folder / name).write_bytes(content)
    run = Run(folder, trial.parts)
    try:
        _Watch.on = True
        run.load()
        _Watch.on = False
        run.step()
    except UserError as error:
        return f"refused: {error}"
    except OSError as error:  # the command line also shows it with its file
        return f"refused: {error.filename} {error.strerror}"
    except BaseException as error:  # whatever it is, it is what is looked for here
        return f"raised {type(error).__name__}: {error}"
    finally:
        _Watch.on = False
        if trial.sealed:
            values = {name: _value(folder / name) for name in trial.files}
        for path in folder.iterdir():
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    if trial.sealed and not all(value is None or identical(value, _original(name)) for name, value in values.items()):
        return "loaded other values"
    return "loaded"


def _value(path: Path):
    with contextlib.suppress(UserError):
        return read(path)


@functools.cache
def _original(name: str):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(good()[name])
        return read(path)


def violation(trial: Trial, outcome: Outcome) -> str | None:
    """Say what is wrong with an outcome, if anything is."""
    text = outcome.text
    if outcome.seconds > MOST_SECONDS:
        return f"took {outcome.seconds:.1f} s: {text:.300}"
    if outcome.memory > MOST_MEMORY:
        return f"took {outcome.memory / 2**20:.0f} MB: {text:.300}"
    if text == "loaded":
        return "was loaded" if trial.expected or trial.said not in outcome.noise else None
    if not text.startswith("refused: ") or trial.expected == "":
        return text
    if trial.culprit not in text:
        return f"not named: {text}"
    if "Traceback" in outcome.noise or len(text) > 2000:
        return f"no clear error: {text:.300} {outcome.noise:.300}"
    if not re.search(trial.expected or "", text, re.DOTALL):
        return f"explained otherwise: {text}"
    return None


class Report(NamedTuple):
    """The outcomes of trials."""

    loaded: int
    wrong: list[str]
    seconds: float
    memory: int


def judge(trials: list[Trial]) -> Report:
    """Make trials; collect what was wrong, and the worst figures."""
    with tempfile.TemporaryDirectory() as folder:
        for files in ({NET: good()[NET], STATE: good()[STATE]}, {NET: good()["legacy " + NET]}, {NET: b"1"}):
            _load(Path(folder) / "it", Trial("", files, "net state"))  # imports lazily, once for all forks
        here = Path.cwd()
        os.chdir(folder)  # where a canary would be
        try:
            outcomes = read_all(trials, functools.partial(try_one, Path(folder)))
        finally:
            os.chdir(here)
    wrong = [
        f"{trial.title}: {what}"
        for trial, outcome in zip(trials, outcomes, strict=True)
        if (what := violation(trial, outcome))
    ]
    loaded = sum(outcome.text == "loaded" for outcome in outcomes)
    return Report(loaded, wrong, max(o.seconds for o in outcomes), max(o.memory for o in outcomes))


# ---- hostile and strange files ----


def hostile_files(for_state: bool = False) -> Iterator[Trial]:
    """Put each hostile file in the network's place, or in the state's beside a good network."""
    files = [(*file, "delete it|no training state") for file in hostile.every(_original(NET))]
    files += [(*file, file[2]) for file in hostile.in_the_way()]
    for title, content, pattern, of_a_state in files:
        if for_state:
            yield Trial(f"{title} for a state", {NET: good()[NET], STATE: content}, "net state", of_a_state, STATE)
        else:
            yield Trial(title, {NET: content}, expected=pattern)


def unusual_networks() -> Iterator[Trial]:
    """Write a good network in unusual ways, which load."""
    for title, content, said in hostile.welcome(_original(NET)):
        yield Trial(title, {NET: content}, expected="", said=said)


def strange_states() -> Iterator[Trial]:
    """Write states that read well and make no sense, or little: the former are refused, the latter break nothing."""
    original = _original(STATE)
    state = original["optimizers"][0]["state"]
    first = next(iter(state))
    three, images = torch.ones(3), ("pools", 0, "pool", "images")
    moments = ("optimizers", 0, "state")
    plateau = ("plateaus", 0, "state")
    refused = {
        ("format",): (99,),
        ("progress",): (None, "abc", [1, 2], [1, -1, 0], three),
        ("optimizers",): (5, [5], [{"state": []}], three),
        (*moments, "x"): (state[first],),
        (*moments, first): (None, {}, 5),
        (*moments, first, "step"): (None, three),
        (*moments, first, "exp_avg"): (None, "x", three, torch.ones(10**6), state[first]["exp_avg"][:1]),
        (*moments, first, "exp_avg_sq"): (5, torch.ones(()), three),
        ("pools",): (5, [[]], [{"pool": 5}], [{"pool": {"images": 5}}]),
        images: (["x"], [three], [torch.ones(1, 3, 2, 2, dtype=torch.int8)]),
        ("plateaus",): (5, [{}], [{"lr": 5, "state": {}}]),
        (*plateau, "best"): ("x", None, three),
        ("best",): ("abc", [], ["psnr", "x", 1], ["psnr", 1, -1]),
        ("networks",): (5, None, {"G": 5}),
    }
    harmless = {
        ("format",): ("x", None),
        ("optimizers",): ([], None),
        ("pools",): ([], None, [{"other": {"images": []}}]),
        images: ([torch.ones(1, 3, 32, 32)] * 20_000,),
        ("plateaus",): ([], None),
        ("metric",): (None, float("nan")),
        ("best",): (None, ["psnr", 20.5, 3]),
        ("more",): ({"a": 1},),
    }
    said = {"networks": "no training state", "format": "newer version"}
    cases = [(place, value, said.get(place[0], place[0])) for place, values in refused.items() for value in values]
    cases += [(place, value, None) for place, values in harmless.items() for value in values]
    for place, value, expected in cases:
        changed = copy.deepcopy(original)
        functools.reduce(lambda outer, key: outer[key], place[:-1], changed)[place[-1]] = value
        title = f"{'.'.join(map(str, place))} = {reprlib.repr(value):.60}"
        yield _with_state(changed, title, expected)
    for key in original:
        rest = {name: value for name, value in original.items() if name != key}
        yield _with_state(rest, f"no {key}", key if key == "progress" else None)


def _with_state(state, title: str, expected: str | None) -> Trial:
    return Trial(title, {NET: good()[NET], STATE: hostile.saved(state)}, "net state", expected, STATE)


# ---- cut and damaged files ----

# The damaged file, the other files of its checkpoint, the parts to load, and whether a hash covers it.
SETS = {
    "network, its sum beside": (NET, {STATE: STATE}, "net state", True),
    "network alone": (NET, {}, "net", True),
    "network alone, legacy": (f"legacy {NET}", {}, "net", False),
    "state": (STATE, {NET: NET}, "net state", True),
}


def damaged(kind: str, title: str, content: bytes, sealed: bool = True) -> Trial:
    """Return the trial of a set's damaged file."""
    source, beside, parts, summed = SETS[kind]
    culprit = source.removeprefix("legacy ")
    files = {culprit: content} | {name: good()[other] for name, other in beside.items()}
    expected = "." if kind == "network, its sum beside" and content != good()[source] else None
    return Trial(f"{kind}, {title}", files, parts, expected, culprit, sealed=sealed and summed)


def truncations(steps: int = 100) -> Iterator[Trial]:
    """Cut every file at every 1 %, and a few bytes before its end."""
    for kind, (source, *_) in SETS.items():
        content = good()[source]
        places = [len(content) * i // steps for i in range(steps)] + [len(content) - n for n in (1, 2, 22, 100)]
        for place in places:
            yield damaged(kind, f"cut at {place} of {len(content)}", content[:place])._replace(expected=".")


def mutants(count: int, seed: int = 0) -> Iterator[Trial]:
    """Damage every file of a set: anywhere, in its index, in its zip directory, in its pickle under a good sum."""
    rng = random.Random(seed)
    for i in range(count):
        kind = rng.choice(list(SETS))
        source = SETS[kind][0]
        content = good()[source]
        index, directory = _places(source)
        where = rng.choice(("anywhere", "index", "directory", "pickle"))
        if source.startswith("legacy") and where in ("directory", "pickle"):
            where = "index"
        if where == "pickle":
            change = lambda data: damage(data, rng, 0, len(data))  # noqa: E731
            made = hostile.repickled(content, change)
        else:
            low, high = {"anywhere": (0, len(content)), "index": index, "directory": directory}[where]
            made = damage(content, rng, low, high)
        yield damaged(kind, f"{where}, mutant {i} of seed {seed}", made, sealed=where != "pickle")


@functools.cache
def _places(source: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where a file's pickle lies, and its zip directory."""
    content = good()[source]
    if source.startswith("legacy"):
        return (0, hostile.pickles_end(content)), (0, 1)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first = archive.infolist()[0]
        return (0, first.header_offset + 100 + first.file_size), (archive.start_dir, len(content))


# ---- the campaign ----


def campaign(count: int = 12_000) -> list[tuple[str, int, int, str]]:
    """Return a row for each kind of trial."""
    torch.set_num_threads(1)
    rows = []
    groups: dict[str, Callable[[], Iterable[Trial]]] = {
        "hostile files for a network": hostile_files,
        "hostile files for a training state": functools.partial(hostile_files, for_state=True),
        "unusual networks": unusual_networks,
        "states that make no sense": strange_states,
        "cut at every 1 %": truncations,
    }
    groups |= {f"mutants, seed {s}": functools.partial(mutants, math.ceil(count / 4), s) for s in range(4)}
    for title, make in groups.items():
        trials = list(make())
        report = judge(trials)
        print(*report.wrong, sep="\n", end="\n" * bool(report.wrong))
        remark = f"{report.loaded} loaded, the others refused by name; "
        remark += f"at most {report.seconds:.2f} s, {report.memory / 2**20:.0f} MB"
        rows.append((title, len(trials), len(report.wrong), remark))
        print(*rows[-1], sep=" | ", flush=True)
    return rows
