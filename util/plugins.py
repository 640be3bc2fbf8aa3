"""Find a model or a data set by its name: one file, one class."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from pathlib import Path

from util.util import UserError, did_you_mean


def find_class(package: str, name: str, base: type) -> type:
    """Return the subclass of `base` that `--{model or dataset_mode} name` means.

    For package `models` and name `foo_bar`: class FooBarModel, in any case, in models/foo_bar_model.py.
    Raises UserError saying what was looked for and what was found; an error inside the file shows itself.
    """
    kind, flag = {"models": ("model", "--model"), "data": ("dataset", "--dataset_mode")}[package]
    module_name, file = f"{package}.{name}_{kind}", f"{package}/{name}_{kind}.py"
    if not name.isidentifier() or importlib.util.find_spec(module_name) is None:
        known = available(package, kind)
        raise UserError(f"{flag} {name}: there is no {file}; there are: {', '.join(known)}.{did_you_mean(name, known)}")
    module = importlib.import_module(module_name)
    wanted = (name.replace("_", "") + kind).lower()
    classes = [c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, base) and c is not base]
    fitting = [c for c in classes if c.__name__.lower() == wanted]
    if not fitting:
        own = [c.__name__ for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module_name]
        raise UserError(
            f"{flag} {name}: {file} has no class {wanted!r} (in any case) that is a subclass of {base.__name__}; "
            f"its classes are: {', '.join(own) or 'none'}"
        )
    return fitting[-1]


def available(package: str, kind: str) -> list[str]:
    """List the names whose files lie in a package."""
    folder = Path(importlib.import_module(package).__file__).parent
    names = [path.stem.removesuffix(f"_{kind}") for path in folder.glob(f"*_{kind}.py")]
    return sorted(name for name in names if name != "base")
