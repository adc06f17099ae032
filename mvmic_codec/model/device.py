"""Where the networks run, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mvmic_codec.errors import InputError


def pick_device(device: str | None) -> str:
    """The device asked for, else CUDA where there is one, else the CPU.

    Raises InputError for a device that is not there.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # The exact path needs float64 there, and a way back.
        torch.zeros(1, dtype=torch.float64, device=device).cpu()
    # torch has many classes of errors for this: RuntimeError, AssertionError, AcceleratorError ...
    except Exception as error:
        raise InputError(
            f"there is no device {device!r} here; give cpu, or cuda on a machine that has it"
        ) from error
    return str(device)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Networks in single precision, whatever the caller's autocast or TF32 says.

    `LoadedModel.bfloat16_autocast` makes exceptions. Tensors made here can take part in gradients,
    in the caller's inference mode too.

    Raises MemoryError where torch has a RuntimeError of its own for that.
    """
    try:
        with (
            # Inside out: to leave inference mode turns gradients on.
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):
            yield
    except RuntimeError as error:
        if "out of memory" in str(error) or "allocate memory" in str(error):
            raise MemoryError(str(error)) from error
        raise
