"""Run train.py and test.py: print each command, log its output, and let it save when the study is stopped."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from study import ROOT

from util.errors import UserError

START = time.monotonic()


def run(words: list[str], log: Path) -> None:
    """Run a program of this project; its output goes to `log`. UserError if it fails."""
    script = os.path.relpath(ROOT / words[0])
    say(f"$ python {shlex.join([script, *words[1:]])}")
    log.parent.mkdir(parents=True, exist_ok=True)
    if status := execute([script, *words[1:]], log):
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        raise UserError("\n  ".join([f"that command failed with status {status}", *last, f"(complete output: {log})"]))


def execute(words: list[str], log: Path) -> int:
    """Run `python words...` and return its exit status."""
    settings = {"stderr": subprocess.STDOUT, "start_new_session": True}
    with log.open("a") as file, subprocess.Popen([sys.executable, *words], stdout=file, **settings) as process:
        return wait_for(process)


def wait_for(process: subprocess.Popen) -> int:
    """Wait for a program and return its status; pass on an interruption, so that training saves first."""
    try:
        return process.wait()
    except (KeyboardInterrupt, SystemExit) as stop:
        process.send_signal(signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM)
        wait_for(process)
        raise


def say(text: str) -> None:
    """Print a line with the time since the start."""
    minutes, seconds = divmod(int(time.monotonic() - START), 60)
    print(f"[{minutes}:{seconds:02}] {text}", flush=True)


def slug(text: str) -> str:
    """Turn a text into a folder's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_") or "plain"
