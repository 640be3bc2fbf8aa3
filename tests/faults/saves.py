"""Break saves in every way that a kill, a failing disk or a power cut can: each is whole afterwards, or absent.

    python tests/faults/saves.py [--quick] [WORD of a row's name]

The saves are real ones (Checkpointer, small networks, Adam's moments, an image pool), made in forked processes whose
file operations shim.c counts and spoils. After each fault a new Checkpointer loads every set; its networks and its
state must be of one generation, the last one whose save returned or the one that was being saved. Then the next save
must succeed and leave nothing beside. Runs on Linux with a C compiler; real power cuts need root.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import hashlib
import io
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn as nn
from faults import power_cuts, shim
from faults.power_cuts import MOUNTS
from faults.shim import FAIL, FAIL_DONE, HALF, KILL_BEFORE, KILL_WITHIN, LOSE

from util.checkpoint.atomic_files import write_whole
from util.checkpoint.checkpointer import Checkpointer, SaveError
from util.checkpoint.weights import cpu_state_dict
from util.loggers.log_files import LogFiles

BESIDE = ".new"
ERRORS = {
    # error: what it hits when it lasts (a full disk still renames and removes)
    errno.ENOSPC: "open write sync rename link truncate mkdir",
    errno.EIO: "open read write sync rename link unlink truncate mkdir",
    errno.EROFS: "open write rename link unlink truncate mkdir",
    errno.EFBIG: "write truncate",
    errno.EMFILE: "open read",
}
NO_REMOVING = (errno.EIO, errno.EROFS)  # while they last
QUICK = 15  # points of each row of each story, where a few are enough


# ---- what is saved ----

Step = tuple[str, int]  # a save: a prefix, and the number of the generation
Steps = tuple[Step, ...]


class Story(NamedTuple):
    """The saves of a training, in their order."""

    name: str
    networks: tuple[str, ...]
    steps: Steps
    downloaded: bool = False  # begins with networks of the reference project, which have no state


STORIES = (
    # train.py's order: an epoch's own save comes first, and `latest` becomes hard links to it
    Story("pix2pix", ("G", "D"), (("latest", 1), ("1", 2), ("latest", 2), ("latest", 3), ("2", 4), ("latest", 4))),
    Story(  # a loop of a user's own: the other order, by iterations, and one save made twice
        "CycleGAN",
        ("G_A", "G_B", "D_A", "D_B"),
        (("iter_5", 1), ("latest", 2), ("1", 2), ("latest", 3), ("2", 3), ("latest", 3)),
        downloaded=True,
    ),
)


class Generation(NamedTuple):
    """Networks and state at one moment of a training."""

    networks: dict[str, nn.Module]
    state: dict


@functools.cache
def generation(names: tuple[str, ...], number: int) -> Generation:
    """Make networks and a state like util/checkpoint/training_state.py's, all of whose values tell their generation."""
    torch.manual_seed(number)
    networks, optimizers = {}, []
    for name in names:
        net = nn.Sequential(nn.Conv2d(3, 32, 5), nn.BatchNorm2d(32))
        adam = torch.optim.Adam(net.parameters())
        net(torch.randn(2, 3, 8, 8)).square().mean().backward()
        adam.step()
        networks[name] = net
        optimizers.append(adam.state_dict())
    state = {
        "format": 1,
        "progress": [1 + number // 2, number % 2 * 5, number * 5],
        "optimizers": optimizers,
        "plateaus": [],
        "metric": None,
        "pools": [{"fake_pool": {"images": [torch.randn(1, 3, 64, 64) for _ in range(3)]}}],
    }
    return Generation(networks, state)


def begin(story: Story, folder: Path) -> dict[str, int]:
    """Lay out what the folder holds before the first save; return each prefix's generation."""
    folder.mkdir(parents=True, exist_ok=True)
    if not story.downloaded:
        return {}
    for name, net in generation(story.networks, 0).networks.items():
        torch.save(cpu_state_dict(net), folder / f"latest_net_{name}.pth")
    os.sync()
    return {"latest": 0}


def save(story: Story, checkpoints, prefix: str, number: int) -> None:
    """Make one save."""
    now = generation(story.networks, number)
    checkpoints.save(prefix, now.networks, dict(now.state))


def act(story: Story, checkpoints, steps: Steps) -> None:
    """Make saves one after the other, and count them."""
    for prefix, number in steps:
        save(story, checkpoints, prefix, number)
        shim.control.returned += 1


class InPlace(Checkpointer):
    """How saves are made where nobody thought of faults: the final name is written, file by file."""

    def save(self, prefix: str, networks: dict[str, nn.Module], state: dict) -> None:
        """Write the files."""
        for name, net in networks.items():
            torch.save(cpu_state_dict(net), self.net_path(prefix, name))
        torch.save(state, self.state_path(prefix))


# ---- what is found ----


def same(one, other) -> bool:
    """Whether two nested values are equal, tensors to the last bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return isinstance(other, (list, tuple)) and len(one) == len(other) and all(map(same, one, other))
    return one == other


class Broken(Exception):
    """What a reader finds that must never be."""


def found(story: Story, folder: Path, prefix: str) -> int | None:
    """Load a set as training does and return its generation, None if there is none; raises Broken.

    What is found depends on the files' contents alone, so that no contents are loaded twice.
    """
    files = sorted(folder.glob(f"{prefix}_*"))
    key = (story.name, prefix, *((path.name, digest(path)) for path in files))
    if key not in seen:
        try:
            seen[key] = load(story, folder, prefix) if any(path.suffix == ".pth" for path in files) else None
        except Broken as error:
            seen[key] = str(error)
    if isinstance(seen[key], str):
        raise Broken(seen[key])
    return seen[key]


seen: dict[tuple, int | str | None] = {}


def load(story: Story, folder: Path, prefix: str) -> int:
    """Load a set as training does and return its generation; raises Broken."""
    checkpoints = Checkpointer(folder)
    networks = {name: nn.Sequential(*map(type_alike, net)) for name, net in generation(story.networks, 0)[0].items()}
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            checkpoints.load_networks(prefix, networks)
            state = checkpoints.load_state(prefix)
    except Exception as error:
        files = ", ".join(sorted(path.name for path in folder.glob(f"{prefix}_*")))
        raise Broken(f"unloadable: {type(error).__name__}: {error} (there are {files})") from error
    numbers = [number_of(story, name, net) for name, net in networks.items()]
    number = numbers[0] if state is None else state["progress"][2] // 5
    if state is None and number != 0:
        raise Broken(f"mixed: {prefix} has no state, and networks of generations {numbers}")
    if set(numbers) != {number}:
        raise Broken(f"mixed: {prefix} has a state of generation {number}, networks of {numbers}")
    if state is not None:
        state.pop("networks", None)
        whole = generation(story.networks, number).state
        if state.pop("slim", False) and prefix.removeprefix("iter_").isdigit():
            whole = {key: value for key, value in whole.items() if key not in ("optimizers", "pools")}
        if not same(state, whole):
            raise Broken(f"mixed: the state of {prefix} is not all of generation {number}")
    return number


def type_alike(layer: nn.Module) -> nn.Module:
    """Make an untrained layer of the same shape."""
    if isinstance(layer, nn.BatchNorm2d):
        return nn.BatchNorm2d(layer.num_features)
    return nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size)


def number_of(story: Story, name: str, net: nn.Module) -> int | None:
    """Return the generation whose weights a network has."""
    numbers = {0, *(number for _, number in story.steps)}
    own = net.state_dict()
    return next((n for n in numbers if same(own, generation(story.networks, n).networks[name].state_dict())), None)


def judge(story: Story, folder: Path, done: dict[str, int], *begun: Step) -> dict[str, int]:
    """Load every set of the folder and return their generations; raises Broken if one is not what it may be.

    `done`: the last generation whose save returned, for each prefix; `begun`: saves that did not return.
    """
    generations = {}
    for prefix in dict.fromkeys(prefix for prefix, _ in story.steps):
        allowed = {done.get(prefix), *(number for other, number in begun if other == prefix)}
        number = found(story, folder, prefix)
        if number not in allowed:
            raise Broken(f"lost: {prefix} is of generation {number}, not of {allowed}")
        if number is not None:
            generations[prefix] = number
    return generations


def leftovers(folder: Path) -> list[str]:
    """Return the files beside that are not of a set that counts."""
    left = {path.name: digest(path) for path in folder.glob("*" + BESIDE)}
    for state in folder.glob("*_state.pth") if left else ():
        prefix = state.name.removesuffix("_state.pth")
        for name, wanted in torch.load(state, weights_only=True).get("networks", {}).items():
            if left.get(path := f"{prefix}_net_{name}.pth{BESIDE}") == wanted:
                del left[path]
    return sorted(left)


def digest(path: Path) -> str | None:
    """Return a file's SHA-256, None if there is no file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def judge_and_go_on(story: Story, folder: Path, done: dict[str, int], step: Step, make, *begun: Step) -> None:
    """Judge a folder after a crash, then make the save that was cut short once more, and judge again."""
    done = judge(story, folder, done, step, *begun)
    prefix, number = step
    save(story, make(folder), prefix, number)
    judge(story, folder, {**done, prefix: number})
    if left := [path.name for path in folder.glob("*" + BESIDE)]:
        raise Broken(f"half files left after the next save: {left}")


# ---- faults: each returns whether it struck, and raises Broken ----


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes away, in memory where there is such a place: what counts is the order of operations."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="saves", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder) / "x"


def kill(story: Story, mode: int, at: int, make=Checkpointer) -> bool:
    """Kill a training in its n-th operation."""
    with scratch() as folder:
        done = begin(story, folder)
        if shim.wait(shim.fork(lambda: act(story, make(folder), story.steps), folder, mode=mode, at=at)):
            return False
        returned = shim.control.returned
        judge_and_go_on(story, folder, done | dict(story.steps[:returned]), story.steps[returned], make)
        return True


def kill_again(story: Story, first: int, then: Callable) -> bool:
    """Kill a training, let it go on from what it finds, and spoil its next saves by `then(folder, done, steps)`."""
    with scratch() as folder:
        done = begin(story, folder)
        shim.wait(shim.fork(lambda: act(story, Checkpointer(folder), story.steps), folder, mode=KILL_BEFORE, at=first))
        returned = shim.control.returned
        done = judge(story, folder, done | dict(story.steps[:returned]), story.steps[returned])
        return then(folder, done, left_to_do(story, done))


def left_to_do(story: Story, done: dict[str, int]) -> Steps:
    """Return the next saves of a training that goes on from `latest`."""
    return tuple(step for step in story.steps if step[1] > done.get("latest", 0))[:3]


def kill_next(story: Story, mode: int, at: int, folder: Path, done: dict[str, int], steps: Steps) -> bool:
    """Kill the saves after a kill in their n-th operation."""
    if shim.wait(shim.fork(lambda: act(story, Checkpointer(folder), steps), folder, mode=mode, at=at)):
        return False
    returned = shim.control.returned
    judge_and_go_on(story, folder, done | dict(steps[:returned]), steps[returned], Checkpointer)
    return True


def fail(story: Story, folder: Path, done: dict[str, int], steps: Steps, tidy: bool = True, **orders: int) -> bool:
    """Make the n-th operation fail: an error in one line, everything loads, and the same save succeeds afterwards.

    `tidy`: nothing half may be left even before that.
    """
    if not steps:
        return False
    answer, say = os.pipe()

    def attempt() -> None:
        with contextlib.suppress(BrokenPipeError):
            try:
                endure()
            except Broken as error:
                os.write(say, str(error).encode())
            except Exception as error:
                shim.control.pid = 0
                os.write(say, f"{type(error).__name__} in place of a SaveError: {error}".encode())

    def endure() -> None:
        now, checkpoints = dict(done), Checkpointer(folder)
        for prefix, number in steps:
            try:
                save(story, checkpoints, prefix, number)
            except SaveError as error:
                shim.control.pid = 0
                text, why = str(error), os.strerror(shim.control.error)
                if "\n" in text or str(folder) not in text or (why not in text and shim.control.mode != LOSE):
                    raise Broken(f"unclear: {text}") from error
                judge(story, folder, now, (prefix, number))
                if tidy and (left := leftovers(folder)):
                    raise Broken(f"half files left by a failed save: {left}") from error
                save(story, checkpoints, prefix, number)
            now[prefix] = number
        shim.control.pid = 0
        judge(story, folder, now)
        if not tidy:  # what could not be removed is, as soon as it can be
            save(story, checkpoints, *steps[-1])
        if left := leftovers(folder):
            raise Broken(f"half files left: {left}")

    pid = shim.fork(attempt, folder, **orders)
    os.close(say)
    with os.fdopen(answer, "rb") as file:
        verdict = file.read().decode()
    shim.wait(pid)
    if verdict:
        raise Broken(verdict)
    return shim.control.count >= orders["at"]


def fail_from_start(story: Story, tidy: bool = True, **orders: int) -> bool:
    """Make the n-th operation of a training fail."""
    with scratch() as folder:
        return fail(story, folder, begin(story, folder), story.steps, tidy, **orders)


def cut_power(story: Story, make=Checkpointer, first: int | None = None) -> list[Callable[[], bool]]:
    """Return a point for every folder that a power cut may leave during a training.

    `first`: the training is killed before this operation, and the power fails while the next one goes on from there.
    """

    def point(held: power_cuts.Folder, half: bool, returned: int) -> bool:
        # What the killed save left is certain to last only when a later save has returned.
        now, also = (done | dict(steps[:returned]), ()) if returned else (sure, begun)
        with scratch() as folder:
            power_cuts.lay_out(held, folder, half)
            judge_and_go_on(story, folder, now, steps[returned], make, *also)
        return True

    with scratch() as folder:
        done = sure = begin(story, folder)
        steps, begun = story.steps, ()
        disk = power_cuts.Disk(folder)
        if first:
            watched = shim.operations(lambda: act(story, make(folder), steps), folder)
            *_, op = disk.follow(itertools.islice(watched, first))
            watched.close()
            sure, begun = done | dict(steps[: op.returned]), (steps[op.returned],)
            done = judge(story, folder, sure, *begun)
            steps = left_to_do(story, done)
        ops = shim.operations(lambda: act(story, make(folder), steps), folder)
        return [partial(point, *cut) for cut in power_cuts.after(ops, disk)]


# ---- power cuts, real ones ----


def cut_image(story: Story, options: str, every: int = 1, make=Checkpointer) -> Iterator[Callable[[], bool]]:
    """Give out a point for every `every`-th operation but writes of a training on a mounted image.

    At each the image is copied as the device has it, without what the system still holds in memory, and judged.
    """
    with tempfile.TemporaryDirectory(prefix="saves") as folder:
        image, disk, copy = Path(folder) / "image", Path(folder) / "disk", Path(folder) / "copy"
        with image.open("wb") as file:
            file.truncate(24 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", str(image)], check=True)
        with power_cuts.mounted(image, disk, options):
            done = begin(story, disk / "x")
            os.sync()

            def point(op: shim.Operation) -> bool:
                shutil.copyfile(image, copy)
                with power_cuts.mounted(copy, Path(folder) / "mounted copy", options):
                    after = done | dict(story.steps[: op.returned])
                    place = Path(folder) / "mounted copy" / "x"
                    judge_and_go_on(story, place, after, story.steps[op.returned], make)
                return True

            watched = shim.operations(lambda: act(story, make(disk / "x"), story.steps), disk / "x")
            for number, op in enumerate(op for op in watched if op.kind != "write"):
                if number % every == 0:
                    yield functools.partial(point, op)


# ---- what is written besides ----


def write_options(folder: Path) -> None:
    """Write train_opt.json thrice, as three starts of a training do."""
    for number in (1, 2, 3):
        write_whole(folder / "train_opt.json", json.dumps({"version": number, "text": "x" * 20_000}), durable=True)
        shim.control.returned += 1


def judge_options(folder: Path, returned: int, oldest: int) -> None:
    """See that the options are whole, and no older than version `oldest`; raises Broken."""
    path = folder / "train_opt.json"
    content = path.read_bytes() if path.exists() else b'{"version": 0}'
    try:
        version = json.loads(content)["version"]
    except ValueError as error:
        raise Broken(f"unloadable: train_opt.json, of {len(content)} bytes") from error
    if not oldest <= version <= returned + 1:
        raise Broken(f"lost: train_opt.json is of version {version} after {returned} writes")


def write_table(folder: Path) -> None:
    """Write metrics.csv, which gets a new column with each row."""
    log = LogFiles(folder)
    for number in (1, 2, 3):
        log.add({"total_iters": str(number), **{f"loss_{i}": "0.5" for i in range(number)}})
        shim.control.returned += 1


def judge_table(folder: Path, returned: int) -> None:
    """See that no row is lost but the one in writing; raises Broken."""
    rows = [int(row["total_iters"]) for row in LogFiles(folder)._read()[1]]
    if rows not in ([*range(1, returned + 1)], [*range(1, returned + 2)]):
        raise Broken(f"lost: metrics.csv has the rows {rows} after {returned} writes")


def kill_writing(write: Callable, check: Callable, mode: int, at: int) -> bool:
    """Kill what writes a file in its n-th operation."""
    with scratch() as folder:
        folder.mkdir()
        if shim.wait(shim.fork(lambda: write(folder), folder, mode=mode, at=at)):
            return False
        check(folder, shim.control.returned)
        return True


def cut_options() -> list[Callable[[], bool]]:
    """Return a point for every folder that a power cut may leave while options are written; old ones may stand."""

    def point(held: power_cuts.Folder, half: bool, returned: int) -> bool:
        with scratch() as folder:
            power_cuts.lay_out(held, folder, half)
            judge_options(folder, returned, oldest=0)
        return True

    with scratch() as folder:
        folder.mkdir()
        ops = shim.operations(lambda: write_options(folder), folder)
        return [partial(point, *cut) for cut in power_cuts.after(ops, power_cuts.Disk(folder))]


def count() -> None:
    """Make a story's saves and print what the shim counted: process id, folder, operations."""
    torch.set_num_threads(1)
    shim.new_page()
    with scratch() as folder:
        begin(STORIES[0], folder)
        pid = shim.fork(lambda: act(STORIES[0], Checkpointer(folder), STORIES[0].steps), folder)
        shim.wait(pid)
        print(pid, folder, shim.control.count)


# ---- the table ----

NAIVE = "for comparison, files written in place"
POWER_CUT = "power cut, a copy of the mounted ext4 image"


def points_of(story: Story, quick: bool) -> Iterator[tuple[str, list[Callable[[], bool]], int | None]]:
    """Give out rows of the table: what is injected, its points, and how many are taken at random (None: all)."""
    with scratch() as folder:
        begin(story, folder)
        ops = list(shim.operations(lambda: act(story, Checkpointer(folder), story.steps), folder))
    every = range(1, len(ops) + 1)
    writes = [n for n in every if ops[n - 1].kind == "write"]
    others = [n for n in every if ops[n - 1].kind != "write"]
    later = range(1, 90)  # longer than three saves take
    yield "killed before the n-th operation", [partial(kill, story, KILL_BEFORE, n) for n in every], None
    yield "killed halfway into it", [partial(kill, story, KILL_WITHIN, n) for n in every], None
    again = [
        partial(kill_again, story, n, partial(kill_next, story, mode, m))
        for n, mode, m in itertools.product(others, (KILL_BEFORE, KILL_WITHIN), later)
    ]
    yield "killed, and killed again when going on", again, 400
    names = ", ".join(errno.errorcode[error] for error in ERRORS)
    once = [partial(fail_from_start, story, at=n, mode=FAIL, error=e) for n, e in itertools.product(every, ERRORS)]
    yield f"the n-th operation fails: {names}", once, None
    lasts = {"mode": FAIL, "forever": 1}
    lasting = [
        partial(fail_from_start, story, e not in NO_REMOVING, at=n, error=e, kinds=shim.bits(kinds), **lasts)
        for n, (e, kinds) in itertools.product(every, ERRORS.items())
    ]
    yield f"all fail from the n-th on: {names}", lasting, None
    done = [partial(fail_from_start, story, at=n, mode=FAIL_DONE, error=errno.EIO) for n in every]
    yield "the n-th is done and reports EIO", done, None
    odd = [partial(fail_from_start, story, at=n, mode=mode) for n, mode in itertools.product(writes, (HALF, LOSE))]
    yield "the n-th write does half, or loses 100 bytes and reports success", odd, None
    mixed = [
        partial(kill_again, story, n, partial(fail, story, tidy=False, at=m, mode=FAIL, error=e, forever=forever))
        for n, e, forever, m in itertools.product(others, ERRORS, (0, 1), later)
    ]
    yield f"killed, then {names} when going on", mixed, 400
    yield "power cut, by a model: what was not synced is lost in any combination", cut_power(story), None
    commits = [n for n in others if ops[n - 1].kind == "rename" and ops[n - 1].target.name.endswith("_state.pth")]
    wrecks = [n + step for n in commits[1:] for step in range(1, 7)]  # what the next save has to complete
    wrecks = random.Random(0).sample(wrecks, 2 if quick else 16)
    cuts = [point for n in wrecks for point in cut_power(story, first=n)]
    yield "killed, then a power cut when going on, by the model", cuts, 800
    naive = [partial(kill, story, mode, n, InPlace) for mode in (KILL_BEFORE, KILL_WITHIN) for n in every]
    yield f"{NAIVE}: killed before or halfway into the n-th operation", naive, 100
    yield f"{NAIVE}: power cut, by the model", cut_power(story, InPlace), 100


def points_besides() -> Iterator[tuple[str, list[Callable[[], bool]], None]]:
    """Give out the rows of what is written besides the saves."""
    ways = (
        (write_options, lambda folder, returned: judge_options(folder, returned, returned)),
        (write_table, judge_table),
    )
    kills = itertools.product(ways, (KILL_BEFORE, KILL_WITHIN), range(1, 60))
    yield (
        "train_opt.json and metrics.csv: killed before and halfway into the n-th operation",
        [partial(kill_writing, *way, mode, n) for way, mode, n in kills],
        None,
    )
    yield "train_opt.json: power cut, by the model", cut_options(), None


def images() -> Iterator[tuple[str, Iterable[Callable[[], bool]]]]:
    """Give out the rows of real power cuts."""
    for make, what in ((Checkpointer, POWER_CUT), (InPlace, f"{NAIVE}: {POWER_CUT}")):
        for story, options in itertools.product(STORIES, MOUNTS):
            yield what, cut_image(story, options, 2 if make is Checkpointer else 8, make)


def run(points: Iterable[Callable[[], bool]]) -> tuple[int, list[str]]:
    """Try points one after the other; return how many faults struck, and what was broken."""
    struck, broken = 0, []
    for point in points:
        try:
            struck += point()
        except Broken as error:
            struck += 1
            broken.append(str(error))
    return struck, broken


def run_apart(points: list[Callable[[], bool]], workers: int) -> tuple[int, list[str]]:
    """Do the same in several processes."""
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for worker in range(workers):
            if (pid := os.fork()) == 0:
                status = 70
                try:
                    shim.new_page()
                    result = run(points[worker::workers])
                    (Path(folder) / str(worker)).write_text(json.dumps(result))
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(status)
            children.append(pid)
        if sum([os.waitpid(pid, 0)[1] for pid in children]):
            raise RuntimeError("a process of the campaign failed")
        results = [json.loads((Path(folder) / str(worker)).read_text()) for worker in range(workers)]
    return sum(struck for struck, _ in results), [text for _, broken in results for text in broken]


class Table:
    """Rows, to which both stories add."""

    def __init__(self):
        self.rows: dict[str, tuple[int, list[str], float]] = {}

    def add(self, name: str, work: Callable[[], tuple[int, list[str]]]) -> None:
        """Do the work of a row, tell how far it is, and sum it up."""
        start = time.time()
        struck, broken = work()
        points, texts, seconds = self.rows.get(name, (0, [], 0.0))
        self.rows[name] = (points + struck, texts + broken, seconds + time.time() - start)
        print(f"{name}: {points + struck} points, {len(texts + broken)} violations", file=sys.stderr, flush=True)
        for text in [] if name.startswith(NAIVE) else broken[:5]:
            print(f"    {text}", file=sys.stderr, flush=True)

    def finished(self) -> list[tuple[str, int, int, str]]:
        """Return the rows as campaign.py wants them."""
        rows = []
        for name, (points, broken, seconds) in self.rows.items():
            kinds = [text.split(":")[0] for text in broken]
            counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
            rows.append((name, points, len(broken), f"{counts or 'each whole or absent'}; {seconds:.0f} s"))
        return rows


def work(quick: bool, only: str, workers: int) -> list[tuple[str, int, int, str]]:
    """Do the campaign in this process, which runs under the shim."""
    torch.set_num_threads(1)
    shim.new_page()
    table = Table()
    for story in STORIES:
        rehearse(story)
    gc.freeze()  # forks then copy fewer pages
    for rows in (*(points_of(story, quick) for story in STORIES), points_besides()):
        for name, points, limit in rows:
            if only in name:
                limit = min(QUICK if quick else limit or len(points), len(points))
                table.add(name, partial(run_apart, random.Random(0).sample(points, limit), workers))
    if not quick and only in POWER_CUT:
        if why := power_cuts.can_mount():
            table.rows[f"{POWER_CUT}: skipped, {why}"] = (0, [], 0.0)
        else:
            for name, points in images():
                table.add(name, partial(run, points))
    gc.unfreeze()
    return table.finished()


def rehearse(story: Story) -> None:
    """Make all saves once with nothing spoiled; what is made and loaded here need not be again in forks."""
    with scratch() as folder:
        done, checkpoints = begin(story, folder), Checkpointer(folder)
        for prefix, number in story.steps:
            save(story, checkpoints, prefix, number)
            done[prefix] = number
            judge(story, folder, done)


def campaign(quick: bool = False, only: str = "", workers: int = 2) -> list[tuple[str, int, int, str]]:
    """Break saves at all points, or at a few of each kind; return rows of (what, points, violations, remark).

    Rows that begin with NAIVE show that the campaign finds what is wrong: theirs are no violations of this project's.
    """
    if why := shim.missing():
        return [(f"saves: skipped, {why}", 0, 0, "")]
    rows = shim.run_under(__file__, ["--under-shim", json.dumps([quick, only, workers])])
    return [tuple(row) for row in json.loads(rows)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--under-shim"]:
        print(json.dumps(work(*json.loads(sys.argv[2]))))
    elif sys.argv[1:2] == ["--count"]:
        count()
    else:
        begun, words = time.time(), [word for word in sys.argv[1:] if word != "--quick"]
        rows = campaign("--quick" in sys.argv, *words)
        for row in rows:
            print("{:<90} {:>5} points {:>4} violations   {}".format(*row))
        print(f"{time.time() - begun:.0f} s")
        sys.exit(any(row[2] and not row[0].startswith(NAIVE) for row in rows))
