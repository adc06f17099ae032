"""`--drop`: metadata to leave out, by kind."""

from __future__ import annotations

import click

# Kinds of metadata, by what Pillow's `info` and `api.encode` call them.
KEYS = {"exif": "exif", "icc": "icc_profile", "xmp": "xmp", "dpi": "dpi", "text": "text"}
_ALL = "all"


def _kinds(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> frozenset[str]:
    return frozenset(KEYS if _ALL in given else given)


drop = click.option(
    "--drop",
    "dropped",
    multiple=True,
    type=click.Choice([*KEYS, _ALL]),
    callback=_kinds,
    help="Metadata to leave out; may be given several times. exif holds the orientation, icc is "
    "the colour profile.",
)
