"""NAME.encoder.safetensors: what only an encoder needs of a released model.

No file depends on it, and the fingerprint of the model does not cover it: a better encoder of the
same model may take its place. It holds analysis and hyper-analysis in float16, and under `units.`
what an integer of synthesis stands for; see `integerise_synthesis`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mvmic_codec.errors import ModelError
from mvmic_codec.model.arrays import fingerprint

UNITS = "units."
# The networks, by the prefixes of their arrays.
NETWORKS = ("analysis.", "hyper_analysis.")


def path_of(weights: Path) -> Path:
    """The encoder's file beside NAME.safetensors."""
    return weights.with_name(f"{weights.stem}.encoder.safetensors")


def write(weights: Path, model: str, arrays: Mapping[str, Tensor]) -> None:
    """Write the file beside NAME.safetensors, for the model of this fingerprint, in hexadecimal."""
    metadata = {"model": model, "digest": digest(arrays)}
    part = weights.with_name(f".{weights.stem}.encoder.part")
    try:
        save_file(dict(arrays), part, metadata)
        part.chmod(0o644)
        os.replace(part, path_of(weights))
    finally:
        part.unlink(missing_ok=True)


def read(weights: Path, model: str) -> dict[str, Tensor]:
    """The arrays of the file beside NAME.safetensors, whose fingerprint is `model`.

    Raises ModelError if it is missing, damaged, or of another model.
    """
    path = path_of(weights)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the encoder in {path.name} cannot be read: {error}") from error
    if metadata.get("digest") != digest(arrays):
        raise ModelError(f"the encoder in {path.name} is damaged: install mvmic_codec again")
    if metadata.get("model") != model:
        raise ModelError(
            f"the encoder in {path.name} is not of the model beside it: install mvmic_codec again"
        )
    for name, array in arrays.items():
        kind = torch.float32 if name.startswith(UNITS) else torch.float16
        if array.dtype != kind:
            raise ModelError(f"the encoder's array {name} is {array.dtype}, not {kind}")
    return arrays


def digest(arrays: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits over all arrays."""
    return fingerprint(arrays, {}).hex()
