"""Write the two files of a model, weights and card, from a trained model or with fitted arrays."""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from mvmic_codec.model.complexity import decode_macs, encode_macs
from mvmic_codec.model.identity import Identity, read_card
from mvmic_codec.model.integerise import integerise
from mvmic_codec.model.loaded import ENTROPY, TRANSFORMS, fingerprint
from mvmic_codec.model.model import Model


def export(model: Model, folder: Path, name: str, notes: str) -> Identity:
    """Write FOLDER/NAME.safetensors and NAME.json from a trained model. Returns its identity."""
    model = deepcopy(model).cpu()
    arrays = {
        key: value.detach().half().contiguous()
        for key, value in model.state_dict().items()
        if key.startswith(TRANSFORMS)
    }
    arrays |= {ENTROPY + k: v.contiguous() for k, v in integerise(model.entropy).items()}
    identity = Identity(
        name=name,
        fingerprint=fingerprint(arrays, model.config()).hex(),
        shape=model.config(),
        parameters=sum(p.numel() for p in model.parameters()),
        decode_kmac=round(decode_macs(model.shape) / 1000, 2),
        encode_kmac=round(encode_macs(model.shape) / 1000, 2),
        notes=notes,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write(arrays, identity, folder)
    return identity


def write(arrays: dict[str, Tensor], identity: Identity, folder: Path) -> None:
    """Write FOLDER/NAME.safetensors, then NAME.json. Neither is ever there half-written."""
    weights, card = (folder / f"{identity.name}.{kind}" for kind in ("safetensors", "json"))
    part = folder / f".{identity.name}.part"
    try:
        save_file(arrays, part, {"identity": identity.to_json()})
        part.chmod(0o644)
        os.replace(part, weights)
        part.write_text(identity.to_json() + "\n", encoding="utf-8")
        os.replace(part, card)
    finally:
        part.unlink(missing_ok=True)


def replace_arrays(weights: Path, fitted: dict[str, Tensor]) -> Identity:
    """Replace arrays of the entropy model in NAME.safetensors, and write its card anew.

    Names are those of formats/model.md, without the prefix `entropy.`. Returns the new identity.
    """
    arrays = load_file(weights)
    arrays |= {ENTROPY + name: array for name, array in fitted.items()}
    old = read_card(weights.with_suffix(".json"))
    identity = replace(old, fingerprint=fingerprint(arrays, old.shape).hex())
    write(arrays, identity, weights.parent)
    return identity
