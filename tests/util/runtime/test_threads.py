"""The threads of PyTorch: their number by affinity, quota and torchrun, and what a resumed run does with it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from util.runtime import machine, threads
from util.runtime.run_facts import Options, run_facts

IMPORTS = ast.Import, ast.ImportFrom
SCRIPTS = ("benchmark", "doctor", "evaluate", "fcn_score", "studies/study")
FIRST = "options/first_look.py"  # the first import of train.py and test.py
PROGRAMS = {"train.py": FIRST, "test.py": FIRST, FIRST: "", **{f"scripts/{name}.py": "" for name in SCRIPTS}}


@pytest.fixture
def computer(tmp_path, monkeypatch):
    """A machine made of files: 4 cores of 2 hyperthreads each, and the control groups that a test adds."""
    for name in (*threads.WAITING, "OMP_NUM_THREADS", "MKL_NUM_THREADS", threads.CHOSEN, "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # restored at the end, whatever the test or choose() do
        monkeypatch.delenv(name)
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "SYS", tmp_path / "sys")
    monkeypatch.setattr(machine, "affinity", lambda: range(8))
    files = {f"sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": f"{i % 4},{i % 4 + 4}" for i in range(8)}

    def add(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"{text}\n")

    for path, text in files.items():
        add(path, text)
    return add


# ---- cores ----


@pytest.mark.parametrize(
    ("groups", "files", "quota", "cores"),
    [
        ("0::/", {}, float("inf"), 8),
        ("0::/", {"cpu.max": "max 100000"}, float("inf"), 8),
        ("0::/", {"cpu.max": "150000 100000"}, 1.5, 2),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000", "cpu.max": "200000 100000"}, 0.5, 1),
        ("4:cpu,cpuacct:/d\n0::/", {"cpu/d/cpu.cfs_quota_us": "300000", "cpu/d/cpu.cfs_period_us": "100000"}, 3, 3),
        ("4:cpu:/hidden", {"cpu/cpu.cfs_quota_us": "20000", "cpu/cpu.cfs_period_us": "10000"}, 2, 2),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, float("inf"), 8),
        ("3:cpuset:/", {"cpu/cpu.cfs_quota_us": "20000", "cpu/cpu.cfs_period_us": "10000"}, float("inf"), 8),
    ],
)
def test_the_quota_is_the_least_of_all_control_groups_of_both_versions(computer, groups, files, quota, cores):
    computer("proc/self/cgroup", groups)
    for path, text in files.items():
        computer(f"sys/fs/cgroup/{path}", text)
    assert machine.cpu_quota() == quota
    assert machine.core_count() == cores
    assert machine.physical_cores() == 4


def test_memory_is_that_of_the_machine_or_the_least_limit(computer):
    computer("proc/meminfo", "MemTotal:  1000 kB\nMemFree:   5 kB\nMemAvailable:  800 kB")
    assert machine.main_memory() == (1024000, 819200)
    computer("proc/self/cgroup", "2:memory:/a\n0::/")
    computer("sys/fs/cgroup/memory/a/memory.limit_in_bytes", 900000)
    assert machine.main_memory() == (900000, 819200)
    computer("sys/fs/cgroup/memory.max", 500000)
    assert machine.main_memory() == (500000, 500000)


# ---- the choice ----


@pytest.mark.parametrize(
    ("quota", "given", "chosen"),
    [
        ("max", {}, None),  # PyTorch's own number
        ("150000", {}, "2"),
        ("20000", {}, "1"),
        ("700000", {}, None),
        ("max", {"LOCAL_WORLD_SIZE": "2"}, "2"),
        ("300000", {"LOCAL_WORLD_SIZE": "2"}, "1"),
        ("max", {"LOCAL_WORLD_SIZE": "9"}, "1"),
        ("150000", {"OMP_NUM_THREADS": "3"}, "3"),
        ("150000", {"OMP_NUM_THREADS": ""}, "2"),
        ("150000", {"MKL_NUM_THREADS": "3"}, None),
        ("150000", {"OMP_NUM_THREADS": "3", threads.CHOSEN: "3"}, "2"),  # of the program that started this one
        ("max", {"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "2"}, "2"),
    ],
)
def test_the_number_follows_cores_quota_and_processes_unless_the_user_sets_it(
    computer, monkeypatch, tmp_path, quota, given, chosen
):
    computer("proc/self/cgroup", "0::/")
    computer("sys/fs/cgroup/cpu.max", f"{quota} 100000")
    computer(f"proc/{os.getppid()}/environ", "PATH=/bin\0")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    threads.choose()
    assert os.environ.get("OMP_NUM_THREADS") == chosen
    assert {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "4000"}.items() <= os.environ.items()
    assert threads.set_by_user() == ("MKL_NUM_THREADS" in given or given.get("OMP_NUM_THREADS") == chosen == "3")


def test_a_number_that_torchrun_s_user_set_stays(computer, monkeypatch):
    computer(f"proc/{os.getppid()}/environ", "OMP_NUM_THREADS=1\0PATH=/bin\0")
    for name, value in {"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "x", "OMP_WAIT_POLICY": "ACTIVE"}.items():
        monkeypatch.setenv(name, value)
    threads.choose()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"]) == ("1", "ACTIVE")
    assert "GOMP_SPINCOUNT" not in os.environ
    assert threads.set_by_user()


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_that_run_networks_import_it_before_other_packages(program):
    nodes = [node for node in ast.walk(ast.parse((ROOT / program).read_text())) if isinstance(node, IMPORTS)]
    names = [
        getattr(node, "module", None) or node.names[0].name for node in sorted(nodes, key=lambda node: node.lineno)
    ]
    first = PROGRAMS[program].removesuffix(".py").replace("/", ".") or "util.runtime.threads"
    assert next(n for n in names if n.split(".")[0] not in sys.stdlib_module_names) == first


def test_importing_it_imports_neither_torch_nor_numpy():
    code = "import sys, util.runtime.threads; sys.exit(bool({'torch', 'numpy'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# ---- with a run ----


@pytest.fixture
def start(computer, monkeypatch):
    """Start or resume a run on a machine where PyTorch has 4 threads; return its facts, the lines, the threads set."""

    def start(saved, chosen=None, typed=None):
        now = [chosen or typed or 4]
        computer(f"proc/{os.getppid()}/environ", "PATH=/bin\0")
        monkeypatch.setattr(torch, "get_num_threads", lambda: now[-1])
        monkeypatch.setattr(torch, "set_num_threads", now.append)
        for name, value in {"OMP_NUM_THREADS": chosen or typed, threads.CHOSEN: chosen}.items():
            monkeypatch.setenv(name, str(value)) if value else monkeypatch.delenv(name, raising=False)
        opt = Options()
        lines = threads.keep(opt, saved)
        return run_facts(opt).saved, lines, now[1:]

    return start


def test_a_run_records_threads_processes_and_software(start):
    facts, lines, changed = start({})
    cpu = torch.backends.cpu.get_cpu_capability()
    assert (facts, lines, changed) == ({"threads": 4, "processes": 1, "torch": torch.__version__, "CPU": cpu}, [], [])
    assert start({"facts": facts}) == (facts, [], [])


def test_a_resumed_run_keeps_its_threads_and_says_what_the_machine_allows(start):
    facts, lines, changed = start({"facts": {"threads": 7}})
    assert (facts["threads"], changed) == (7, [7])
    assert lines == ["threads: 7, as before (a new run would have 4 here: OMP_NUM_THREADS=4)"]


def test_threads_that_the_user_sets_win_and_the_difference_is_one_line(start):
    facts, lines, changed = start({"facts": {"threads": 7}}, typed=2)
    assert (facts["threads"], changed) == (2, [])
    assert lines == ["changed since the last start: threads 7 -> 2; results differ in their last digits"]


def test_a_run_that_saved_no_threads_keeps_those_of_pytorch_s_choice(start):
    assert start({"name": "x"})[2] == []
    assert start({"name": "x"}, chosen=2)[2] == [4]  # the quota was not obeyed then


def test_a_run_of_torchrun_keeps_the_single_thread_that_torchrun_set(start, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert start({"name": "x"}, chosen=2)[2] == [1]


def test_other_processes_versions_and_cpus_are_reported_and_threads_then_follow_the_machine(start):
    facts, lines, changed = start({"facts": {"threads": 7, "processes": 2, "torch": "2.6.0", "CPU": "\x1bZ"}})
    assert (facts["threads"], changed) == (4, [])
    cpu = torch.backends.cpu.get_cpu_capability()
    now = f"threads 7 -> 4, processes 2 -> 1, torch 2.6.0 -> {torch.__version__}, CPU \\x1bZ -> {cpu}"
    assert lines == [f"changed since the last start: {now}; results differ in their last digits"]


@pytest.mark.parametrize("count", [0, -1, 10**9, "7", None, True])
def test_no_number_that_a_foreign_file_asks_for_can_stop_a_run(start, count):
    assert start({"facts": {"threads": count}})[2] == []
