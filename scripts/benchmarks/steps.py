"""Parts of scripts/benchmark.py: the machine's limits, and training steps in relation to them."""

from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import re
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from models import create_model
from scripts.benchmarks.common import hushed, models_of, release, say, synchronise, train_options
from util.errors import UserError
from util.runtime import seeds
from util.runtime.run_facts import run_facts, set_facts
from util.speed import plan

# ---- limits ----


def limits(args, work: Path) -> Iterator[dict]:
    """Measure matrix products by precision, in FLOP/s (a multiplication and an addition are two operations)."""
    cuda, device = args.device.type == "cuda", args.device
    n = 8192 if cuda else 256 if args.quick else 2048
    # Not float16 on CPUs: it is slow there and nothing trains in it.
    precisions = ("fp32", "tf32", "bf16", "fp16") if cuda else ("fp32", "bf16")
    samples, count = {precision: [] for precision in precisions}, 20 if cuda else 2
    say(f"limits: {', '.join(precisions)}")
    for turn, precision in itertools.product(range(args.rounds + 1), precisions):
        matrix = torch.randn(n, n, device=device).to(plan.DTYPES[precision.replace("tf32", "fp32")])
        out = torch.empty_like(matrix)
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")  # high: as fast units round
        synchronise(device)
        begin = time.perf_counter()
        for _ in range(count):
            torch.mm(matrix, matrix, out=out)
        synchronise(device)
        torch.set_float32_matmul_precision("highest")
        if turn:  # the first warms up
            samples[precision].append(count * 2 * n**3 / (time.perf_counter() - begin))
    yield from ({"limit": precision, "samples": rates} for precision, rates in samples.items())


# ---- training steps ----


def variants(args) -> dict[str, tuple[list[str], str]]:
    """Return the ways to train: name -> options, and the speed words that replace those of the options."""
    cuda = args.device.type == "cuda"
    table = {"default": ([], "fp32"), "bf16": (["--precision", "bf16"], "")}
    if not args.quick:
        table |= {"fp16": (["--precision", "fp16"], "")} if cuda else {}
        alone = ("channels_last", "compile", "capture") if cuda else ("channels_last",)
        table |= {word: ([], f"fp32 {word}") for word in alone}
        table |= {"grad_checkpoint": (["--grad_checkpoint"], "")}
    return {**table, "--fast": (["--fast"], "")}


class Arm:
    """A model trained in one way, and its measurements."""

    def __init__(self, args, head: dict, variant: str):
        words, chosen = variants(args)[variant]
        self.opt = train_options(args, head["model"], "--batch_size", head["batch_size"], *words)
        set_facts(self.opt, speed=chosen or run_facts(self.opt).speed)
        self.device, self.count, self.block = self.opt.device, 0, 1
        self.seconds, self.memory = [], 0
        with hushed():
            self.model = create_model(self.opt)
            self.model.setup(self.opt)
        self.batches = [make_batch(self.opt, seed) for seed in range(2)]

    def step(self, batch: dict) -> None:
        """Train on a batch, as train.py does."""
        self.count += 1
        self.model.progress.advance(self.opt.batch_size, begins=True)
        seeds.seed_all(self.opt.seed, "step", 0, self.count)
        self.model.set_input(batch)
        self.model.optimize_parameters()

    def run(self, count: int) -> float:
        """Make steps on batches in memory; return seconds per step, with one synchronisation at the end."""
        synchronise(self.device)
        begin = time.perf_counter()
        for i in range(count):
            self.step(self.batches[i % 2])
        synchronise(self.device)
        return (time.perf_counter() - begin) / count

    def warm_up(self, before: int) -> None:
        """Make the first steps, which choose algorithms, compile and capture; note a GPU's bytes beyond `before`."""
        if self.device.type != "cuda":
            self.run(1)
            return
        self.run(3)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)  # includes capturing, but not the choice of algorithms
        self.run(12)
        if plan.speed_of(self.opt).captured and self.model.captured_step is None:
            raise RuntimeError("steps could not be captured, perhaps out of memory")
        self.block = max(1, min(50, round(1 / self.run(3))))  # about a second
        self.memory = torch.cuda.max_memory_allocated(self.device) - before

    def measured(self) -> dict:
        """Return the measurements, or that the losses are not finite."""
        try:
            losses = dict(self.model.get_current_losses())
        except UserError as error:
            return {"failed": short(error)}
        row = {"speed": run_facts(self.opt).speed, "samples": self.seconds, "steps_each": self.block, "losses": losses}
        return {**row, "memory": self.memory}


def make_batch(opt, seed: int) -> dict:
    """Return a batch of noise in [-1, 1], in main memory; pinned for a GPU."""
    noise, shape = torch.Generator().manual_seed(seed), (opt.batch_size, 3, opt.crop_size, opt.crop_size)
    images = {key: torch.rand(shape, generator=noise).mul_(2).sub_(1) for key in ("A", "B")}
    if opt.device.type == "cuda":
        images = {key: image.pin_memory() for key, image in images.items()}
    return {**images, "A_paths": ["A"] * opt.batch_size, "B_paths": ["B"] * opt.batch_size}


def steps(args, work: Path) -> Iterator[dict]:
    """Measure training steps: models, batch sizes, variants."""
    cuda = args.device.type == "cuda"
    sizes = args.batch_sizes or ([1, 4, 16, 64] if cuda and not args.quick else [1])
    checks = {"compile": plan.why_not_compile, "capture": plan.why_not_capture}
    if cuda:
        torch._dynamo.config.recompile_limit *= 2  # two compiled variants exist at a time
    for model in models_of(args):
        flops, opt = count_step(args, model), train_options(args, model)
        failed = {name: checks[name](opt) if name in checks else "" for name in variants(args)}
        for batch_size in sizes:
            head = {"model": model, "batch_size": batch_size}
            for row in compare(args, head, [name for name, reason in failed.items() if not reason]):
                if "samples" in row and not cuda and not (args.quick and row["variant"] != "default"):
                    row["memory"] = memory_of_child(args, head, row["variant"])
                yield {**row, "flops": flops * batch_size}
            yield from ({**head, "variant": name, "failed": reason} for name, reason in failed.items() if reason)


def compare(args, head: dict, names: list[str]) -> list[dict]:
    """Measure variants in turns, or one by one where memory does not hold all. Return a row for each."""
    try:
        return alternate(args, head, names)
    except RuntimeError as error:
        failure = short(error)
    release()  # only here: the error kept the models alive
    if len(names) == 1:
        return [{**head, "variant": names[0], "failed": failure}]
    return [{**row, "alone": True} for name in names for row in compare(args, head, [name])]


def alternate(args, head: dict, names: list[str]) -> list[dict]:
    """Measure variants in turns; raise RuntimeError where memory does not hold more than one."""
    arms, failed = {}, {}
    say(f"steps: {head['model']}, batch {head['batch_size']}, {', '.join(names)}")
    for name in names:
        try:
            arms[name] = prepare(args, head, name)
        except (RuntimeError, UserError) as error:
            if "out of memory" in str(error) and len(names) > 1:
                raise
            failed[name] = short(error)
    for _, arm in itertools.product(range(args.rounds), arms.values()):
        arm.seconds.append(arm.run(arm.block))
    rows = []
    for name in names:
        row = {"failed": failed[name]} if name in failed else arms.pop(name).measured()
        rows.append({**head, "variant": name, **row})
    arm = None  # frees the memory of the last one
    release()
    return rows


def prepare(args, head: dict, name: str) -> Arm:
    """Return an arm after its first steps."""
    gc.collect()
    before = torch.cuda.memory_allocated(args.device) if args.device.type == "cuda" else 0
    arm = Arm(args, head, name)
    arm.warm_up(before)
    return arm


def short(error: Exception) -> str:
    """Return an error as the cell of a table."""
    full = isinstance(error, torch.OutOfMemoryError)
    return "out of memory" if full else f"{type(error).__name__}: {error}".splitlines()[0][:120]


def memory_of_child(args, head: dict, variant: str) -> int | None:
    """Return the main memory of a new process that makes two steps; None if it is killed."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool, contextlib.suppress(BrokenProcessPool):
        return pool.submit(memory_of_process, args, head, variant).result()


def memory_of_process(args, head: dict, variant: str) -> int | None:
    """Make two steps; return the process's peak of main memory in bytes, including PyTorch."""
    Arm(args, head, variant).run(2)
    status = Path("/proc/self/status")  # getrusage would include the parent
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) if status.is_file() else None


def count_step(args, model: str) -> int:
    """Count the FLOPs of a float32 step on one image, on the meta device."""
    opt = train_options(args, model, "--batch_size", 1)
    batch = {key: value.to("meta") if torch.is_tensor(value) else value for key, value in make_batch(opt, 0).items()}
    opt.device, opt.gpu_ids = torch.device("meta"), []
    set_facts(opt, speed="fp32")
    with hushed(), opt.device:
        net = create_model(opt)
        net.setup(opt)
    for optimizer in net.optimizers:
        optimizer.param_groups[0]["fused"] = False  # the fused step does not support the meta device
    with FlopCounterMode(display=False) as flops:
        net.set_input(batch)
        net.optimize_parameters()
    return flops.get_total_flops()
