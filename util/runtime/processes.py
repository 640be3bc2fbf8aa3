"""The processes of a torchrun launch: rank, messages between them, and averaged gradients."""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import os
import sys
import traceback
import weakref
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from util.errors import warn


def rank() -> int:
    """Return this process's number among torchrun's processes, 0 without torchrun."""
    return int(os.environ.get("RANK", 0))


def local_rank() -> int:
    """Return this process's number on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def world_size() -> int:
    """Return the number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this process writes the log, the pages and the checkpoints."""
    return rank() == 0


def start_processes() -> None:
    """Join torchrun's process group (NCCL with one CUDA device each, else gloo); without torchrun do nothing.

    After that only the main process prints; errors of the others still reach stderr.
    """
    if world_size() > 1 and not dist.is_initialized():
        cuda, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        if 0 < cuda < local:
            sys.exit(
                f"error: {local} processes need as many GPUs, and this machine has {cuda}: --nproc_per_node {cuda}"
            )
        if cuda:
            torch.cuda.set_device(local_rank())
        # DDP imports it. Its functions' default arguments would hold a group that exists by then, for ever.
        importlib.import_module("torch.distributed.nn.functional")
        backends = "cpu:gloo,cuda:nccl" if cuda else "gloo"  # both, for --gpu_ids -1
        dist.init_process_group(backends, store=own_store(), rank=rank(), world_size=world_size())
        if not is_main():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the rest of the process


def own_store() -> dist.Store | None:
    """Return torchrun's store, without the addresses of processes that a restart has replaced; else None.

    torchrun keeps one store for all restarts. A process that found a dead one's address would wait for it.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    return dist.PrefixStore(
        f"restart {os.environ.get('TORCHELASTIC_RESTART_COUNT')} of {world_size()} processes", store
    )


def stop_processes() -> None:
    """Leave the process group, if there is one.

    Its threads release Python objects, and one that lives when Python ends aborts the process. Networks keep them
    alive, so nothing may hold a network any more.
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()


def group_threads() -> int:
    """Return the number of gloo's threads in this process, as far as the system shows them."""
    count = 0
    for file in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):
            count += "gloo" in file.read_text()
    return count


def release_frames(error: BaseException | None) -> None:
    """Clear the local variables of the calls that an error ended: they hold the networks."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def processes():
    """Join torchrun's process group while the body runs."""
    start_processes()
    try:
        yield
    except BaseException as error:
        if dist.is_initialized():
            release_frames(error)
            lost = isinstance(error, (RuntimeError, ConnectionError))
            if lost and any(word in str(error) for word in ("gloo", "NCCL", "Connection closed")):
                sys.exit("error: another process stopped; its own message says why")
        raise
    finally:
        stop_processes()
        if left := group_threads():
            warn(f"{left} threads of the process group are left: something still holds a network")


def from_main(value):
    """Return the main process's `value` (any picklable object) in every process."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value) -> list:
    """Collect every process's `value` (any picklable object), ordered by rank, in every process."""
    if not dist.is_initialized():
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def greatest(value: int) -> int:
    """Return the greatest of all processes' values, in every process. Uses the CPU only."""
    if not dist.is_initialized():
        return value
    number = torch.tensor(value)  # on the CPU: over gloo
    dist.all_reduce(number, dist.ReduceOp.MAX)
    return int(number)


def average(values: torch.Tensor, share: float) -> torch.Tensor:
    """Return the mean of a tensor over all processes, each weighted by its `share` of the batch (see `distribute`)."""
    if dist.is_initialized():
        dist.all_reduce(values.mul_(share / world_size()))
    return values


def distribute(net: torch.nn.Module, model) -> torch.nn.Module:
    """Have a trained network's gradients averaged over the processes, each weighted by its share of the batch.

    `model.step_part.share` is a process's images times the number of processes over all images: 1 but for a short last
    batch. Every process keeps its own running statistics of batch norm, and the main one's are saved; syncbatch keeps
    them equal.
    """
    if not (dist.is_initialized() and world_size() > 1 and any(p.requires_grad for p in net.parameters())):
        return net
    device = next(net.parameters()).device
    ids = [device.index] if device.type == "cuda" else None
    newer = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    own_buffers = {"forward_sync_buffers" if newer else "broadcast_buffers": False}
    net = DistributedDataParallel(net, device_ids=ids, **own_buffers)

    # DDP's C++ part holds the hook. Were the reference not weak, no garbage collection would see the cycle.
    owner = weakref.ref(model)

    def weighted_mean(_, bucket):
        gradients = bucket.buffer().mul_(owner().step_part.share / world_size())
        return dist.all_reduce(gradients, async_op=True).get_future().then(lambda future: future.value()[0])

    net.register_comm_hook(None, weighted_mean)
    _arrange_buckets(net)
    return net


def _arrange_buckets(net: DistributedDataParallel) -> None:
    """Have DDP see a backward pass, after which it arranges its buckets for good.

    A sum over three or more processes depends, in its last bits, on the position of a gradient in a bucket. If that
    pass were the first training step's, every start would begin with other buckets, and resuming would not be exact.
    """
    module = net.module
    compiled = vars(module).get("forward")  # util.speed.acceleration's
    # Only here is a network's method replaced: DDP calls it, and nobody knows the shapes that it takes.
    module.forward = lambda: sum((p * 0).sum() for p in module.parameters() if p.requires_grad)
    net().backward()
    del module.forward
    if compiled:
        module.forward = compiled
    net.zero_grad(set_to_none=True)
