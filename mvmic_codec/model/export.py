"""Write the files of a model, weights and card, from a trained model or with fitted arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from mvmic_codec.model import encoder_file
from mvmic_codec.model.arrays import ENTROPY, SYNTHESIS, fingerprint
from mvmic_codec.model.calibrate import ranges_of
from mvmic_codec.model.complexity import decode_macs, encode_macs
from mvmic_codec.model.identity import Identity, read_card
from mvmic_codec.model.integerise import integerise
from mvmic_codec.model.integerise_synthesis import integerise_synthesis
from mvmic_codec.model.model import Model


def export(model: Model, folder: Path, name: str, notes: str, crops: Iterable[Tensor]) -> Identity:
    """Write the files of a trained model. Returns its identity.

    FOLDER/NAME.safetensors is for decoders, FOLDER/NAME.encoder.safetensors for encoders alone, and
    FOLDER/NAME.json is the card. crops [P,S,S] in 0..1 show how large numbers become; see
    `calibrate`.

    Raises ValueError if the model is not fit for integers.
    """
    model = deepcopy(model).cpu().eval()
    synthesis, units = integerise_synthesis(model.synthesis, model.blocks, ranges_of(model, crops))
    arrays = {SYNTHESIS + k: v for k, v in synthesis.items()}
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
    of_encoder = {
        key: value.detach().half().contiguous()
        for key, value in model.state_dict().items()
        if key.startswith(encoder_file.NETWORKS)
    }
    of_encoder |= {encoder_file.UNITS + k: v.detach().float() for k, v in units.items()}
    encoder_file.write(folder / f"{name}.safetensors", identity.fingerprint, of_encoder)
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
    of_encoder = encoder_file.read(weights, old.fingerprint)
    write(arrays, identity, weights.parent)
    encoder_file.write(weights, identity.fingerprint, of_encoder)
    return identity
