"""Option names of earlier years, rewritten to today's before parsing.

They are not registered as options: they would make prefixes ambiguous and lengthen the help.
"""

from __future__ import annotations

RENAMED = {
    "batchSize": "batch_size",
    "nThreads": "num_threads",
    "which_model_netG": "netG",
    "which_model_netD": "netD",
    "which_direction": "direction",
    "which_epoch": "epoch",
    "how_many": "num_test",
    "loadSize": "load_size",
    "fineSize": "crop_size",
    "resize_or_crop": "preprocess",
    "niter": "n_epochs",
    "niter_decay": "n_epochs_decay",
}
FLAGS = {"no_lsgan": ["--gan_mode", "vanilla"]}
DROPPED = {"ntest"}  # took a value, did nothing
VALUES = {
    ("lr_policy", "lambda"): "linear",
    ("norm", "sync_batch"): "syncbatch",
    ("norm", "sync_instance"): "instance",  # instance norm's statistics are each image's own
    ("max_dataset_size", "infinity"): "inf",
}


def todays_options(saved: dict) -> dict:
    """Return options that an earlier version saved under today's names, with today's values."""
    names = {RENAMED.get(name, name): value for name, value in saved.items()}
    return {
        name: VALUES.get((name, value), value) if isinstance(value, str) else value for name, value in names.items()
    }


def modernise(argv: list[str], known: set[str], preferred: set[str]) -> list[str]:
    """Rewrite old names, old values and unique prefixes in `argv`; `known` are the options of the parser.

    A prefix means one of the `preferred` options before it means another. An unknown word, or a prefix of several
    options, stays as it is.
    """
    words, result = list(argv), []
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            result.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        if name in DROPPED and name not in known:
            if not equals and words:
                words.pop(0)
            continue
        if name in FLAGS and name not in known:
            result += FLAGS[name]
            continue
        if name not in known:
            name = RENAMED.get(name) or _complete(name, known & preferred, known) or name
        if equals:
            result.append(f"--{name}={VALUES.get((name, value), value)}")
        else:
            result.append(f"--{name}")
            if words and (name, words[0]) in VALUES:
                result.append(VALUES[name, words.pop(0)])
    return _pix2pix_lambda(result, known)


def _complete(prefix: str, *tables: set[str]) -> str | None:
    """Return the one option that begins with `prefix`, of the first table that has any."""
    for names in tables:
        fitting = [name for name in names if name.startswith(prefix)]
        if fitting:
            return fitting[0] if len(fitting) == 1 else None
    return None


def _pix2pix_lambda(argv: list[str], known: set[str]) -> list[str]:
    """Rewrite --lambda_A, the name of pix2pix's --lambda_L1 in 2017."""
    if "lambda_L1" in known and "lambda_A" not in known:
        return ["--lambda_L1" + word[10:] if word.split("=")[0] == "--lambda_A" else word for word in argv]
    return argv
