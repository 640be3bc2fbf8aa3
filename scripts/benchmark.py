"""Measure on this machine what training, loading and translating take, beside what the machine could do.

    python scripts/benchmark.py                                      # limits, steps, loader, translation, page
    python scripts/benchmark.py --quick                              # about a minute; not for quoting
    python scripts/benchmark.py steps --models cycle_gan --batch_sizes 1 4
    python scripts/benchmark.py schedule --epochs 200                # train.py on 400 made pairs, as for facades
    python scripts/benchmark.py quality --data datasets/earth128 -- --netG unet_128 --ngf 64

Variants take turns (A B C A B C ...), with the same seeds and data. What stands behind `--` goes to train.py's options.
Every sample is written to benchmark.json, and tables to benchmark.md; so far as they are measured, if the run is cut
off. scripts/benchmarks/tables.py joins such files, docs/performance.md says what the columns mean.
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
    import torch
    import torchvision

    from scripts.benchmarks import commands as runs
    from scripts.benchmarks import steps
    from scripts.benchmarks import tables as tables
    from scripts.benchmarks.common import release, say, train_options
    from util.checkpoint.atomic_files import write_whole
    from util.errors import explained_errors
    from util.runtime.machine import core_count, main_memory
except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises RuntimeError
    sys.exit(f"error: {error}: Python 3.10 or newer is needed, and what scripts/install_deps.sh installs")

SHORT, LONG = ("limits", "steps", "loader", "translation", "page"), ("schedule", "quality")
PARTS = {
    "limits": steps.limits,
    "steps": steps.steps,
    "loader": runs.loader,
    "translation": runs.translation,
    "page": runs.page,
    "schedule": runs.schedule,
    "quality": runs.quality,
}


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
    texts = {"benchmark.json": json.dumps(document, indent=1), "benchmark.md": tables.markdown(document)}
    if document["parts"].get("quality"):
        texts["quality.svg"] = tables.curves(document["parts"]["quality"])
    for name, text in texts.items():
        write_whole(out / name, text)


if __name__ == "__main__":
    with explained_errors():
        main(sys.argv[1:])
