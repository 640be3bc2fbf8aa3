"""Measure on this machine what training, loading and translating take, beside what the machine could do.

    python scripts/benchmark.py                                      # limits, steps, loader, translation, page
    python scripts/benchmark.py --quick                              # about a minute; not for quoting
    python scripts/benchmark.py steps --models cycle_gan --batch_sizes 1 4
    python scripts/benchmark.py schedule --epochs 200                # train.py on 400 made pairs, as for facades
    python scripts/benchmark.py quality --data datasets/earth128 -- --netG unet_128 --ngf 64

Variants take turns (A B C A B C ...), with the same seeds and data. What stands behind `--` goes to train.py's options.
Every sample is written to benchmark.json, and tables to benchmark.md; so far as they are measured, if the run is cut
off. scripts/benchmark_tables.py joins such files, docs/performance.md says what the columns mean.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gc
import importlib
import io
import itertools
import json
import multiprocessing
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
try:
    import numpy as np
    import torch
    import torchvision
    from PIL import Image
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import FlopCounterMode

    from data import create_dataset
    from models import create_model
    from options.base_options import record
    from options.test_options import TestOptions
    from options.train_options import TrainOptions
    from scripts import benchmark_tables as tables
    from util import runtime, speed
    from util.html import HTML
    from util.preflight import core_count, main_memory
    from util.results import save_images
    from util.util import UserError, explained_errors
    from util.visualizer import Visualizer
except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises RuntimeError
    sys.exit(f"error: {error}: Python 3.10 or newer is needed, and what scripts/install_deps.sh installs")

SHORT, LONG = ("limits", "steps", "loader", "translation", "page"), ("schedule", "quality")
FACADES = 400  # training images of the pix2pix paper's schedule (section 6.2)
DIFFERENT = 32  # made pictures; further ones are these under other names
TOO_SLOW = 30  # seconds of a step, above which a batch size is left out unless it was asked for


def main(words: list[str]) -> None:
    """Measure the parts that the command line asks for; write each result as soon as it is there."""
    args = parse(words)
    values = {name: value if isinstance(value, (int, list)) else str(value) for name, value in vars(args).items()}
    document = {"machine": machine(args.device), "settings": values, "parts": {}}
    say(f"{', '.join(args.parts)}: on {document['machine']['name']}")
    with tempfile.TemporaryDirectory() as work:
        for part in args.parts:
            document["parts"][part] = []
            for row in PARTS[part](args, Path(work)):
                document["parts"][part].append(row)
                write(args.out, document)
            release()
    print(f"\n{tables.markdown(document)}\n{args.out}: benchmark.md, and benchmark.json with every sample")


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line; what stands behind `--` is train.py's."""
    place = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("parts", nargs="*", help=f"{', '.join(SHORT)}: all of these by default; {', '.join(LONG)}: only when named")
    add("--quick", action="store_true", help="about a minute, fewer variants, pix2pix alone; not for quoting")
    add("--out", type=Path, default=Path("results/benchmark"), help="folder to write to [%(default)s]")
    add("--models", nargs="+", help="of pix2pix, cycle_gan [both; schedule, quality: pix2pix]")
    add("--batch_sizes", nargs="+", type=int, help="of steps [1 4 16, on a GPU 64; not those that take too long]")
    add("--size", type=int, default=256, help="side of the images in pixels [%(default)s]")
    add("--rounds", type=int, help="how often variants take turns [5, quick 3]")
    add("--gpu_ids", default="0", help="as train.py's; -1: the CPU [%(default)s]")
    add("--epochs", type=int, default=30, help="of schedule, 10 or more in fives; 200: the whole of it [%(default)s]")
    add("--data", type=Path, help="of quality: a folder that datasets/make_earth_dataset.py made")
    add("--arms", nargs="+", help="of schedule, quality: fp32, bf16, fp16, fast, or words such as 'fp32 capture'")
    add("--seeds", nargs="+", type=int, default=[1, 2, 3], help="of quality [1 2 3]")
    args = parser.parse_args(words[:place])
    args.further, args.parts = words[place + 1 :], args.parts or list(SHORT)
    if wrong := [part for part in args.parts if part not in SHORT + LONG]:
        parser.error(f"{wrong[0]}: the parts are {', '.join(SHORT + LONG)}")
    if args.epochs < 2 * tables.CYCLE or args.epochs % tables.CYCLE:
        parser.error(f"--epochs {args.epochs}: 10, 15, 20 ...; each fifth epoch saves a checkpoint")
    if "quality" in args.parts and not (args.data and (args.data / "earth.json").is_file()):
        parser.error("quality needs --data, made by: python datasets/make_earth_dataset.py --size 128 --out FOLDER")
    if "steps" in args.parts and "limits" not in args.parts:
        args.parts.insert(0, "limits")  # with which the steps are compared
    args.rounds = args.rounds or (3 if args.quick else 5)
    args.few = min(args.rounds, 2 if args.quick else 3)  # of what takes long
    args.device = train_options(args, "pix2pix").device
    return args


def machine(device: torch.device) -> dict:
    """Describe the machine, and what of it is used; sizes are bytes."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.is_file() else []
    cpu = f"{(names or [platform.processor() or platform.machine()])[0]}, {core_count()} cores"
    about = {
        "device": "cpu" if device.type == "cpu" else "gpu",
        "name": cpu,
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "memory": main_memory()[0],
        "os": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }
    if device.type == "cuda":
        it = torch.cuda.get_device_properties(device)
        about |= {"name": f"{it.name}, {cpu}", "gpu_memory": it.total_memory, "cuda": torch.version.cuda}
        about |= {"cudnn": torch.backends.cudnn.version(), "tf32": torch.backends.cudnn.allow_tf32}
    return about


def commit() -> str:
    """Name the version of this project; empty where git does not know."""
    try:
        command = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def write(out: Path, document: dict) -> None:
    """Write samples, tables and loss curves; each file appears whole."""
    out.mkdir(parents=True, exist_ok=True)
    texts = {"benchmark.json": json.dumps(document, indent=1), "benchmark.md": tables.markdown(document)}
    if document["parts"].get("quality"):
        texts["quality.svg"] = tables.curves(document["parts"]["quality"])
    for name, text in texts.items():
        (out / f"{name}.new").write_text(text, encoding="utf-8")
        (out / f"{name}.new").replace(out / name)


def say(line: str) -> None:
    """Show that the program lives."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def hushed():
    """Keep back what the body prints; errors are still seen."""
    return contextlib.redirect_stdout(io.StringIO())


def models_of(args) -> list[str]:
    """Return the models that are measured, but in the long parts."""
    return args.models or (["pix2pix"] if args.quick else ["pix2pix", "cycle_gan"])


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was asked for."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def release() -> None:
    """Give back the memory of models that are gone, and what was compiled for them."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


# ---- limits ----


def limits(args, work: Path) -> Iterator[dict]:
    """Measure matrix products by precision, in FLOP/s (multiplying and adding are two), and copying, in bytes/s."""
    cuda, device = args.device.type == "cuda", args.device
    numbers = torch.ones((2**30 if cuda else 2**27) // 4, device=device)  # too many for caches
    target, n = torch.empty_like(numbers), 8192 if cuda else 1024 if args.quick else 2048
    kinds: dict[str, tuple[Callable, int]] = {"memory": (lambda: target.copy_(numbers), 2 * numbers.nbytes)}
    # CPUs are slow in float16, in which nothing is trained there.
    for precision in ("fp32", "tf32", "bf16", "fp16") if cuda else ("fp32", "bf16"):
        matrix = torch.randn(n, n, device=device).to(speed.DTYPES[precision.replace("tf32", "fp32")])
        kinds[precision] = (product(matrix, precision == "tf32"), 2 * n**3)
    samples, count = {kind: [] for kind in kinds}, 20 if cuda else 2
    say(f"limits: {', '.join(kinds)}")
    for turn, (kind, (run, amount)) in itertools.product(range(args.rounds + 1), kinds.items()):
        settle(device)
        begin = time.perf_counter()
        for _ in range(count):
            run()
        settle(device)
        if turn:  # the first warms up
            samples[kind].append(count * amount / (time.perf_counter() - begin))
    yield from ({"limit": kind, "samples": rates} for kind, rates in samples.items())


def product(matrix: torch.Tensor, tf32: bool) -> Callable[[], None]:
    """Return a function that multiplies a matrix by itself; `tf32`: float32 rounded as GPUs' fast units do."""
    out = torch.empty_like(matrix)

    def run():
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.mm(matrix, matrix, out=out)
        torch.set_float32_matmul_precision("highest")

    return run


# ---- training steps ----


def train_options(args, model: str, *words: object):
    """Return train.py's options: defaults, seed 1 and these words. No experiment is begun."""
    own = ["--dataroot", ".", "--name", "benchmark", "--model", model, "--gpu_ids", args.gpu_ids, "--seed", "1"]
    own += ["--crop_size", args.size, "--load_size", args.size * 286 // 256, "--display_id", "-1"]
    with hushed():
        return TrainOptions([str(word) for word in [*own, *words, *args.further]]).parse(begin=False)


def variants(args) -> dict[str, tuple[list[str], str]]:
    """Return how training is made fast: name -> options, and words in place of those that follow from options."""
    cuda = args.device.type == "cuda"
    table = {"default": ([], "fp32"), "bf16": (["--precision", "bf16"], "")}
    if not args.quick:
        table |= {"fp16": (["--precision", "fp16"], "")} if cuda else {}
        alone = ("channels_last", "compile", "capture") if cuda else ("channels_last",)
        table |= {word: ([], f"fp32 {word}") for word in alone}
        table |= {"grad_checkpoint": (["--grad_checkpoint"], "")}
    return {**table, "--fast": (["--fast"], "")}


def obstacle(args, model: str, variant: str) -> str:
    """Say why a variant can't be measured; empty if it can."""
    checks = {"compile": speed.why_not_compile, "capture": speed.why_not_capture}
    return checks[variant](train_options(args, model)) if variant in checks else ""


class Arm:
    """A model that is trained in one way, and what was measured of it."""

    def __init__(self, args, head: dict, variant: str, images: Path):
        words, chosen = variants(args)[variant]
        mine = ["--batch_size", head["batch_size"], "--dataroot", images, *words]
        self.opt = train_options(args, head["model"], *mine)
        self.opt.speed = chosen or self.opt.speed
        self.device, self.count, self.block = self.opt.device, 0, 1
        self.seconds, self.fed, self.waiting, self.memory = [], [], [], 0
        with hushed():
            self.model = create_model(self.opt)
            self.model.setup(self.opt)
        self.batches = [made_batch(self.opt, seed) for seed in range(2)]

    def step(self, batch: dict) -> None:
        """Train on a batch, as train.py does."""
        self.count += 1
        self.model.progress.advance(self.opt.batch_size, begins=True)
        runtime.seed_all(self.opt.seed, "step", 0, self.count)
        self.model.set_input(batch)
        self.model.optimize_parameters()

    def run(self, count: int) -> float:
        """Make steps on batches in memory; return seconds per step. The device is waited for once, at the end."""
        settle(self.device)
        begin = time.perf_counter()
        for i in range(count):
            self.step(self.batches[i % 2])
        settle(self.device)
        return (time.perf_counter() - begin) / count

    def warm_up(self, before: int) -> None:
        """Make the first steps, which choose algorithms, compile and capture; count a GPU's bytes beyond `before`."""
        if self.device.type != "cuda":
            self.run(1)
            return
        self.run(3)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)  # not that of trying out algorithms, but that of capturing
        self.run(12)
        if speed.has(self.opt, "capture") and getattr(self.model.optimize_parameters, "graph", None) is None:
            raise RuntimeError("steps could not be captured, perhaps out of memory")
        self.block = max(1, min(50, round(1 / self.run(3))))  # about a second
        self.memory = torch.cuda.max_memory_allocated(self.device) - before

    def run_fed(self) -> None:
        """Make steps on what the loader brings for some seconds; note seconds per step and the share of waiting."""
        count, waited = max(2, min(100, round(3 / self.seconds[-1]))), 0.0
        with loading(self.opt) as batches:
            for _ in range(2 * self.opt.num_threads + 1):  # what was loaded in advance would flatter a short run
                next(batches)
            # After the fork of the loader's processes the first step copies every page of memory that it writes to.
            self.step(next(batches))
            settle(self.device)
            begin = time.perf_counter()
            for _ in range(count):
                asked = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - asked
                self.step(batch)
            settle(self.device)
            seconds = time.perf_counter() - begin
        self.fed.append(seconds / count)
        self.waiting.append(waited / seconds)

    def measured(self) -> dict:
        """Return what was measured, or that the run did not stay finite."""
        try:
            losses = dict(self.model.get_current_losses())
        except UserError as error:
            return {"failed": short(error)}
        row = {"speed": self.opt.speed, "samples": self.seconds, "steps_each": self.block, "losses": losses}
        return {**row, "fed": self.fed, "waiting": self.waiting, "memory": self.memory}


def made_batch(opt, seed: int) -> dict:
    """Return a batch of noise in [-1, 1], in main memory; pinned for a GPU."""
    noise, shape = torch.Generator().manual_seed(seed), (opt.batch_size, 3, opt.crop_size, opt.crop_size)
    images = {key: torch.rand(shape, generator=noise).mul_(2).sub_(1) for key in ("A", "B")}
    if opt.device.type == "cuda":
        images = {key: image.pin_memory() for key, image in images.items()}
    return {**images, "A_paths": ["A"] * opt.batch_size, "B_paths": ["B"] * opt.batch_size}


@contextlib.contextmanager
def loading(opt):
    """Load batches for the body, epoch after epoch; the processes that load them end with it."""
    with hushed():
        dataset = create_dataset(opt)
    batches = itertools.chain.from_iterable(itertools.repeat(dataset))
    try:
        yield batches
    finally:
        del batches, dataset
        gc.collect()


def steps(args, work: Path) -> Iterator[dict]:
    """Measure training steps: models, batch sizes, variants."""
    cuda = args.device.type == "cuda"
    sizes = args.batch_sizes or ([1] if args.quick else [1, 4, 16] + [64] * cuda)
    images = made_images(work / "jpg", "jpg", args.size, max(256, 16 * max(sizes)))
    if cuda:
        torch._dynamo.config.recompile_limit *= 2  # as two compiled variants are there at a time
    for model in models_of(args):
        cost, each = count_step(args, model), 0.0  # seconds for an image
        reasons = {name: obstacle(args, model, name) for name in variants(args)}
        for batch_size in sizes:
            head = {"model": model, "batch_size": batch_size}
            if each * batch_size > TOO_SLOW and not args.batch_sizes:
                text = f"left out: about {each * batch_size:.0f} s for a step"
                yield {**head, "variant": "all", "failed": text}
                continue
            for row in compare(args, head, [name for name, reason in reasons.items() if not reason], images):
                if "samples" in row and not cuda and not (args.quick and row["variant"] == "bf16"):
                    row["memory"] = in_child(memory_of_process, args, head, row["variant"], images)
                if "samples" in row and row["variant"] == "default":
                    each = statistics.median(row["samples"]) / batch_size
                yield {**row, **{key: value * batch_size for key, value in cost.items()}}
            yield from ({**head, "variant": name, "failed": reason} for name, reason in reasons.items() if reason)


def compare(args, head: dict, names: list[str], images: Path) -> list[dict]:
    """Let variants take turns; one after the other where memory does not hold all. Return a row for each."""
    try:
        return alternate(args, head, names, images)
    except RuntimeError as error:
        failure = short(error)
    release()  # only here: the error held what was made
    if len(names) == 1:
        return [{**head, "variant": names[0], "failed": failure}]
    return [{**row, "alone": True} for name in names for row in compare(args, head, [name], images)]


def alternate(args, head: dict, names: list[str], images: Path) -> list[dict]:
    """Measure variants that take turns; RuntimeError where memory does not hold more than one."""
    arms, failed, title = {}, {}, f"steps: {head['model']}, batch {head['batch_size']}"
    for name in names:
        say(f"{title}: {name} begins")
        try:
            arms[name] = prepare(args, head, name, images)
        except (RuntimeError, UserError) as error:
            if "out of memory" in str(error) and len(names) > 1:
                raise
            failed[name] = short(error)
    for turn in range(args.rounds if arms else 0):
        say(f"{title}: round {turn + 1} of {args.rounds}")
        for arm in arms.values():
            arm.seconds.append(arm.run(arm.block))
        for name in ("default", "--fast"):
            if name in arms and turn < args.few:
                arms[name].run_fed()
    rows = []
    for name in names:
        row = {"failed": failed[name]} if name in failed else arms.pop(name).measured()
        rows.append({**head, "variant": name, **row})
    arm = None  # or the last one's memory would not be free
    release()
    return rows


def prepare(args, head: dict, name: str, images: Path) -> Arm:
    """Make an arm and its first steps."""
    cuda = args.device.type == "cuda"
    release_unused = torch.cuda.empty_cache if cuda else gc.collect
    release_unused()
    if cuda:
        torch.cuda.reset_peak_memory_stats(args.device)
    before = torch.cuda.memory_allocated(args.device) if cuda else 0
    arm = Arm(args, head, name, images)
    arm.warm_up(before)
    return arm


def short(error: Exception) -> str:
    """Say in a table's cell what went wrong."""
    full = isinstance(error, torch.OutOfMemoryError)
    return "out of memory" if full else f"{type(error).__name__}: {error}".splitlines()[0][:120]


def in_child(function: Callable, *arguments):
    """Return what a function returns in a process of its own; None if that is killed."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            return None


def memory_of_process(args, head: dict, variant: str, images: Path) -> int | None:
    """Make two steps; return the most bytes of main memory that the process has had, PyTorch's included."""
    Arm(args, head, variant, images).run(2)
    status = Path("/proc/self/status")  # of this process alone, which getrusage is not
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) if status.is_file() else None


class OpBytes(TorchDispatchMode):
    """Count the bytes that operations read and write, as if each began and ended in memory."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view and "empty" not in func.name():
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            self.count += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def count_step(args, model: str) -> dict:
    """Count FLOPs (multiplying and adding are two) and bytes of a float32 step on one image. Nothing is computed."""
    opt = train_options(args, model, "--batch_size", 1)
    batch = {key: value.to("meta") if torch.is_tensor(value) else value for key, value in made_batch(opt, 0).items()}
    opt.device, opt.gpu_ids, opt.speed = torch.device("meta"), [], "fp32"
    with hushed(), opt.device:
        net = create_model(opt)
        net.setup(opt)
    for optimizer in net.optimizers:
        optimizer.step = lambda *_, **__: None  # counted below
    with FlopCounterMode(display=False) as flops, OpBytes() as moved:
        net.set_input(batch)
        net.optimize_parameters()
    trained = sum(p.numel() for network in net.networks().values() for p in network.parameters())
    adam = 7 * 4 * trained  # reads weight, gradient and two moments, writes all but the gradient
    return {"flops": flops.get_total_flops(), "bytes": moved.count + adam}


# ---- loading ----


def made_images(folder: Path, suffix: str, side: int, count: int) -> Path:
    """Write pairs side by side to train/ and test/, their halves to trainA/, trainB/ and testA/; return the folder.

    Smooth colours under noise: JPEG files (quality 90) about as large as photographs'.
    """
    boxes = {"train": (0, 2), "test": (0, 2), "trainA": (0, 1), "testA": (0, 1), "trainB": (1, 2)}
    for name, number in itertools.product(boxes, range(count)):
        path, first = (folder / name / f"{i:05}.{suffix}" for i in (number, number % DIFFERENT))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            continue
        if path != first:
            same_file(first, path)
            continue
        rng = np.random.default_rng(number)
        smooth = Image.fromarray(rng.integers(0, 256, (8, 16, 3), dtype=np.uint8)).resize((2 * side, side), 3)
        noisy = np.asarray(smooth) + rng.normal(0, 8, (side, 2 * side, 1))
        left, right = (side * half for half in boxes[name])
        picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).crop((left, 0, right, side))
        picture.save(path, **({"quality": 90} if suffix == "jpg" else {}))
    return folder


def same_file(first: Path, path: Path) -> None:
    """Give a file a second name, or copy it where the disk knows no such thing."""
    try:
        path.hardlink_to(first)
    except OSError:
        shutil.copyfile(first, path)


def loader(args, work: Path) -> Iterator[dict]:
    """Measure what the loader brings, by format, options, processes and batch size."""
    count = 64 if args.quick else 256
    for model, suffix in itertools.product(models_of(args), ("jpg",) if args.quick else ("jpg", "png")):
        folder, head = made_images(work / suffix, suffix, args.size, 256), {"model": model, "format": suffix}
        found = [{**head, **cell, "items": count, "first": [], "samples": []} for cell in cells(args, suffix)]
        for turn, row in itertools.product(range(args.few), found):
            if row is found[0]:
                say(f"loader: {model}, {suffix}: round {turn + 1} of {args.few}")
            words = ["--dataroot", folder, "--num_threads", row["workers"], "--batch_size", row["batch_size"]]
            words += ["--max_dataset_size", count, *row["options"].replace("default", "").split()]
            first, later = time_epochs(train_options(args, model, *words), count)
            row["first"].append(first)
            row["samples"].append(later)
        yield from found


def cells(args, suffix: str) -> Iterator[dict]:
    """Yield what the loader is measured with; the further from the defaults, the fewer numbers of processes."""
    workers = (0, 2) if args.quick else (0, 1, 2, 4, 8) if core_count() >= 8 else (0, 1, 2, 4)
    for kind in ("default", "--cache", "--fast", "--fast --cache"):
        for batch_size, processes in itertools.product((1,) if args.quick else (1, 16), workers):
            unusual = (batch_size != 1) + (suffix != "jpg")
            if unusual == 0 or (unusual == 1 and processes in (0, 4)):
                yield {"options": kind, "workers": processes, "batch_size": batch_size}


def time_epochs(opt, count: int) -> tuple[float, float]:
    """Return items per second of a loader's first epoch, its processes' start included, and of those that follow."""
    rates = []
    with hushed():
        dataset = create_dataset(opt)
    for enough in (0.0, 0.3):  # seconds
        begin, items = time.perf_counter(), 0
        while not items or time.perf_counter() - begin < enough:
            for _ in dataset:
                pass
            settle(opt.device)
            items += count
        rates.append(items / (time.perf_counter() - begin))
    del dataset
    gc.collect()
    return rates[0], rates[1]


# ---- translating ----


def translation(args, work: Path) -> Iterator[dict]:
    """Measure test.py, from the first image's loading until the last picture is on disk, and a plain loop."""
    translate = importlib.import_module("test").translate  # by name: Python has a package test of its own
    cuda = args.device.type == "cuda"
    ways = [("plain loop", 1), ("test.py", 1), ("test.py", 8), ("test.py --fast", 1), ("test.py --fast", 8)]
    ways = [way for way in ways if way[1] == 1] if args.quick else ways
    for model, side in itertools.product(models_of(args), (args.size,) if args.quick else (args.size, 2 * args.size)):
        count = 16 if args.quick or (side > args.size and not cuda) else 500 if cuda else 50
        images = made_images(work / f"test{side}", "jpg", side, count)
        save_untrained(args, model, work)
        mine = ["--name", model, "--checkpoints_dir", work, "--results_dir", work / "results", "--eval"]
        mine += ["--crop_size", side, "--num_test", count, "--gpu_ids", args.gpu_ids]
        paired = model == "pix2pix"
        mine += ["--model", model if paired else "test", "--dataroot", images if paired else images / "testA"]
        rows = [
            {"model": model, "size": side, "way": way, "batch_size": n, "samples": [], "busy": []} for way, n in ways
        ]
        for turn, row in itertools.product(range(-1 if cuda else 0, args.few), rows):
            if row is rows[0]:
                say(f"translation: {model}, {side} px: round {turn + 1} of {args.few}")
            words = [*mine, "--batch_size", row["batch_size"], *["--fast"] * row["way"].endswith("--fast")]
            with hushed():
                opt = TestOptions([str(word) for word in words]).parse()
                done, seconds, busy = (plain_loop if row["way"] == "plain loop" else translate)(opt)
            shutil.rmtree(work / "results")
            row["speed"] = opt.speed
            if turn >= 0:  # a GPU warms up first
                row["samples"].append(done / seconds)
                row["busy"].append(busy)
        yield from rows


def save_untrained(args, model: str, work: Path) -> None:
    """Save a model as training would."""
    opt = train_options(args, model, "--name", model, "--checkpoints_dir", work)
    with hushed():
        network = create_model(opt)
        network.setup(opt)
        network.save_networks("latest")
        record(opt)


def plain_loop(opt) -> tuple[int, float, float]:
    """Load, translate and write images one by one; return their number, seconds, and the network's share of these."""
    opt.num_threads, busy = 0, 0.0
    dataset, model = create_dataset(opt), create_model(opt)
    model.setup(opt)
    model.eval()
    page, count, begin = HTML(Path(opt.results_dir) / opt.name, "plain loop"), 0, time.perf_counter()
    for batch in itertools.islice(dataset, opt.num_test):
        model.set_input(batch)
        settle(opt.device)
        started = time.perf_counter()
        model.test()
        settle(opt.device)
        busy += time.perf_counter() - started
        save_images(page, model.get_current_visuals(), model.get_image_paths())
        count += 1
    page.save()
    seconds = time.perf_counter() - begin
    return count, seconds, busy / seconds


# ---- the training page ----


def page(args, work: Path) -> Iterator[dict]:
    """Measure for how long training waits while its images go to the training page."""
    for model, shown in (("pix2pix", 3), ("cycle_gan", 8)):
        folder, seconds = made_images(work / "jpg", "jpg", args.size, 1), []
        words = ["--name", f"page_{model}", "--checkpoints_dir", work, "--dataroot", folder, "--num_threads", 0]
        opt = train_options(args, model, *words)
        with loading(opt) as batches:
            image = next(batches)["A"].to(opt.device)
        with hushed(), contextlib.closing(Visualizer(opt)) as visualizer:
            for epoch in range(4 * args.rounds):
                settle(opt.device)
                begin = time.perf_counter()
                visualizer.display_current_results({f"image_{i}": image for i in range(shown)}, epoch + 1, epoch, True)
                seconds.append(time.perf_counter() - begin)
        yield {"model": model, "images": shown, "samples": seconds}


# ---- the real commands ----


def lines_of(words: list, log: Path, chosen: str = "") -> Iterator[str]:
    """Run a program of this project, and yield what it prints, line by line; UserError if it fails.

    `chosen`: words that make train.py fast, in place of those that its options choose.
    """
    if chosen:
        code = "import runpy, sys; sys.path.insert(0, '.'); from util import speed; speed.choose = lambda *_: "
        words = ["-c", f"{code}({chosen!r}, []); runpy.run_path('train.py', run_name='__main__')", *words[1:]]
    words = [sys.executable, *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(words, cwd=ROOT, env=environment, **pipes) as process,
    ):
        for line in process.stdout:
            file.write(line)
            yield line
    if process.returncode:
        raise UserError(f"{log.stem} failed: {' '.join(log.read_text(encoding='utf-8').splitlines()[-3:])}")


def arms_of(args, default: list[str]) -> dict[str, tuple[list[str], str]]:
    """Return the arms to train: name -> train.py's options, and words in place of those that follow from options."""
    options = {"fast": ["--fast"], **{name: ["--precision", name] for name in speed.DTYPES}}
    return {name: (options.get(name, []), "" if name in options else name) for name in args.arms or default}


def schedule(args, work: Path) -> Iterator[dict]:
    """Train by train.py with all that it loads, logs, shows and saves; time each epoch."""
    count = 8 if args.quick else FACADES
    images, folder = made_images(work / "facades", "jpg", args.size, count), work / "schedule"
    arms = arms_of(args, ["fp32", "fast"])
    for model, name in itertools.product(args.models or ["pix2pix"], arms):
        say(f"schedule: {model}, {name}: {args.epochs} epochs of {count} images")
        words = ["train.py", "--dataroot", images, "--name", "run", "--checkpoints_dir", folder, "--model", model]
        words += ["--gpu_ids", args.gpu_ids, "--crop_size", args.size, "--load_size", args.size * 286 // 256]
        words += ["--seed", 1, *arms[name][0], *args.further]
        words += ["--n_epochs", args.epochs - args.epochs // 2, "--n_epochs_decay", args.epochs // 2]
        seconds, last = [], time.perf_counter()
        for line in lines_of(words, work / "train.log", arms[name][1]):
            if line.startswith("End of epoch"):
                seconds.append(time.perf_counter() - last)  # the first with the program's start
                last = time.perf_counter()
                if len(seconds) % tables.CYCLE == 0:
                    say(line.strip())
        yield {"model": model, "arm": name, "images": count, "samples": seconds, "end": time.perf_counter() - last}
        shutil.rmtree(folder)


def quality(args, work: Path) -> Iterator[dict]:
    """Train arms with the same seeds by train.py; translate in float32 by test.py; score by scripts/score.py."""
    alone = ["fp16", "fp32 channels_last", "fp32 compile", "fp32 capture"] if args.device.type == "cuda" else []
    arms = arms_of(args, ["fp32", "bf16", *alone, "fast"])
    for model, seed, name in itertools.product(args.models or ["pix2pix"], args.seeds, arms):
        say(f"quality: {model}, seed {seed}, {name}")
        results, scores = work / "results", work / "scores.json"
        mine = ["--dataroot", args.data.resolve(), "--name", "run", "--checkpoints_dir", work, "--model", model]
        mine += ["--gpu_ids", args.gpu_ids]
        words = ["train.py", *mine, "--seed", seed, *small_training(args.data), *arms[name][0], *args.further]
        begin = time.perf_counter()
        list(lines_of(words, work / "train.log", arms[name][1]))
        seconds = time.perf_counter() - begin
        translating = ["test.py", *mine, "--results_dir", results, "--dataset_mode", "aligned", "--num_test", 200]
        list(lines_of(translating, work / "test.log"))
        list(lines_of(["scripts/score.py", results / "run" / "test_latest", "--json", scores], work / "score.log"))
        row = {"model": model, "arm": name, "seed": seed, "seconds": seconds, "command": " ".join(map(str, words))}
        row |= json.loads(scores.read_text(encoding="utf-8"))["result"]
        yield {**row, "curve": read_curve(work / "run" / "metrics.csv")}
        shutil.rmtree(work / "run")
        shutil.rmtree(results)


def small_training(data: Path) -> list:
    """Return options for minutes of training on the tiles of `data`; 1,600 images, of which each is seen four times."""
    side = json.loads((data / "earth.json").read_text(encoding="utf-8"))["size"]
    words = ["--netG", f"unet_{side}" if side in (32, 128, 256) else "resnet_6blocks", "--ngf", 32, "--ndf", 32]
    words += ["--crop_size", side, "--load_size", side * 286 // 256, "--max_dataset_size", 400, "--no_html"]
    return [*words, "--n_epochs", 2, "--n_epochs_decay", 2, "--print_freq", 20, "--display_id", -1]


def read_curve(file: Path) -> list[dict]:
    """Read the losses that a training has logged; `total_iters` counts images."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]
    return [{key: value for key, value in row.items() if key not in ("epoch", "iters", "time", "data")} for row in rows]


PARTS = {
    "limits": limits,
    "steps": steps,
    "loader": loader,
    "translation": translation,
    "page": page,
    "schedule": schedule,
    "quality": quality,
}

if __name__ == "__main__":
    with explained_errors():
        main(sys.argv[1:])
