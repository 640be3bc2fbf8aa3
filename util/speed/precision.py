"""Which precision a device computes fast in, and in which one training is sound."""

from __future__ import annotations

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def best_precision(opt, device: torch.device) -> tuple[str, str]:
    """Return the fastest precision in which training on a device is sound, and the reason."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return "bf16", "this GPU has bfloat16 units"
        if major < 7:
            return "fp32", f"a GPU of compute capability {major}.{minor} has nothing faster"
        obstacle = why_not_fp16(opt)
        return ("fp32", obstacle) if obstacle else ("fp16", "this GPU has float16 units, and none for bfloat16")
    if device.type == "cpu":
        if cpu_computes_in_bf16():
            return "bf16", "this CPU has bfloat16 instructions"
        return "fp32", "no bfloat16 instructions here"
    return "fp32", "nothing faster is known for this device"


def cpu_computes_in_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16; other CPUs are slower in it than in float32."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name)() for name in names if hasattr(torch.cpu, name))


def why_slow(precision: str, device: torch.device) -> list[str]:
    """Say that this device emulates a precision, which is slower than float32; empty if it does not."""
    slow = {
        ("cpu", "bf16"): not cpu_computes_in_bf16(),
        ("cpu", "fp16"): True,
        ("cuda", "bf16"): device.type == "cuda" and torch.cuda.get_device_capability(device)[0] < 8,
    }
    if not slow.get((device.type, precision)):
        return []
    return [f"--precision {precision} is slower than fp32 here: this device has no units for it"]


def why_not_fp16(opt) -> str:
    """Say why gradients can't be scaled as float16 needs it; empty if they can."""
    if opt.isTrain and opt.gan_mode == "wgangp":
        return "--gan_mode wgangp differentiates twice, and float16's scale does not survive that"
    if opt.isTrain and opt.grad_accum > 1:
        return "float16's scale may change between the batches of --grad_accum"
    return ""
