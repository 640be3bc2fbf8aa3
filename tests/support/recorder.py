"""A stand-in for a CUDA graph on the CPU: it records operations on tensors, and repeats them on the same memory."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Operations(TorchDispatchMode):
    """Note down every operation on tensors, and what the tensors written to held before."""

    def __init__(self):
        super().__init__()
        self.list, self.before, self.made, self.taken = [], {}, set(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("the device was waited for, which a recording can't do")
        for argument, value in zip(func._schema.arguments, args, strict=False):
            written = argument.alias_info is not None and argument.alias_info.is_write
            if (written or argument.name in ("running_mean", "running_var")) and value is not None:
                for tensor in value if isinstance(value, (list, tuple)) else [value]:
                    if tensor.untyped_storage().data_ptr() not in self.made:
                        self.before.setdefault(id(tensor), (tensor, tensor.clone()))
        inputs = {tensor.untyped_storage().data_ptr() for tensor in tensors_in((args, kwargs))}
        self.taken |= {t.untyped_storage().data_ptr() for t in tensors_in((args, kwargs)) if t.numel()} - self.made
        out = func(*args, **kwargs)
        new = [t for t in tensors_in(out) if t.untyped_storage().data_ptr() not in inputs]
        self.made |= {t.untyped_storage().data_ptr() for t in new}
        self.list.append((func, args, kwargs, out if new else None))
        return out


def tensors_in(tree):
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Recorder:
    """As a CUDA graph does, repeat operations on the same memory, and know nothing of what Python did between them."""

    records = 0

    def record(self, step):
        self.records += 1
        seen = Operations()
        with torch.random.fork_rng():
            try:
                with seen:
                    step()
            finally:
                with torch.no_grad():
                    for tensor, value in seen.before.values():
                        tensor.copy_(value)  # a recording executes nothing
        self.operations, self.taken = seen.list, seen.taken

    def replay(self):
        with torch.no_grad():
            for func, args, kwargs, out in self.operations:
                again = func(*args, **kwargs)
                if out is not None:
                    for old, new in zip(tensors_in(out), tensors_in(again), strict=True):
                        old.copy_(new)

    def warm_up(self, step):
        step()
