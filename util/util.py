"""Small things that many need: errors for users, tensors to pictures, folders."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from util.runtime import processes as runtime

# Of a write, which names no file.
DISK_ERRORS = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO") if hasattr(errno, name)}


class UserError(Exception):
    """A mistake that its user can mend: shown as one message, without a traceback, with a non-zero exit status."""


class DataError(UserError):
    """An image or a loader of images failed; the networks are as they were after the last step."""


@contextlib.contextmanager
def explained_errors():
    """Turn what a user can mend into one message on stderr and exit status 1, and Ctrl-C into status 130."""
    if hasattr(sys.stdout, "reconfigure"):  # names of files need not be text that the terminal can show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is None:
            if error.errno not in DISK_ERRORS:
                raise
            sys.exit(f"error: {error.strerror}: what was written before is as it was")
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        sys.exit(f"error: {OUT_OF_MEMORY}\n  ({str(error).splitlines()[0] if str(error) else 'MemoryError'})")
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)


OUT_OF_MEMORY = """out of memory. What helps, in this order:
  --batch_size 1, with --grad_accum N where a step is to have N times as many images
  --grad_checkpoint, slower steps with the same result; --precision bf16, where the device has it
  a smaller --crop_size (and --load_size): half the side takes a quarter of the memory; the network still translates
    images of any size
  a smaller network: --netG resnet_6blocks or unet_256, --ngf 32, --ndf 32
  no --cache and fewer --num_threads, if it is the computer's own memory that is short
python scripts/doctor.py with the same arguments says what is needed; --continue_train goes on from the last save."""


def _out_of_memory(error: Exception) -> bool:
    """Tell a device's or the computer's lack of memory from other errors; not all of them have a type."""
    texts = ("can't allocate memory", "out of memory", "not enough memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(text in str(error) for text in texts)


def warn(message: str) -> None:
    """Tell the user, on stderr, of something that does not stop the run; under torchrun the main process alone does."""
    if runtime.is_main():
        print(f"warning: {message}", file=sys.stderr)


def printable(text: object) -> str:
    """Make a name fit for a line of a message: control characters, and bytes that are no UTF-8, are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest of `known`, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def device_of(gpu_ids: str | None) -> torch.device:
    """Return what a script's `--gpu_ids` names: the first GPU of a list, -1 the CPU, None whatever is there."""
    try:
        ids = None if gpu_ids is None else [int(i) for i in gpu_ids.split(",") if i.strip() and int(i) >= 0]
    except ValueError:
        raise UserError(f"--gpu_ids {printable(gpu_ids)}: a GPU's number, or -1 for the CPU") from None
    count = torch.cuda.device_count()
    if ids and count and ids[0] >= count:
        raise UserError(f"--gpu_ids {gpu_ids}: this machine has {count} GPU(s), numbered from 0")
    return runtime.choose_device(ids)


def need(module: str, package: str, what: str):
    """Import a package that not all need; where it is missing, raise UserError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{what} needs the package {package} ({error}). Install it: pip install {package}") from None


def tensor2im(input_image, imtype=np.uint8):
    """Turn the first image of a batch into an array (H, W, C) of `imtype`, 0 to 255.

    A tensor (N, C, H, W) in [-1, 1] is clamped and truncated; one channel becomes three. An array is only cast;
    anything else is returned as it is.
    """
    if isinstance(input_image, np.ndarray):
        return input_image.astype(imtype)
    if not isinstance(input_image, torch.Tensor):
        return input_image
    image = input_image.detach()[0].float().cpu()  # (C, H, W)
    if image.shape[0] == 1:
        image = image.expand(3, -1, -1)
    image = (image + 1) / 2 * 255
    return image.clamp(0, 255).permute(1, 2, 0).numpy().astype(imtype)


def save_image(image_numpy, image_path, aspect_ratio=1.0):
    """Write an array (H, W, C) or (H, W) as a picture; `aspect_ratio` r > 1 makes it taller, < 1 wider."""
    image = Image.fromarray(np.squeeze(image_numpy, axis=2) if image_numpy.shape[2:] == (1,) else image_numpy)
    if aspect_ratio > 1.0:
        image = image.resize((image.width, int(image.height * aspect_ratio)), Image.Resampling.BICUBIC)
    elif aspect_ratio < 1.0:
        image = image.resize((int(image.width / aspect_ratio), image.height), Image.Resampling.BICUBIC)
    image.save(image_path)


def diagnose_network(net, name="network"):
    """Print the mean absolute gradient over the parameters of `net`."""
    grads = [p.grad.abs().mean() for p in net.parameters() if p.grad is not None]
    print(name)
    print(float(torch.stack(grads).mean()) if grads else 0.0)


def print_numpy(x, val=True, shp=False):
    """Print shape and statistics of an array."""
    x = np.asarray(x, dtype=np.float64)
    if shp:
        print("shape,", x.shape)
    if val:
        x = x.flatten()
        print(
            f"mean = {x.mean():3.3f}, min = {x.min():3.3f}, max = {x.max():3.3f}, "
            f"median = {np.median(x):3.3f}, std={x.std():3.3f}"
        )


def mkdirs(paths):
    """Make one folder or a list of them, parents included."""
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        mkdir(path)


def mkdir(path):
    """Make a folder, parents included; one that exists is fine."""
    Path(path).mkdir(parents=True, exist_ok=True)


def init_ddp():
    """Start torchrun's process group and return this process's device (a name that scripts import from here)."""
    runtime.start_processes()
    return runtime.choose_device()


def cleanup_ddp():
    """End torchrun's process group, if there is one."""
    runtime.stop_processes()
