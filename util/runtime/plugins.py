"""Find a model or a dataset by its name: one file, one class."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil

from util.errors import UserError, did_you_mean


def find_class(package: str, name: str, base: type) -> type:
    """Return the subclass of `base` that `--model NAME` or `--dataset_mode NAME` selects.

    For package `models` and name `foo_bar`: class FooBarModel, in any case, in models/foo_bar_model.py.
    Raises UserError that lists the known names or classes; an error inside the file is raised as it is.
    """
    kind, flag = {"models": ("model", "--model"), "data": ("dataset", "--dataset_mode")}[package]
    module_name, file = f"{package}.{name}_{kind}", f"{package}/{name}_{kind}.py"
    if not name.isidentifier() or importlib.util.find_spec(module_name) is None:
        known = available(package, kind)
        raise UserError(
            f"{flag} {name}: there is no file {file}.{did_you_mean(name, known)} Known: {', '.join(known)}."
        )
    module = importlib.import_module(module_name)
    wanted = (name.replace("_", "") + kind).lower()
    classes = {title: c for title, c in vars(module).items() if inspect.isclass(c)}
    fitting = [c for title, c in classes.items() if title.lower() == wanted and issubclass(c, base) and c is not base]
    if not fitting:
        own = [f"{title}({c.__base__.__name__})" for title, c in classes.items() if c.__module__ == module_name]
        raise UserError(
            f"{flag} {name}: {file} has no subclass of {base.__name__} called {wanted} (in any case). "
            f"Its classes: {', '.join(own) or 'none'}."
        )
    return fitting[-1]


def available(package: str, kind: str) -> list[str]:
    """List the names that a package has files for."""
    files = [module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__)]
    return sorted(
        file.removesuffix(f"_{kind}") for file in files if file.endswith(f"_{kind}") and file != f"base_{kind}"
    )
