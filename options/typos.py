"""Words of a command line that no option takes, and the options that were probably meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from util.errors import near_names, printable
from util.runtime.plugins import TEST_ONLY

ROOT = Path(__file__).resolve().parents[1]
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212"  # editors turn two hyphens into one of them
MEANT = {  # names in other programs
    **dict.fromkeys(("epochs", "num_epoch", "num_epochs", "max_epoch", "max_epochs", "nepoch", "nepochs"), "n_epochs"),
    **dict.fromkeys(("data", "data_dir", "data_root", "data_path", "root", "path", "input"), "dataroot"),
    **dict.fromkeys(("gpu", "gpus", "device", "cuda"), "gpu_ids"),
    **dict.fromkeys(("workers", "num_workers", "n_threads", "threads"), "num_threads"),
    **dict.fromkeys(("size", "img_size", "image_size"), "crop_size"),
    **dict.fromkeys(("learning_rate", "base_lr"), "lr"),
    **dict.fromkeys(("resume", "continue"), "continue_train"),
    **dict.fromkeys(("out", "output", "output_dir", "out_dir", "save_dir"), "results_dir"),
    **dict.fromkeys(("pretrained", "finetune", "init"), "init_from"),
    **dict.fromkeys(("generator", "net", "arch"), "netG"),
    **{"checkpoints": "checkpoints_dir", "bs": "batch_size", "fp16": "precision", "amp": "precision"},
}


def explain_typos(words: list[str], actions: Mapping) -> str:
    """Return a sentence for each word that no option takes; `actions`: `--name` -> the option of argparse."""
    known = [name[2:] for name in actions if name.startswith("--")]
    groups = [("", [])]  # an option and the words after it
    for word in words:
        if is_option(word):
            groups.append((word, []))
        else:
            groups[-1][1].append(word)
    texts = []
    for flag, values in groups:
        name, equals, value = flag.partition("=")
        action = actions.get(name)
        if flag and action is None:
            texts.append(_unknown(name, known))
        elif not flag and values:
            texts.append(_first_words(values, known))
        elif flag:
            takes = 0 if action.nargs == 0 else 1 if action.nargs in (None, "?") else len(values)
            values = [value, *values] if equals else values
            if values[takes:]:
                texts.append(_stray(name, values, takes, action.type is str))
    first, *others = texts or [f"unknown words: {shlex.join(words)}"]
    for text in others:
        first += f"{' ' if first.endswith('?') else '. '}{text[0].upper()}{text[1:]}"
    return first


def is_option(word: str) -> bool:
    """Whether a word is meant as an option, also with one dash or a long one: not `-1`, nor a text with spaces."""
    return word[:1] in [*DASHES] and not word[1:2].isdigit() and " " not in word and word != "-"


def _unknown(word: str, known: list[str]) -> str:
    """Explain an unknown option."""
    name = "".join("_" if c in DASHES else c for c in word.lstrip(DASHES))
    lower = {option.lower(): option for option in known}
    near = [option for option in known if name and option.startswith(name)]
    if name.lower() in lower:
        near = [lower[name.lower()]]
    elif MEANT.get(name.lower()) in known:
        near = [MEANT[name.lower()]]
    elif not 0 < len(near) <= 4:
        near = near_names(name, known, 1)
    hint = f". Did you mean {' or '.join(f'--{option}' for option in near)}?" if near else "; --help lists the options"
    if name.lower() not in lower and (place := _elsewhere(name, known)):
        hint = f": it is an option of {place}"
    dash = " (with one long dash, not two hyphens)" if word[0] != "-" else ""
    return f"unknown option {printable(word)}{dash}{hint}"


def _elsewhere(name: str, known: list[str]) -> str:
    """Return the other program, or the model or dataset that is not chosen, whose source names an option."""
    other = "test.py" if "n_epochs" in known else "train.py"
    for pattern in ("options/rows.py", "models/*_model.py", "data/*_dataset.py"):
        for file in sorted(ROOT.glob(pattern)):
            if re.search(rf"[\"']--{re.escape(name)}[\"']", file.read_text(encoding="utf-8")):
                value, _, kind = file.stem.rpartition("_")
                if other == "train.py" or not value or value in TEST_ONLY:
                    return other
                return f"--model {value}" if kind == "model" else f"--dataset_mode {value}"
    return ""


def _first_words(values: list[str], known: list[str]) -> str:
    """Explain words before the first option."""
    text = printable(" ".join(values))
    if values[0] in known:
        return f"{text} belongs to no option. Did you mean --{values[0]}?"
    hint = f". Did you mean --dataroot {shlex.quote(text)}?" if Path(text).exists() else "; --help lists the options"
    return f"{text} belongs to no option{hint}"


def _stray(flag: str, values: list[str], takes: int, is_text: bool) -> str:
    """Explain words that follow an option and its value."""
    stray = printable(" ".join(values[takes:]))
    if is_text and takes:
        quoted = printable(shlex.quote(" ".join(values)))
        return f"{stray} belongs to no option. A value with spaces needs quotes: {flag} {quoted}"
    return f"{flag} takes {'one value' if takes else 'no value'}: leave out {stray}"
