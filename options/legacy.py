"""Names of earlier years, turned into today's before parsing.

They are not registered as options: they would make prefixes ambiguous, and fill the help.
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

# The options of the reference project: a prefix means one of these before it means one of ours.
REFERENCE = {
    "aspect_ratio", "batch_size", "beta1", "checkpoints_dir", "continue_train", "crop_size", "dataroot",
    "dataset_mode", "direction", "display_env", "display_freq", "display_id", "display_ncols", "display_port",
    "display_server", "display_winsize", "epoch", "epoch_count", "eval", "gan_mode", "gpu_ids", "init_gain",
    "init_type", "input_nc", "lambda_A", "lambda_B", "lambda_L1", "lambda_identity", "lambda_regression", "load_iter",
    "load_size", "lr", "lr_decay_iters", "lr_policy", "max_dataset_size", "model", "model_suffix", "n_epochs",
    "n_epochs_decay", "n_layers_D", "name", "ndf", "netD", "netG", "new_dataset_option", "ngf", "no_dropout",
    "no_flip", "no_html", "norm", "num_test", "num_threads", "output_nc", "phase", "pool_size", "preprocess",
    "print_freq", "results_dir", "save_by_iter", "save_epoch_freq", "save_latest_freq", "serial_batches", "suffix",
    "update_html_freq", "use_wandb", "verbose", "wandb_project_name",
}  # fmt: skip


def modernise(argv: list[str], known: set[str]) -> list[str]:
    """Rewrite old names, old values and unique prefixes in `argv`; `known` are the options of the parser at hand.

    What is not known, or is a prefix of several options, is left as it is.
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
            name = RENAMED.get(name) or _complete(name, known) or name
        if equals:
            result.append(f"--{name}={VALUES.get((name, value), value)}")
        else:
            result.append(f"--{name}")
            if words and (name, words[0]) in VALUES:
                result.append(VALUES[name, words.pop(0)])
    return _pix2pix_lambda(result, known)


def _complete(prefix: str, known: set[str]) -> str | None:
    """Return the one option that begins with `prefix`, the reference's before ours."""
    for names in (known & REFERENCE, known):
        fitting = [name for name in names if name.startswith(prefix)]
        if fitting:
            return fitting[0] if len(fitting) == 1 else None
    return None


def _pix2pix_lambda(argv: list[str], known: set[str]) -> list[str]:
    """In 2017 pix2pix called its --lambda_L1 --lambda_A."""
    if "lambda_L1" in known and "lambda_A" not in known:
        return ["--lambda_L1" + word[10:] if word.split("=")[0] == "--lambda_A" else word for word in argv]
    return argv
