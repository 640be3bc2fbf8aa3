"""Kill training at every step, resume with `--continue_train`, and compare with a run that was never stopped.

Each point trains train.py in forked processes, sends SIGKILL at a moment (as often as the point says), resumes until
the end, and compares every file of the experiment byte by byte; only times and facts about the start may differ. Every
step also records the random generators, weights, learning rates, losses and images. So errors that cancel out later
are found.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import itertools
import json
import os
import random
import re
import runpy
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from conftest import make_aligned, make_unaligned
from faults.driver import Row, end_with, in_parallel
from terminal import loss_lines, table, weights

import data
import models
import train  # noqa: F401 - train.py's imports, once for all forks
from util.pages.data_file import PageData

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 120  # seconds, after which a process is ended by SIGALRM: it hangs
TINY = (
    "--ngf 2 --ndf 2 --load_size 36 --crop_size 32 --display_id -1 --gpu_ids -1 --seed 7 --n_epochs 2 "
    "--n_epochs_decay 1 --print_freq 1 --display_freq 2 --update_html_freq 2 --save_epoch_freq 1"
)


class Kill(NamedTuple):
    """Where a start of the training ends: `moment` number `n` of this start, in these ranks (None: in all)."""

    moment: str  # see die(); torn: as after, with half a line at the end of every log
    n: int
    ranks: tuple[int, ...] | None = None


class Case(NamedTuple):
    """A training command and the points at which it is killed."""

    name: str
    words: str
    ranks: int = 1
    moments: tuple[tuple[str, tuple[int, ...] | None], ...] = (("before", None), ("after", None))
    short: bool = False  # resume by `--continue_train` alone: the options come from train_opt.json
    chain: bool = False  # besides, kill every start at the same point, until the last comes to the end
    group: str = ""  # the row of the campaign's table


# ---- in the training process ----


def digest(*values) -> str:
    """Sum up bytes, tensors and plain values."""
    sha = hashlib.sha256()
    for value in values:
        if isinstance(value, torch.Tensor):
            value = value.detach().contiguous().numpy().tobytes()
        sha.update(value if isinstance(value, bytes) else repr(value).encode())
    return sha.hexdigest()[:16]


def watch(record: int, point: Kill | None, rank: int) -> None:
    """Have every model that is made record its steps in the open file `record`, and die at `point`."""
    create, steps = models.create_model, iter(range(1, 10**6))

    def die(moment, n):
        """Send the signal if this is the point: `before` a step, `after` its update, or SIGTERM to `stop` after it."""
        mine = point and n == point.n and (point.ranks is None or rank in point.ranks)
        if mine and moment == {"torn": "after", "stop": "before"}.get(point.moment, point.moment):
            os.kill(os.getpid(), signal.SIGTERM if point.moment == "stop" else signal.SIGKILL)

    def create_model(opt):
        model = create(opt)
        optimize = model.optimize_parameters

        def optimize_parameters():
            step = next(steps)
            for scheduler in model.schedulers:
                scheduler.patience = -1  # plateau lowers the rate after every epoch
            die("before", step)
            optimize()
            numpy = np.random.get_state()
            line = {
                "total_iters": model.progress.total_iters,
                "random": digest(random.getstate(), numpy[1].tobytes(), numpy[2:], torch.get_rng_state()),
                "weights": digest(*(p for net in model.networks().values() for p in net.parameters())),
                "rates": [group["lr"].hex() for optimizer in model.optimizers for group in optimizer.param_groups],
                "losses": {n: repr(torch.as_tensor(getattr(model, f"loss_{n}")).item()) for n in model.loss_names},
                "images": [Path(path).name for path in model.image_paths if model.step_part.share],
            }
            os.write(record, (json.dumps(line) + "\n").encode())
            die("after", step)

        model.optimize_parameters = optimize_parameters
        return model

    models.create_model = create_model


def compute_in_float64() -> None:
    """Let this process compute in float64, so that runs on one and on several processes can be compared exactly."""
    torch.set_default_dtype(torch.float64)
    batches = data.CustomDatasetDataLoader.__iter__

    def doubled(loader):
        for batch in batches(loader):
            yield {key: value.double() if torch.is_tensor(value) else value for key, value in batch.items()}

    data.CustomDatasetDataLoader.__iter__ = doubled


def start(words: str, out: Path, ranks: int = 1, kill: Kill | None = None, doubles: bool = False) -> list[int]:
    """Type `train.py words` in `ranks` forked processes, as torchrun would, and return their exit statuses.

    `out` gets log.txt, the steps' records steps_RANK.txt, and the experiment's folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children, temporary = [], tempfile.mkdtemp()
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND

    def train_here(rank):
        atexit._clear()  # what the parent registered
        signal.alarm(LIMIT)
        tempfile.tempdir = temporary  # a killed process leaves its folders for pipes to its workers
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
        for name, value in names.items():
            os.environ.pop(name, None) if ranks == 1 else os.environ.update({name: str(value)})
        os.environ.update(MASTER_ADDR="127.0.0.1", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")
        os.dup2(os.open(out / "log.txt", append), 1)
        os.dup2(1, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        torch.set_num_threads(1)
        if doubles:
            compute_in_float64()
        watch(os.open(out / f"steps_{rank}.txt", append), kill, rank)
        sys.argv = ["train.py", *f"{words} --checkpoints_dir {out} --name run".split()]
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")

    for rank in range(ranks):
        if (pid := os.fork()) == 0:
            end_with(train_here, rank)
        children.append(pid)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    shutil.rmtree(temporary, ignore_errors=True)
    return statuses


# ---- killing and resuming ----


def newest(folder: Path) -> str:
    """Return the options that resume from the newest checkpoint; nothing if there is none yet."""
    sets = {path.name.removesuffix("_state.pth"): torch.load(path) for path in folder.glob("*_state.pth")}
    found = {name: state["progress"] for name, state in sets.items() if not state.get("slim")}
    if not found:
        return ""
    prefix = max(found, key=lambda name: ("_" in name or name == "latest", found[name], name))
    which = {"latest": "", "iter": f"--load_iter {prefix[5:]}"}.get(prefix.split("_")[0], f"--epoch {prefix}")
    return f"--continue_train {which}"


def tear(folder: Path) -> None:
    """Leave half a line at the end of every file that is only appended to, as a kill within a write does."""
    for name in ("loss_log.txt", "metrics.csv", "web/data.js"):
        path = folder / name
        if path.is_file() and (lines := path.read_bytes().splitlines()):
            path.write_bytes(path.read_bytes() + lines[-1][: len(lines[-1]) // 2])


def ended_as_it_should(statuses: list[int], kill: Kill | None) -> bool:
    """Whether these are the exit statuses after a signal: without one rank the others fail."""
    if kill is None:
        return False
    if kill.moment == "stop":
        return statuses == [128 + signal.SIGTERM] * len(statuses)
    killed = range(len(statuses)) if kill.ranks is None else kill.ranks
    # If all ranks are killed, the loss of one may end another before its own kill does.
    return any(statuses[rank] == -signal.SIGKILL for rank in killed) and not {0, -signal.SIGALRM} & {*statuses}


def survive(case: Case, kills: list[Kill], out: Path, source: Path) -> tuple[list[str], int]:
    """Train with these kills, one for each start, then to the end; return the errors and the number of resumptions."""
    folder, resumes = out / "run", 0
    for kill in [*kills, None]:
        words = f"--dataroot {source} {case.words}"
        if more := newest(folder):
            resumes += 1
            words = f"--dataroot {source} --gpu_ids -1 {more}" if case.short else f"{words} {more}"
        statuses = start(words, out, case.ranks, kill)
        if not any(statuses):
            return [], resumes  # to the end
        log = (out / "log.txt").read_text(errors="replace")
        if ended_as_it_should(statuses, kill) and "Traceback" not in log:
            if kill.moment == "torn":
                tear(folder)
        elif "nothing is left to train" in log:
            return [], resumes  # the kill came after the last save
        else:
            return [f"statuses {statuses} after {kill}: {' / '.join(log.strip().splitlines()[-2:])}"], resumes
    return ["did not come to its end"], resumes


# ---- comparing ----

OF_ONE_START = ("continue_train", "epoch_count", "epoch", "load_iter", "checkpoints_dir")


def content(path: Path):
    """Return the part of a file that has to be equal in both runs: its bytes without times."""
    if path.name == "loss_log.txt":  # steps that were taken twice are in it twice
        lines = loss_lines(path.read_text())
        return sorted({(e, i, *losses.items()) for e, i, losses in lines})
    if path.name == "metrics.csv":
        return [{**row, "time": "", "data": ""} for row in table(path)]
    if path.name == "data.js":
        lines = [line for line in PageData(path.parent).read() if line[0] not in ("begin", "start", "next", "end")]
        return [(call, {**values[0], "time": 0}) for call, values in lines]
    if path.name == "index.html":  # tells when and how a run was started
        return re.sub(rb"<dl.*</dl>", b"", path.read_bytes(), flags=re.DOTALL)
    if path.name == "train_opt.json":
        options = json.loads(path.read_text())
        options.get("facts", {}).pop("launch", None)
        return {k: v for k, v in options.items() if k not in OF_ONE_START}
    if path.name == "train_opt.txt":  # what is a default depends on the start
        found = re.findall(r"^ *(\w+): (\S*)", path.read_text(), re.MULTILINE)
        return {k: v for k, v in found if k not in OF_ONE_START}
    return path.read_bytes()


def records(out: Path) -> set[str]:
    """Return the record of every step of every rank; a step that was taken twice alike counts once."""
    lines = [(path.stem, line) for path in out.glob("steps_*.txt") for line in path.read_text().splitlines()]
    return {f"{stem} {line}" for stem, line in lines}


def differences(whole: Path, parts: Path) -> list[str]:
    """Name the files and steps of two runs that differ."""
    folders = [out / "run" for out in (whole, parts)]
    names = [{str(path.relative_to(f)) for path in f.glob("**/[!.]*") if path.is_file()} for f in folders]
    found = [f"only in one: {name}" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        if content(whole / "run" / name) != content(parts / "run" / name):
            found.append(f"differs: {name}")
    steps = records(whole) ^ records(parts)
    if steps:
        found.append(f"{len(steps)} steps differ: {min(steps)[:200]}")
    return found


# ---- the campaign ----


PAIR = f"--model pix2pix --netG unet_32 --num_threads 0 {TINY}"
CYCLE = f"--model cycle_gan --netG unet_32 --pool_size 3 --num_threads 0 {TINY}"
WATCHED = "--lr_policy plateau --val_freq 1"
OFTEN = "--save_latest_freq 2"


def _core() -> Iterator[Case]:
    """Two models, four policies, one and two processes."""
    rates = {"linear": "", "step": "--lr_policy step --lr_decay_iters 1", "cosine": "--lr_policy cosine"}
    two = (("before", None), ("after", (0,)), ("before", (1,)))
    for policy, more in (rates | {"plateau": WATCHED}).items():
        for model, base in (("pix2pix", f"{PAIR} --netG unet_64"), ("cycle_gan", CYCLE)):  # with dropout, with pools
            name, words, group = f"{model}, {policy}", f"{base} {OFTEN} {more}", f"{model}, 4 policies"
            yield Case(name, words, group=f"{group}, 1 process")
            yield Case(f"{name}, 2 processes", words, 2, two, group=f"{group}, 2 processes")


TORN, STOP = ((("torn", None),), (("stop", None),))
ALL = (("before", None), ("after", None), ("torn", None))
CASES = (
    *_core(),
    Case("batches of 2", f"{PAIR} {OFTEN} --batch_size 2", moments=ALL, chain=True),
    Case("saved after epochs", f"{PAIR} --save_latest_freq 1000", moments=ALL, short=True, chain=True),
    Case("saved after steps", f"{CYCLE} --save_latest_freq 1", moments=TORN, short=True, chain=True),
    Case("4 workers", f"{CYCLE} {OFTEN} --num_threads 4 --batch_size 2"),
    Case("4 workers, 2 processes", f"{PAIR} {OFTEN} --num_threads 4", 2, (("before", None),)),
    Case("3 processes", f"{CYCLE} {OFTEN}", 3, (("after", (0,)), ("before", None))),
    Case("4 processes", f"{PAIR} {OFTEN}", 4, (("before", (3,)), ("after", None))),
    Case("averaged weights, batches that accumulate", f"{PAIR} {OFTEN} --ema 0.9 --grad_accum 2", moments=ALL),
    Case("the same, 2 processes", f"{CYCLE} {OFTEN} --ema 0.9 --grad_accum 2", 2, (("after", (1,)),)),
    Case("stopped by SIGTERM", f"{CYCLE} --save_latest_freq 1000 --save_by_iter", moments=STOP, chain=True),
    Case("stopped by SIGTERM, 2 processes", f"{PAIR} {WATCHED} --save_latest_freq 1000", 2, (("stop", (1,)),)),
)


def points(case: Case, steps: int) -> list[list[Kill]]:
    """Return the kills of each point, for a run of that many steps."""
    found = [[Kill(moment, n, ranks)] for moment, ranks in case.moments for n in range(1, steps + 1)]
    return found + ([[Kill("before", 2)] * (steps - 1), [Kill("after", 3)] * steps] if case.chain else [])


def make_sources(folder: Path, count: int = 5) -> None:
    """Make pairs of images, and two sets of images, one fewer in B."""
    make_aligned(folder / "aligned", ("train", "val"), count=count, side=36)
    make_unaligned(folder / "unaligned", ("train", "val"), count_A=count, count_B=count - 1, side=36)


class Arena:
    """A folder in which cases are trained, once without a stop and once for each point."""

    def __init__(self, folder: Path):
        self.folder = folder
        make_sources(folder)

    def place(self, case: Case) -> Path:
        """Return the folder of a case's runs."""
        return self.folder / re.sub(r"\W+", "_", case.name)

    def source(self, case: Case) -> Path:
        """Return the images that a case trains on."""
        return self.folder / ("unaligned" if "cycle" in case.words else "aligned")

    def whole(self, case: Case) -> int:
        """Train without a stop; return the number of steps."""
        out = self.place(case) / "whole"
        statuses = start(f"--dataroot {self.source(case)} {case.words}", out, case.ranks)
        assert not any(statuses), (out / "log.txt").read_text()
        steps = (out / "steps_0.txt").read_text().splitlines()
        assert len({str(json.loads(step)["rates"]) for step in steps}) > 1, "the learning rate never changes"
        return len(steps)

    def point(self, case: Case, kills: list[Kill]) -> dict:
        """Train with these kills; return the violations and the number of resumptions."""
        out = Path(tempfile.mkdtemp(dir=self.place(case)))
        wrong, resumes = survive(case, kills, out, self.source(case))
        wrong = wrong or differences(self.place(case) / "whole", out)
        if wrong:
            print(f"{case.name}, {kills[0]} x {len(kills)}: {'; '.join(wrong)}", flush=True)
        shutil.rmtree(out)
        return {"case": case.name, "wrong": wrong, "resumes": resumes}


# ---- another number of processes ----

# Biases in front of an instance norm have no gradient but rounding noise, which Adam enlarges; well-scaled weights keep
# it small.
IN_DOUBLES = (
    f"--netG unet_32 --norm instance --init_type xavier --init_gain 1 --no_dropout --pool_size 0 --num_threads 0 {TINY}"
    " --save_latest_freq 1"
)
BATCH = 12  # of all processes together
PAIRS = list(itertools.permutations((1, 2, 3, 4), 2))


class OtherRanks:
    """Kill a run of N processes in the middle of an epoch and resume with M, in float64."""

    def __init__(self, folder: Path):
        self.folder = folder
        make_sources(folder, count=18)  # steps of 12 and of 6 images

    def start(self, model: str, out: Path, ranks: int, kill: Kill | None = None) -> list[list[str]]:
        """Train and return the images of each step, in the order of the ranks."""
        source = self.folder / ("aligned" if model == "pix2pix" else "unaligned")
        words = f"--dataroot {source} --model {model} {IN_DOUBLES} --batch_size {BATCH // ranks} {newest(out / 'run')}"
        statuses = start(words, out, ranks, kill, doubles=True)
        if any(statuses) if kill is None else 0 in statuses:
            raise RuntimeError(f"statuses {statuses}: {(out / 'log.txt').read_text()[-300:]}")
        steps = {}
        for rank in range(ranks):
            for line in map(json.loads, (out / f"steps_{rank}.txt").read_text().splitlines()):
                steps.setdefault(line["total_iters"], []).extend(line["images"])
            (out / f"steps_{rank}.txt").unlink()
        return list(steps.values())

    def whole(self, model: str) -> list[list[str]]:
        """Train in one process without a stop."""
        return self.start(model, self.folder / model, 1)

    def point(self, model: str, ranks: tuple[int, int], step: int, order: list[list[str]]) -> dict:
        """Kill the first ranks before a step, resume with the second; return violations and the weights' difference."""
        out = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            steps = self.start(model, out, ranks[0], Kill("before", step))[: step - 1] + self.start(
                model, out, ranks[1]
            )
        except RuntimeError as error:
            return {"wrong": [str(error)], "off": 0.0}
        ours, theirs = (weights(folder / "run", "[0-9l]*") for folder in (out, self.folder / model))
        off = max(float((ours[key] - theirs[key]).abs().max()) for key in theirs)
        wrong = ["other images in a step"] * (steps != order) + ["other networks"] * (ours.keys() != theirs.keys())
        wrong += [f"weights are off by {off:.1e}"] * (off > 1e-9)
        shutil.rmtree(out)
        return {"wrong": wrong, "off": off}

    def rows(self, workers: int, pairs=PAIRS) -> Iterator[Row]:
        """Yield the rows of the campaign."""
        for model in ("pix2pix", "cycle_gan"):
            order = self.whole(model)
            tasks = [functools.partial(self.point, model, pair, step, order) for pair in pairs for step in (2, 4, 6)]
            results = in_parallel(tasks, workers)
            wrong = [f"{result['wrong'][0]}" for result in results if result["wrong"]]
            remark = wrong[0] if wrong else f"weights within {max(result['off'] for result in results):.0e}"
            yield f"other number of processes: {model}", len(tasks), len(wrong), remark


def kill_all(workers: int, every: int = 1) -> list[Row]:
    """Kill every case at its points, or at every `every`-th of them; return a row for each group."""
    with tempfile.TemporaryDirectory(prefix="resume") as folder:
        arena = Arena(Path(folder) / "cases")
        sizes = in_parallel([functools.partial(arena.whole, case) for case in CASES], workers)
        todo = [(case, kills) for case, size in zip(CASES, sizes, strict=True) for kills in points(case, size)][::every]
        results = in_parallel([functools.partial(arena.point, *point) for point in todo], workers)
    groups: dict[str, list[dict]] = {}
    for (case, _), result in zip(todo, results, strict=True):
        groups.setdefault(case.group or case.name, []).append(result)
    rows = []
    for group, mine in groups.items():
        wrong = [f"{result['case']}: {result['wrong'][0]}" for result in mine if result["wrong"]]
        remark = f"{sum(result['resumes'] for result in mine)} resumes; {wrong[0] if wrong else '0 bytes differ'}"
        rows.append((f"killed: {group}", len(mine), len(wrong), remark))
    return rows


def campaign(workers: int = 2, every: int = 1) -> list[Row]:
    """Return the table's rows; `every` > 1 takes a part of the points."""
    with tempfile.TemporaryDirectory(prefix="ranks") as folder:
        return [*kill_all(workers, every), *OtherRanks(Path(folder)).rows(workers, PAIRS[::every])]
