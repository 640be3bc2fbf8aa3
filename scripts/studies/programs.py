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


def run(words: list[str], log: Path | None = None) -> None:
    """Run a program of this project; its output goes to `log`, if given. UserError if it fails."""
    script = os.path.relpath(ROOT / words[0])
    say(f"$ python {shlex.join([script, *words[1:]])}")
    begin = log.stat().st_size if log and log.exists() else 0
    status = execute([script, *words[1:]], log)
    if status:
        last = log.read_text(encoding="utf-8", errors="replace")[begin:].splitlines()[-5:] if log else []
        raise UserError("\n  ".join([f"that command failed with status {status}", *last, f"(complete output: {log})"]))


def execute(words: list[str], log: Path | None) -> int:
    """Run `python words...` and return its exit status."""
    with Path(log or os.devnull).open("a", encoding="utf-8") as file:
        target = {"stdout": file, "stderr": subprocess.STDOUT} if log else {}
        with subprocess.Popen([sys.executable, *words], **target, start_new_session=True) as process:
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
