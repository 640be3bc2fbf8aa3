"""The command line's entry point: `--help` and mistakes are answered before PyTorch is imported."""

from __future__ import annotations

import signal
import sys

from study import ROOT, Study, parse


def main(study: Study, words: list[str] | None = None) -> None:
    """Run a study as the command line asks."""
    args = parse(study, words)
    sys.path.insert(0, str(ROOT))
    from runner import Runner, compare

    from util.errors import explained_errors
    from util.runtime.signals import unbreakable_output

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # an exception, so that training saves
    unbreakable_output()
    with explained_errors():
        (study.procedure or compare)(Runner(study, args))
