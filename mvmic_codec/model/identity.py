"""Which models are installed. Read from the cards weights/*.json, without torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from mvmic_codec import __version__
from mvmic_codec.errors import ModelError

WEIGHTS = Path(__file__).parent / "weights"
# Every model ever released: its name, its fingerprint and the versions that read its files.
RELEASED = Path(__file__).with_name("released.json")
# Generation of the models that encode, 1 to 255. Files hold it, and `container.Header.model` makes
# the same names of it.
GENERATION = 2
# Gray images have their own model.
GRAY_MODEL = f"mvmic-{GENERATION}g"
COLOUR_MODEL = f"mvmic-{GENERATION}c"


@dataclass(frozen=True)
class Identity:
    """The card of a model. `shape` holds the fields of `mvmic_codec.model.shape.Shape`."""

    name: str
    fingerprint: str  # 16 hexadecimal digits
    shape: dict[str, int | bool]
    parameters: int
    decode_kmac: float  # thousand multiply-adds for each pixel
    encode_kmac: float
    notes: str

    def to_json(self) -> str:
        """The text of the card, as in NAME.json."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Identity:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Released:
    """A model that was released. `versions` of mvmic_codec read its files, the oldest first."""

    name: str
    fingerprint: str  # 16 hexadecimal digits
    versions: list[str]


def released_models() -> list[Released]:
    """Every model ever released, the oldest first. Raises ModelError if the table is damaged."""
    try:
        return [Released(**row) for row in json.loads(RELEASED.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"the table {RELEASED.name} is missing or damaged: install mvmic_codec again"
        ) from error


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
    """The card of the model that encodes gray or colour images. ModelError if it is missing."""
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
    """Card and weights file of the installed model with this 8-byte fingerprint.

    Raises ModelError if none has it; the message says which version reads the file.
    """
    for card in sorted(WEIGHTS.glob("*.json")):
        identity = read_card(card)
        if identity.fingerprint == fingerprint.hex():
            return identity, card.with_suffix(".safetensors")
    raise ModelError(f"the file was written with {missing_model(fingerprint.hex())}")


def missing_model(fingerprint: str) -> str:
    """The name of a model that is not installed and what to do, as the end of a sentence."""
    for model in released_models():
        if model.fingerprint == fingerprint:
            if __version__ in model.versions:
                return f"model {model.name}, which is missing here: install mvmic_codec again"
            first, last = model.versions[0], model.versions[-1]
            several = "" if first == last else f" to {last}"
            return (
                f"model {model.name} of mvmic_codec {first}{several}; "
                f"`pip install mvmic_codec=={last}` reads it"
            )
    return (
        f"a model of fingerprint {fingerprint}, which mvmic_codec {__version__} does not know: "
        "update mvmic_codec, or ask whoever wrote the file for its model"
    )
