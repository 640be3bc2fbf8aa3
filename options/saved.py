"""Options chosen from those of an earlier run, and the table of options."""

from __future__ import annotations

from util.checkpoint.run_folder import values_to_save
from util.errors import printable, warn


def choose_saved(saved: dict, names: set[str], parser) -> dict:
    """Choose the saved values of `names`. Values of a wrong type are dropped from `saved`, with a warning."""
    types = {int: (int,), float: (int, float), str: (str,), None: (str,)}
    for action in parser._actions:
        name, value, default = action.dest, saved.get(action.dest), parser.get_default(action.dest)
        fitting = (bool,) if action.nargs == 0 else types.get(action.type, (str, int, float))
        if value is not None and action.nargs in (None, 0) and type(value) not in (*fitting, type(default)):
            del saved[name]
            if name in names:
                warn(f"saved options: {name} can't be {value!r:.40}; the default {default!r} is used")
    return {name: saved[name] for name in names if saved.get(name) is not None}


def options_text(opt, parser) -> str:
    """Write the options as a table, in the reference's format."""
    lines = ["----------------- Options ---------------"]
    for name, value in values_to_save(opt).items():
        default = parser.get_default(name)
        comment = "" if value == default else f"\t[default: {default}]"
        lines.append(f"{name!s:>25}: {printable(value):<30}{comment}")
    return "\n".join([*lines, "----------------- End -------------------"])
