"""Where the networks run, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mvmic_codec import forks
from mvmic_codec.errors import InputError, MvmError


def pick_device(device: str | None) -> str:
    """The given device, by its name in torch. None means CUDA if it works here, else the CPU.

    In a forked process torch has one thread from here on; see `forks`. Such a process cannot use
    CUDA if its parent has used it.

    Raises InputError for a device that this machine does not have.
    """
    forks.limit_threads()
    if device is None:
        if not torch.cuda.is_available():
            return "cpu"
        return "cuda" if not forks.was_forked() or device_error("cuda") is None else "cpu"
    error = device_error(device)
    if error is None:
        return str(device)
    if "fork" in str(error):
        raise InputError(
            f"a forked process cannot use {device!r} after its parent did; give device='cpu', or "
            "start processes with the method 'spawn'"
        ) from error
    raise InputError(
        f"there is no device {device!r} here; give cpu, or cuda on a machine that has it"
    ) from error


def device_error(device: str) -> Exception | None:
    """The error that torch raises for a device, or None if the device works."""
    try:
        # Exact evaluation needs float64 on the device, and results come back to the CPU.
        torch.zeros(1, dtype=torch.float64, device=device).cpu()
    # torch raises many classes for this: RuntimeError, AssertionError, AcceleratorError, ...
    except Exception as error:
        return error
    return None


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Within it networks run in single precision, whatever the caller's autocast or TF32 says.

    Tensors made here can take part in gradients, even if the caller is in inference mode.

    Raises MemoryError in place of torch's RuntimeError for too little memory. Raises MvmError for
    gradients in a process that was forked after CUDA had been used.
    """
    try:
        with (
            # In this order: leaving inference mode turns gradients on.
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):
            yield
    except RuntimeError as error:
        if "out of memory" in str(error) or "allocate memory" in str(error):
            raise MemoryError(str(error)) from error
        if "fork" in str(error):
            raise MvmError(
                "this process was forked from one that had used CUDA, and torch can make no "
                "gradients in it; give effort=1, or start processes with the method 'spawn'"
            ) from error
        raise


def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16, and torch knows and uses it."""
    # Older versions of torch do not say.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    has = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return has and torch.backends.mkldnn.is_available()
