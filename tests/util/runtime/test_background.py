"""Work in a background thread."""

from __future__ import annotations

import threading
import time

import pytest
from conftest import type_command

from util.runtime.background import Background


def test_a_caller_waits_for_room_and_nothing_is_lost():
    done, go, background = [], threading.Event(), Background("test", room=10)
    background(9, go.wait)
    background(9, done.append, 1)  # 18 bytes wait
    begin = time.perf_counter()
    threading.Timer(0.2, go.set).start()
    background(9, done.append, 2)
    assert time.perf_counter() - begin > 0.15
    background.finish()
    assert done == [1, 2]


def test_an_error_is_raised_by_the_next_call_which_does_its_own_work():
    done, background = [], Background("test")
    background(0, [].pop)
    while not background.jobs[0][1].done():
        time.sleep(0.01)
    with pytest.raises(IndexError):
        background(0, done.append, 1)
    background(0, done.append, 2)
    background.finish()
    assert done == [1, 2]


def test_waiting_jobs_are_done_at_the_end_of_a_program():
    code = "import time; from util.runtime.background import Background; background = Background('x'); "
    code += "background(0, time.sleep, 0.3); background(0, [].pop); background(0, print, 'done')"
    done = type_command("-c", code)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["done"], "")
