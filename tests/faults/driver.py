"""Shared by the parts: tasks in forked processes, and damage to a file."""

from __future__ import annotations

import atexit
import json
import os
import random
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

Row = tuple[str, int, int, str]  # what was injected, points, violations, remark


def in_parallel(tasks: list[Callable], workers: int = 2, begin: Callable[[], None] = lambda: None) -> list:
    """Call the tasks in forked processes that call `begin` first; return the JSON results in order."""
    start, parent, children = time.time(), os.getpid(), []
    with tempfile.TemporaryFile() as results:
        for worker in range(workers):
            if (pid := os.fork()) == 0:
                try:
                    begin()
                    for i in range(worker, len(tasks), workers):
                        if os.getppid() != parent:
                            break
                        os.write(results.fileno(), (json.dumps([i, tasks[i]()]) + "\n").encode())
                        if i % 50 == 49:
                            text = f"{i + 1} of {len(tasks)} after {time.time() - start:.0f} s"
                            print(text, file=sys.stderr, flush=True)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(0)
            children.append(pid)
        for pid in children:
            os.waitpid(pid, 0)
        results.seek(0)
        found = dict(map(json.loads, results.read().splitlines()))
    if len(found) < len(tasks):
        raise RuntimeError("a process of the campaign failed, with the traceback above")
    return [found[i] for i in range(len(tasks))]


def end_with(action: Callable, *args) -> NoReturn:
    """Run this process's last action, and end as Python does, but at once and not through other frames."""
    status = 1
    try:
        action(*args)
        status = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        else:
            status = error.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def damage(content: bytes, rng: random.Random, low: int, high: int) -> bytes:
    """Damage a file in one to three places between `low` and `high`."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(low, high)
        length = rng.choice((1, 1, 2, 4, 8, 64, 1024))
        match rng.randrange(8):
            case 0 | 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                data[at : at + length] = rng.randbytes(length)
            case 3:  # values at which sizes and counts go wrong
                data[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"))
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = rng.randbytes(length)
            case 6:
                start = rng.randrange(low, high)
                data[at : at + length] = data[start : start + length]
            case 7:
                del data[max(at, low + 1) :]
        high = max(min(high, len(data)), 1)
        low = min(low, high - 1)
    return bytes(data)
