"""`mvmic info`: what a file says about itself, without decoding it; and the model that ships."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from mvmic_codec import rate
from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.header import GRAY_RGB, MIN_IS_BLACK, MIN_IS_WHITE, RGB
from mvmic_codec.cli import batch, files
from mvmic_codec.cli.plan import path_of
from mvmic_codec.errors import ModelError

_PHOTOMETRIC = {
    MIN_IS_BLACK: "smallest value is black",
    MIN_IS_WHITE: "smallest value is white",
    RGB: "RGB",
    GRAY_RGB: "RGB with equal channels, coded as gray",
}


@click.command("info")
@click.argument("inputs", nargs=-1, type=click.Path(readable=False))
@click.option("--model", "show_models", is_flag=True, help="Describe the models that ship.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects as JSON.")
def command(inputs: tuple[str, ...], show_models: bool, as_json: bool) -> None:
    """Say what .mvm files hold: size, depth, rate, model, metadata. No pixels are decoded.

    "-" is standard input. Exit codes: 0 all done, 1 a file failed, 2 wrong usage, 130 interrupted,
    143 terminated.
    """
    if show_models == bool(inputs):
        raise click.UsageError("give either .mvm files or --model")
    described, failed = [], False
    if show_models:
        try:
            described = _models()
        except batch.KNOWN_ERRORS as error:
            raise batch.stop(error) from error
    # Headers take no time: no progress bar, whose import would take longer than they do.
    for path in map(path_of, inputs):
        try:
            described.append(_file(path))
        except batch.KNOWN_ERRORS as error:
            batch.complain(path, batch.sentence(error))
            failed = True
    if as_json:
        batch.say(json.dumps(described, indent=1))
    elif described:
        batch.say("\n\n".join(_as_text(fields) for fields in described))
    if failed:
        raise click.exceptions.Exit(1)


def _file(path: Path) -> dict[str, Any]:
    with files.reading(path) as file:
        reader = container.Reader(file)
        sizes = reader.sizes()
        size = file.seek(0, os.SEEK_END)
    header, chunks = reader.header, reader.metadata
    return {
        "file": str(path),
        "bytes": size,
        "bpp": round(8 * size / (header.frames * header.width * header.height), 5),
        "width": header.width,
        "height": header.height,
        "frames": header.frames,
        "tile": header.tile,
        "mode": header.mode,
        "channels": header.channels,
        "bits": header.bits,
        "signed": header.signed,
        "photometric": _PHOTOMETRIC[header.photometric],
        "range": [header.lo, header.hi],
        "rate_index": header.rate_index,
        "quality": round(rate.quality_of(header.rate_index), 2),
        "model": header.model,
        "fingerprint": header.fingerprint.hex(),
        "container_version": header.version,
        "layers": {kind.decode("ascii"): length for kind, length in sizes.items()},
        "metadata": {kind.decode("ascii"): len(payload) for kind, payload in chunks.items()},
    }


def _models() -> list[dict[str, Any]]:
    from mvmic_codec.model import identity

    cards = [identity.read_card(path) for path in sorted(identity.WEIGHTS.glob("*.json"))]
    if not cards:
        raise ModelError("this installation holds no model; install mvmic_codec again")
    encodes = {identity.GRAY_MODEL: "gray images", identity.COLOUR_MODEL: "colour images"}
    return [
        {
            "name": card.name,
            "fingerprint": card.fingerprint,
            "rates": rate.RATES,
            "parameters": card.parameters,
            "decode_kmac_per_pixel": card.decode_kmac,
            "encode_kmac_per_pixel": card.encode_kmac,
            "encodes": encodes.get(card.name, "nothing"),
            "notes": card.notes,
        }
        for card in cards
    ]


def _as_text(fields: dict[str, Any]) -> str:
    width = max(len(name) for name in fields)
    return "\n".join(
        f"{name.replace('_', ' '):{width}}  {_value(value)}" for name, value in fields.items()
    )


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} ({size} bytes)" for name, size in value.items()) or "none"
    if isinstance(value, list):
        return " to ".join(str(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return files.shown(value)
