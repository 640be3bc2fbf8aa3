"""What the parts share: tasks in forked processes, and the rows of the campaign's table."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable

Row = tuple[str, int, int, str]  # what was injected, points, violations, remark


def in_parallel(tasks: list[Callable], workers: int = 2, begin: Callable[[], None] = lambda: None) -> list:
    """Call the tasks in forked processes, each of which calls `begin` first; return their results (JSON) in order."""
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
