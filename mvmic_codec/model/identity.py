"""Which models are installed, known without torch: weights/*.json beside each weights file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from mvmic_codec.errors import ModelError

WEIGHTS = Path(__file__).parent / "weights"
# Of the models that encode, 1 to 255; files hold it, and `container.Header.model` names them alike.
GENERATION = 1
# Gray images have a model of their own.
GRAY_MODEL = f"mvmic-{GENERATION}g"
COLOUR_MODEL = f"mvmic-{GENERATION}c"


@dataclass(frozen=True)
class Identity:
    """A released model's card: `shape` holds the fields of nets.model.Shape."""

    name: str
    fingerprint: str  # 16 hexadecimal digits
    shape: dict[str, int | bool]
    parameters: int
    decode_kmac: float  # thousand multiply-adds for each pixel
    encode_kmac: float
    notes: str

    def to_json(self) -> str:
        """The card as it stands in NAME.json."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Identity:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


def read_card(path: Path) -> Identity:
    """The identity in a card. Raises ModelError if it is damaged."""
    try:
        return Identity.from_json(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"the model card {path.name} is damaged: install mvmic_codec again"
        ) from error


@lru_cache(maxsize=2)
def default_identity(gray: bool) -> Identity:
    """Card of the model that encodes gray or colour images. Raises ModelError if it is missing."""
    name = GRAY_MODEL if gray else COLOUR_MODEL
    card = WEIGHTS / f"{name}.json"
    if not card.is_file():
        raise ModelError(f"this installation holds no model {name}: install mvmic_codec again")
    return read_card(card)


def model_identity(gray: bool) -> tuple[str, bytes]:
    """Name and 8-byte fingerprint of the model that encodes gray or colour images."""
    identity = default_identity(gray)
    return identity.name, bytes.fromhex(identity.fingerprint)


def find_identity(fingerprint: bytes) -> tuple[Identity, Path]:
    """Card and weights file of an installed model. Raises ModelError if there is none."""
    for card in sorted(WEIGHTS.glob("*.json")):
        identity = read_card(card)
        if identity.fingerprint == fingerprint.hex():
            return identity, card.with_suffix(".safetensors")
    raise ModelError(
        f"the file was written with a model of fingerprint {fingerprint.hex()}, which this "
        "installation does not have: install the version of mvmic_codec that wrote it"
    )
