"""Facts of a run beside its options: the words typed, the values that differ from the defaults, how it is made fast.

`parse()` returns `opt` alone, and scripts of users pass only `opt` on to models and loggers. The facts therefore travel
with it, but not among the options: `vars(opt)` does not contain them. `run_facts(opt)` returns them.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass, field, replace


class Options(argparse.Namespace):
    """Parsed options, which carry the facts of their run."""

    __slots__ = ("_facts",)


@dataclass(frozen=True)
class RunFacts:
    """Facts that the command line and the machine decide; empty for options that were not parsed."""

    words: tuple[str, ...] = ()  # the command line
    typed: frozenset[str] = frozenset()  # names of the options in it
    differing: dict[str, tuple] = field(default_factory=dict)  # option -> (value, default) where these differ
    paired: bool | None = None  # see BaseDataset.is_paired
    speed: str = ""  # see util.speed.plan.choose
    table: str = ""  # all options as text
    locks: bool = False  # whether the run keeps others out of its folder
    unattended: bool = False  # whether it resumed unasked: by `auto`, or started again by torchrun
    saved: dict[str, object] = field(default_factory=dict)  # saved in train_opt.json as "facts", for later commands


def run_facts(opt) -> RunFacts:
    """Return the facts of a run; empty ones for options that a notebook made itself."""
    return getattr(opt, "_facts", None) or RunFacts()


def set_facts(opt: Options, **facts) -> None:
    """Add or change facts of a run."""
    opt._facts = replace(run_facts(opt), **facts)


def save_fact(opt: Options, name: str, value: object) -> None:
    """Add a fact to those saved with the run; `value` is a plain JSON type."""
    set_facts(opt, saved={**run_facts(opt).saved, name: value})


def saved_facts(saved_options: dict) -> dict[str, object]:
    """Return the facts of an earlier run from its saved options; empty for a run that saved none."""
    facts = saved_options.get("facts")
    return facts if isinstance(facts, dict) else {}


def with_values(opt, **values):
    """Return a copy of the options with other values and the same facts."""
    other = copy.copy(opt)
    vars(other).update(values)
    return other
