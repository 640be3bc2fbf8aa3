"""Copy batches to the device and convert them there, the next batch while the model works on this one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

import torch

FLIPS = "flips of bytes"  # key of a batch whose images are bytes; its value says which of them to mirror


def prefetched(batches: Iterable, device: torch.device) -> Iterator:
    """Yield the batches with their images on `device`; on CUDA the next one is copied meanwhile, on its own stream.

    Only copies from pinned memory overlap. On other devices a batch is loaded when it is asked for.
    """
    if device.type != "cuda":
        yield from (to_device(batch, device) for batch in batches)
        return
    stream = copying_stream(device)

    def begin(batch):
        with torch.cuda.stream(stream):
            batch = to_device(batch, device)
        return batch, stream.record_event()

    for batch, copied in one_ahead(batches, begin):
        current = torch.cuda.current_stream(device)
        current.wait_event(copied)
        for image in images_of(batch).values():
            image.record_stream(current)  # the other stream, which owns the memory, must not reuse it too early
        yield batch


@functools.cache
def copying_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the only stream for copies: memory freed on a stream is reused on that stream alone."""
    return torch.cuda.Stream(device)


def one_ahead(batches: Iterable, begin: Callable) -> Iterator:
    """Yield `begin(batch)` of each batch; `begin` is called before the previous batch is yielded.

    An exception of the iteration is raised after all batches before it.
    """
    batches, begun, failure = iter(batches), [], None
    while failure is None:
        try:
            begun.append(begin(next(batches)))
        except StopIteration:
            break
        except Exception as error:
            failure = error
        if len(begun) > 1:
            yield begun.pop(0)
    while begun:
        yield begun.pop(0)
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame: both would be freed late


def images_of(batch) -> dict[str, torch.Tensor]:
    """Return a batch's images A and B (N, C, H, W), if any. Other tensors of a plug-in stay as they are."""
    entries = batch.items() if isinstance(batch, dict) else ()
    return {name: value for name, value in entries if name in ("A", "B") and torch.is_tensor(value)}


def to_device(batch, device: torch.device):
    """Move a batch's images to `device`; bytes become floats in [-1, 1], mirrored as drawn."""
    cuda = device.type == "cuda"
    flips = batch.pop(FLIPS, {}) if isinstance(batch, dict) else {}
    for name in flips:
        array = torch.from_numpy(batch[name])
        batch[name] = array.pin_memory() if cuda else array
    for name, image in images_of(batch).items():
        batch[name] = image.to(device, non_blocking=cuda)
    for name, mirrored in flips.items():
        batch[name] = finish(batch[name], mirrored)
    return batch


def finish(images: torch.Tensor, flips: list[bool]) -> torch.Tensor:
    """Turn bytes (N, C, H, W) into floats in [-1, 1] as T.ToTensor and T.Normalize do, bit for bit, and mirror some."""
    for image, flip in zip(images, flips, strict=True):
        if flip:
            image.copy_(image.flip(-1))
    dtype = torch.get_default_dtype()
    # Given a Python number, GPUs would multiply by its rounded inverse instead of dividing.
    most = torch.full((), 255, dtype=dtype, device=images.device)
    return images.to(dtype).div_(most).sub_(0.5).mul_(2)
