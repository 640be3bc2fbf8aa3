"""The first look at a command line: `--help` and mistyped options are answered before PyTorch is imported.

That import takes seconds, so train.py and test.py import this module before all that need PyTorch. It makes the parser
from options/rows.py and from the source of the chosen model and dataset. It leaves every command that it cannot judge
to TrainOptions and TestOptions, which import their code and read the run's files.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import util.runtime.threads  # noqa: F401 - before torch

from options import rows
from options.help import add_help
from options.parser import ROOT, Parser, Table
from util.errors import UserError, explained_errors
from util.runtime.plugins import PACKAGES, missing

SETTER = "modify_commandline_options"


class CannotTell(Exception):
    """The answer depends on code or files that the first look does not read."""


def answer(words: list[str], is_train: bool) -> None:
    """Print the help, or end with the message for words that no run accepts; else return."""
    parser = Parser()
    rows.add_common(parser)
    (rows.add_training if is_train else rows.add_testing)(parser)
    with contextlib.suppress(CannotTell):
        saved = saved_choice(parser, words, is_train)
        parser.set_defaults(**saved)
        with contextlib.redirect_stdout(io.StringIO()):  # the options print what a plug-in prints
            parser = parser.add_chosen("model", words, is_train, partial(setter, "models"))
            if saved.get("model") == parser.peek("model", words):
                parser.set_defaults(**saved)
            parser = parser.add_chosen("dataset_mode", words, is_train, partial(setter, "data"))
        add_help(parser, is_train)
        opt = parser.parse_args(parser.todays_words(words))
        chosen = {"model": ("models", opt.model), "dataset": ("data", opt.dataset_mode)}
        plugins = {kind for kind, (package, name) in chosen.items() if name not in Table(f"{package}.BUILT_IN")}
        parser.check(opt, parser.typed(words), plugins)


def saved_choice(parser: Parser, words: list[str], is_train: bool) -> dict[str, str]:
    """Return the model and the dataset of the run that is tested or resumed; empty if there is none."""
    checkpoints_dir, name, suffix = (parser.peek(option, words) for option in ("checkpoints_dir", "name", "suffix"))
    resumes = any(word.split("=")[0] == "--continue_train" for word in parser.todays_words(words))
    path = Path(checkpoints_dir, name, "train_opt.json")
    table = path.with_suffix(".txt")  # of the reference project, if it is alone
    if (is_train and not resumes) or not (path.is_file() or table.is_file()):
        return {}
    if suffix or not path.is_file():
        raise CannotTell  # the folder has another name, or needs another reader
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return {name: str(saved[name]) for name in ("model", "dataset_mode")}
    except (OSError, ValueError, RecursionError, LookupError, TypeError) as error:
        raise CannotTell from error


def setter(package: str, name: str, is_train: bool) -> Callable:
    """Return `modify_commandline_options` of the model or the dataset that the command line names."""
    kind, _ = PACKAGES[package]
    file = ROOT / package / f"{name}_{kind}.py"
    if not name.isidentifier() or not file.is_file():
        raise UserError(missing(package, name, [str(ROOT / package)], is_train))
    return partial(_set_options, file, name.replace("_", "") + kind)


def _set_options(file: Path, title: str, parser: Parser, is_train: bool = True) -> Parser:
    """Call the function by which a class sets its options, taken from the source without the rest of the file."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        scope = {}  # the classes that it may inherit from
        for node in (node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module):
            origin = (file.parent if node.level else ROOT) / f"{node.module.replace('.', '/')}.py"
            for base in node.names if origin.is_file() else ():
                setter = partial(_set_options, origin, base.name)
                scope[base.asname or base.name] = SimpleNamespace(**{SETTER: setter})
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.lower() == title.lower()]
        own = [node for node in classes[-1].body if isinstance(node, ast.FunctionDef) and node.name == SETTER]
        if not own:
            return getattr(scope[classes[-1].bases[0].id], SETTER)(parser, is_train)
        own[-1].decorator_list = []
        exec(compile(ast.Module(own[-1:], []), str(file), "exec"), scope)
        return scope[SETTER](parser, is_train)
    except Exception as error:  # whatever else the function needs of its file
        raise CannotTell from error


main = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
if main.name in ("train.py", "test.py") and main.resolve().parent == ROOT:
    with explained_errors():
        answer(sys.argv[1:], is_train=main.name == "train.py")
