"""Measure the speed of training, loading and translating on this machine, in relation to its limits.

    python scripts/benchmark.py                                      # limits, steps, loader, translation
    python scripts/benchmark.py --quick                              # about a minute; not for publication
    python scripts/benchmark.py steps --models cycle_gan --batch_sizes 1 4
    python scripts/benchmark.py schedule --epochs 200                # train.py on 400 synthetic pairs, as for facades
    python scripts/benchmark.py neighbours --gpu_ids -1              # on a CPU that other programs use too

Variants alternate (A B C A B C ...), with the same seeds and data. Options after `--` go to train.py. Every sample is
written to benchmark.json, and tables to benchmark.md; an interrupted run keeps its measurements.
scripts/benchmarks/tables.py puts the tables into a page, and docs/performance.md explains the columns.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
try:
    import util.runtime.threads  # noqa: F401 - before torch

    import torch
    import torchvision

    from scripts.benchmarks import neighbours, steps, tables, throughput
    from scripts.benchmarks.common import release, say, train_options
    from util.checkpoint.atomic_files import write_whole
    from util.errors import explained_errors
    from util.runtime.machine import core_count, main_memory
except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises RuntimeError
    sys.exit(f"error: {error}: install Python 3.10 or newer and run scripts/install_deps.sh")

PARTS = {
    "limits": steps.limits,
    "steps": steps.steps,
    "loader": throughput.loader,
    "translation": throughput.translation,
    "schedule": throughput.schedule,
    "neighbours": neighbours.neighbours,
}


def main(words: list[str]) -> None:
    """Measure the parts that the command line names; write each result at once."""
    args = parse(words)
    values = {name: value if isinstance(value, (int, list)) else str(value) for name, value in vars(args).items()}
    document = {"machine": machine(args.device), "settings": values, "parts": {}}
    say(f"{', '.join(args.parts)}: on {document['machine']['name']}")
    with tempfile.TemporaryDirectory() as work:
        for part in args.parts:
            document["parts"][part] = []
            for row in PARTS[part](args, Path(work)):
                document["parts"][part].append(row)
                write_whole(args.out / "benchmark.json", json.dumps(document, indent=1))
                write_whole(args.out / "benchmark.md", tables.markdown(document))
            release()
    print(f"\n{tables.markdown(document)}\n{args.out}: benchmark.md, and benchmark.json with every sample")


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line; words after `--` are train.py's."""
    end = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("parts", nargs="*", help=f"of {', '.join(PARTS)} [all but the last two]")
    add("--quick", action="store_true", help="about a minute, fewer variants, pix2pix alone; not for publication")
    add("--out", type=Path, default=Path("results/benchmark"), help="folder to write to [%(default)s]")
    add("--models", nargs="+", help="of pix2pix, cycle_gan [both; last two parts: pix2pix]")
    add("--batch_sizes", nargs="+", type=int, help="of steps [1; on a GPU 1 4 16 64]")
    add("--size", type=int, default=256, help="side of the images in pixels [%(default)s]")
    add("--rounds", type=int, help="samples of each variant [5, quick 3]")
    add("--gpu_ids", default="0", help="as train.py's; -1: the CPU [%(default)s]")
    add("--epochs", type=int, default=30, help="of schedule, at least 2; 200: all of it [%(default)s]")
    args = parser.parse_args(words[:end])
    args.further, args.parts = words[end + 1 :], args.parts or [*PARTS][:-2]
    if unknown := [part for part in args.parts if part not in PARTS]:
        parser.error(f"{unknown[0]}: the parts are {', '.join(PARTS)}")
    if not 2 <= args.epochs <= tables.FACADES_EPOCHS:
        parser.error(f"--epochs {args.epochs}: 2 to {tables.FACADES_EPOCHS}")
    if "steps" in args.parts and "limits" not in args.parts:
        args.parts.insert(0, "limits")  # the steps are compared with them
    args.rounds = args.rounds or (3 if args.quick else 5)
    args.few = min(args.rounds, 2 if args.quick else 3)  # samples of slow measurements
    args.device = train_options(args, "pix2pix").device
    return args


def machine(device: torch.device) -> dict:
    """Describe the machine and software; sizes are bytes."""
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
        "commit": subprocess.getoutput(f"git -C '{ROOT}' describe --always --dirty"),
        "date": time.strftime("%Y-%m-%d"),
    }
    if device.type == "cuda":
        it = torch.cuda.get_device_properties(device)
        about |= {"name": f"{it.name}, {cpu}", "gpu_memory": it.total_memory, "cuda": torch.version.cuda}
        about |= {"cudnn": torch.backends.cudnn.version(), "tf32": torch.backends.cudnn.allow_tf32}
    return about


if __name__ == "__main__":
    with explained_errors():
        main(sys.argv[1:])
