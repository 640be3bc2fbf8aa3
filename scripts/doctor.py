"""Examine data, options, checkpoint and machine before training or testing begins.

    python scripts/doctor.py --dataroot ./datasets/facades --name facades_pix2pix --model pix2pix --direction BtoA
    python scripts/doctor.py test.py --dataroot ./datasets/facades --name facades_pix2pix

The arguments are those of train.py or, after the word test.py, those of test.py: put scripts/doctor.py between `python`
and the command that you are about to type. Each check prints one line: ok, warn with advice, or FAIL with the fix if
the command cannot work. The exit status is 1 if a check failed. Nothing is trained, and no experiment is started. One
file is written: the picture {checkpoints_dir}/{name}_doctor.png, which shows images as the network will get them.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv):  # before imports that take seconds
    print(__doc__.strip())
    sys.exit()

import contextlib
import io
import shlex
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
try:
    import util.runtime.threads  # noqa: F401 - before torch

    import torch
    import torchvision

    from data.folder_advice import open_dataset
    from data.formats.values import RangeError
    from options.test_options import TestOptions, find_pairs_in
    from options.train_options import TrainOptions
    from scripts.checks.dataset import Examination, check_dataset
    from scripts.checks.device import check_device, check_workers
    from scripts.checks.files import spread, times
    from scripts.checks.networks import Case, check_disk, check_epochs, check_memory, check_networks
    from scripts.checks.pixels import check_values
    from scripts.checks.report import Finding, Report, quiet, reason_of
    from util.errors import UserError, explained_errors, printable
    from util.loggers.visuals import contact_sheet, to_pictures
    from util.runtime import seeds
except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises RuntimeError
    sys.exit(f"FAIL  packages    {error}: Python 3.10 or newer is needed, and what scripts/install_deps.sh installs")

SHOWN = 12  # items in the picture


def main(words: list[str]) -> int:
    """Examine the command line `words`, print a report, and return the exit status."""
    start, program = time.monotonic(), "train.py"
    if words and Path(words[0]).name in ("train.py", "test.py"):
        program, words = Path(words[0]).name, words[1:]
    options = (TestOptions if program == "test.py" else TrainOptions)(words)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(printed):
            opt = options.parse(begin=False)
    except SystemExit:
        sys.stderr.write(printed.getvalue())
        raise
    report, case = Report(), Case(opt)
    report.show(check_options(opt, program, printed.getvalue().splitlines()))
    report.show(check_device(opt, asked=options.parser.peek("gpu_ids", words)))
    for check in (check_data, check_items, check_networks, check_epochs, check_memory, check_disk, check_picture):
        report.show(check(case))
    return report.conclude(f"python {program} {shlex.join(words)}", time.monotonic() - start)


def check_options(opt, program: str, printed: list[str]) -> Iterator[Finding]:
    """Report the options, the messages of parsing, and the versions."""
    text = f"{program}, model {opt.model} (netG {opt.netG}, norm {opt.norm}), dataset_mode {opt.dataset_mode}"
    yield Finding("ok", "options", f"{text}, batch_size {opt.batch_size}, name {opt.name}")
    for line in printed:
        if not line.startswith("no CUDA GPU"):  # check_device says more
            level = "warn" if line.startswith("warning: ") else "ok"
            yield Finding(level, "options", line.removeprefix("warning: "))
    python = ".".join(map(str, sys.version_info[:3]))
    text = f"Python {python}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    if torch.__version__ < "2.6":
        text += ": this torch runs code hidden in checkpoints"
        yield Finding("FAIL", "versions", text, "pip install --upgrade torch torchvision")
    else:
        yield Finding("ok", "versions", text)


def check_data(case: Case) -> Iterator[Finding]:
    """Create the dataset, and examine its files."""
    opt = case.opt
    try:
        with quiet() as printed:
            dataset = open_dataset(opt)
    except RangeError as error:
        yield from check_values(error)
        return
    except UserError as error:
        yield Finding("FAIL", "data", str(error))
        return
    if not len(dataset):
        yield Finding("FAIL", "data", f"dataset {opt.dataset_mode} finds nothing: look at --dataroot {opt.dataroot}")
        return
    if not opt.isTrain and (advice := find_pairs_in(opt, getattr(dataset, "A_paths", []))):
        yield Finding("warn", "data", advice)
    case.data = Examination(opt, dataset)
    yield from check_dataset(case.data)
    for line in printed.getvalue().splitlines() if case.data.built_in else ():
        yield Finding("warn", "data", line)  # images without a partner


def check_items(case: Case) -> Iterator[Finding]:
    """Load some items as the network will get them, and check the workers."""
    if case.data is None:
        return
    opt, errors = case.opt, []
    for index in spread(range(case.data.count), SHOWN):
        seeds.seed_all(opt.seed, "item", 1, index)
        try:
            with quiet():
                case.samples.append(case.data.dataset[index])
        except Exception as error:  # training would fail in the same way
            errors.append(f"item {index}: {reason_of(error)}")
    if errors:
        yield Finding("FAIL", "loading", f"{len(errors)} items can't be loaded, the first as {errors[0]}")
    if opt.isTrain and case.samples:
        yield check_workers(opt, case.sample)


def check_picture(case: Case) -> Iterator[Finding]:
    """Draw some items as the network gets them: the input first, with file names and sizes."""
    opt = case.opt
    rows = [label_images(item, opt.direction) for item in case.samples]
    if not all(rows) or not rows:
        return
    rows = [[*chain(*rows[i : i + 3])] for i in range(0, len(rows), 3)]
    file = Path(opt.checkpoints_dir) / f"{opt.name}_doctor.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows, side=192).save(file)
    yield Finding("ok", "picture", f"{file} shows images as the network gets them: look at it")


def label_images(item: dict, direction: str) -> list:
    """Return (label, picture) for each image of an item, the network's input first."""
    cells = []
    for key in (direction[0], direction[-1]):
        if key in item:
            name = printable(Path(str(item.get(f"{key}_paths", ""))).name)
            text = f"{key} {times(item[key].shape[:0:-1])}x{item[key].shape[0]} {name}"
            cells.append((text[:36], to_pictures(item[key])[0]))
    return cells


if __name__ == "__main__":
    with explained_errors():
        status = main(sys.argv[1:])
    sys.exit(status)
