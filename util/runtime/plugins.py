"""Find a model or a dataset by its name: one file, one class."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterable

from util.errors import UserError, did_you_mean

PACKAGES = {"models": ("model", "--model"), "data": ("dataset", "--dataset_mode")}
TEST_ONLY = ("test", "single")  # train.py suggests neither


def find_class(package: str, name: str, base: type, is_train: bool = False) -> type:
    """Return the subclass of `base` that `--model NAME` or `--dataset_mode NAME` selects.

    For package `models` and name `foo_bar`: class FooBarModel, in any case, in models/foo_bar_model.py.
    Raises UserError that lists the known names (those of train.py if `is_train`) or the file's classes. An error inside
    the file is raised as it is.
    """
    kind, flag = PACKAGES[package]
    module_name, file = f"{package}.{name}_{kind}", f"{package}/{name}_{kind}.py"
    if not name.isidentifier() or importlib.util.find_spec(module_name) is None:
        raise UserError(missing(package, name, importlib.import_module(package).__path__, is_train))
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


def missing(package: str, name: str, folders: Iterable[str], is_train: bool) -> str:
    """Return the message that a package has no file for a name; `folders` are those of the package."""
    kind, flag = PACKAGES[package]
    known = [known for known in available(folders, kind) if not (is_train and known in TEST_ONLY)]
    hint = did_you_mean(name, known)
    return f"{flag} {name}: there is no file {package}/{name}_{kind}.py.{hint} Known: {', '.join(known)}."


def available(folders: Iterable[str], kind: str) -> list[str]:
    """List the names that folders have files for."""
    files = [module.name for module in pkgutil.iter_modules(folders)]
    return sorted(
        file.removesuffix(f"_{kind}") for file in files if file.endswith(f"_{kind}") and file != f"base_{kind}"
    )
