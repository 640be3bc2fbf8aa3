"""Words of a command line that no option takes, and the options that were probably meant."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from util.errors import near_names, printable

DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212"  # editors turn two hyphens into one of them
MEANT = {  # names in other programs
    **dict.fromkeys(("epochs", "num_epochs", "max_epochs", "nepochs"), "n_epochs"),
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
    groups = [("", [])]  # an option and the words after it
    for word in words:
        if is_option(word):
            groups.append((word, []))
        else:
            groups[-1][1].append(word)
    texts = []
    for flag, values in groups:
        name, equals, _ = flag.partition("=")
        action = actions.get(name)
        if flag and action is None:
            texts.append(_unknown(name, [known[2:] for known in actions if known.startswith("--")]))
            continue
        takes = 0 if equals or not flag or action.nargs == 0 else 1 if action.nargs is None else len(values)
        if values[takes:]:
            texts.append(_stray(name, values, takes, action and action.type is str))
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
    dash = " (with one long dash, not two hyphens)" if word[0] != "-" else ""
    return f"unknown option {printable(word)}{dash}{hint}"


def _stray(flag: str, values: list[str], takes: int, is_text: bool) -> str:
    """Explain words that follow an option and its value."""
    stray = printable(" ".join(values[takes:]))
    if not flag:
        return f"{stray} belongs to no option. Did you mean --dataroot {printable(shlex.quote(' '.join(values)))}?"
    if is_text and takes:
        quoted = printable(shlex.quote(" ".join(values)))
        return f"{stray} belongs to no option. A value with spaces needs quotes: {flag} {quoted}"
    return f"{flag} takes {'one value' if takes else 'no value'}: leave out {stray}"
