"""Inject all faults and print the table of docs/reliability.md: faults, points and violations.

    bash scripts/run_tests.sh --faults [PART ...] [--quick]

Each part is a module beside this one and runs in a separate process; its progress goes to stderr. Exit status 1 if
anything broke, except in rows that begin with "for comparison".
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PARTS = ("saves", "resume", "signals", "launches", "checkpoints", "images", "browsers")
# Arguments of a small sample.
QUICK = {
    "saves": {"most": 6},
    "resume": {"every": 60},
    "signals": {"only": "SIGTERM rank 1"},
    "launches": {"runs": 4, "every": 10},
    "checkpoints": {"count": 200},
    "images": {"count": 600},
}
RUN = """
import importlib, json, sys
part, arguments, file = sys.argv[1:]
rows = importlib.import_module(f"faults.{part}").campaign(**json.loads(arguments))
with open(file, "w") as out:
    json.dump(rows, out)
"""


def run(part: str, arguments: dict) -> tuple[list[tuple], float]:
    """Run one part; return its rows and its seconds."""
    begun = time.time()
    folders = (TESTS.parent, TESTS, TESTS / "support")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="campaign") as folder:
        out = Path(folder) / "rows"
        command = [sys.executable, "-c", RUN, part, json.dumps(arguments), str(out)]
        status = subprocess.run(command, env=env, stdout=sys.stderr, check=False).returncode
        rows = [tuple(row) for row in json.loads(out.read_text())] if out.is_file() else []
    if status:
        rows.append((f"the part itself ended with status {status}", 0, 1, ""))
    return rows, time.time() - begun


def main() -> int:
    """Run the parts named on the command line, or all, and print the table."""
    parser = argparse.ArgumentParser(prog="run_tests.sh --faults", description=__doc__.splitlines()[0])
    text = f"of {', '.join(PARTS)}; all if none is named"
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*PARTS, []], help=text)
    parser.add_argument("--quick", action="store_true", help="a small sample of each part")
    given = parser.parse_args()
    versions = f"Python {platform.python_version()}, PyTorch {importlib.metadata.version('torch')}"
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    lines, times, points, violations = [], [], 0, 0
    for part in given.parts or PARTS:
        print(f"---- {part} ----", file=sys.stderr, flush=True)
        rows, seconds = run(part, QUICK[part] if given.quick else {})
        times.append(f"{part} {seconds:.0f} s")
        for name, count, broken, remark in rows:
            lines.append(f"| {part} | {name} | {count:,} | {broken:,} | {remark} |")
            if not name.startswith("for comparison"):
                points, violations = points + count, violations + broken
    print(f"{datetime.date.today()}, {machine}, {versions}. {'; '.join(times)}.\n")
    print("| part | what is injected | points | violations | remark |\n|---|---|---:|---:|---|")
    print("\n".join([*lines, f"| all | | {points:,} | {violations:,} | |"]))
    return int(violations > 0)


if __name__ == "__main__":
    sys.exit(main())
