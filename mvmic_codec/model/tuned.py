"""A tuned encoder as a file: analysis and hyper-analysis for one model, whose decoder stays.

What an encoder does with an image is free, so that every decoder of that model reads its files. The
file is safetensors. It holds the model's arrays `analysis.*` and `hyper_analysis.*` in float16, as
a model's own file does. Its metadata holds `card`, the fields of `EncoderCard` as JSON, and
`digest`, a SHA-256 over that JSON and all arrays.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mvmic_codec.errors import InputError, ModelError
from mvmic_codec.model.arrays import fingerprint
from mvmic_codec.model.encoder_file import NETWORKS
from mvmic_codec.model.identity import default_identity
from mvmic_codec.model.loaded import LoadedModel, load
from mvmic_codec.model.model import Model


@dataclass(frozen=True)
class EncoderCard:
    """What an encoder belongs to, and what it was tuned on.

    fingerprint  16 hexadecimal digits: the model whose decoder reads its files
    lambda2      what the loss of the task counts; 0 for a control that was tuned without it
    rates        lowest and highest rate index that it was tuned at
    data         what it was tuned on
    licence      what its training data allows
    notes        how it was tuned
    head         `tasks.heads.digest` of the head that it was tuned with; "" where that is not known
    """

    fingerprint: str
    lambda2: float
    rates: list[int]
    data: str
    licence: str
    notes: str
    head: str = ""


@dataclass(frozen=True)
class TunedEncoder:
    """The file of an encoder, read.

    arrays  float16, by their names in a model's file
    digest  that the file carries; see `digest`
    """

    name: str
    card: EncoderCard
    arrays: dict[str, Tensor]
    digest: str

    def model(self, model_fingerprint: bytes, device: str) -> LoadedModel:
        """The released model with this 8-byte fingerprint, but for the encoder.

        Raises InputError if the encoder is of another model, and ModelError if it is of another
        shape.
        """
        if model_fingerprint.hex() != self.card.fingerprint:
            raise InputError(self._other_model(model_fingerprint.hex()))
        model = load(model_fingerprint, device)
        # The released networks are shared.
        with torch.inference_mode(False):
            analysis, hyper_analysis = deepcopy(model.analysis), deepcopy(model.hyper_analysis)
            for prefix, net in zip(NETWORKS, (analysis, hyper_analysis), strict=True):
                part = {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}
                try:
                    net.load_state_dict(part)
                except RuntimeError as error:
                    raise ModelError(
                        f"the encoder {self.name} does not fit its model: get it again"
                    ) from error
        return replace(model, analysis=analysis, hyper_analysis=hyper_analysis)

    def check_rate(self, rate: int) -> None:
        """Warn of a rate index that the encoder was not tuned at."""
        low, high = self.card.rates
        if not low <= rate <= high:
            warnings.warn(
                f"the encoder {self.name} was tuned at rate indices {low} to {high}, and may do "
                f"badly at {rate}",
                stacklevel=3,
            )

    def _other_model(self, got: str) -> str:
        kinds = {default_identity(gray).fingerprint: gray for gray in (True, False)}
        if self.card.fingerprint in kinds and got in kinds:
            wanted, given = (
                "gray" if kinds[each] else "colour" for each in (self.card.fingerprint, got)
            )
            return (
                f"the encoder {self.name} takes {wanted} images, and this one is {given}: use an "
                f"encoder for {given} images"
            )
        return (
            f"the encoder {self.name} is for model {self.card.fingerprint}, and this version of "
            f"mvmic_codec encodes with model {got}: use an encoder that was tuned for it"
        )


def save_encoder(model: Model, card: EncoderCard, path: Path) -> None:
    """Write the encoder of a model in training, whole or not at all."""
    arrays = {
        key: value.detach().cpu().half().contiguous()
        for key, value in model.state_dict().items()
        if key.startswith(NETWORKS)
    }
    text = json.dumps(asdict(card))
    part = path.with_name(f".{path.name}.part")
    try:
        save_file(arrays, part, {"card": text, "digest": digest(text, arrays)})
        part.chmod(0o644)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_encoder(path: str | os.PathLike[str]) -> TunedEncoder:
    """Read an encoder.

    Raises InputError if there is no such file, and ModelError if it is damaged or no encoder.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no encoder {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is not an encoder, or is damaged: get it again") from error
    # Heads have cards, too.
    if "card" not in metadata or not all(name.startswith(NETWORKS) for name in arrays):
        raise ModelError(
            f"{path} is not an encoder: give a file that `mvmic train --encoder` wrote"
        )
    if not all(array.isfinite().all() for array in arrays.values()):
        raise ModelError(f"the encoder {path} has weights that are no numbers: train it again")
    text = metadata["card"]
    if metadata.get("digest") != digest(text, arrays):
        raise ModelError(f"the encoder {path} is damaged: get it again")
    try:
        card = EncoderCard(**json.loads(text))
        if len(card.rates) != 2:
            raise ValueError("a band has two ends")
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"the encoder {path} is not one that this version of mvmic_codec knows: update "
            "mvmic_codec"
        ) from error
    return TunedEncoder(path.name, card, arrays, metadata["digest"])


def digest(card: str, arrays: dict[str, Tensor]) -> str:
    """64 hexadecimal digits that tell an encoder from any other."""
    return hashlib.sha256(card.encode() + fingerprint(arrays, {})).hexdigest()
