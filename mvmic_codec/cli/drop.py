"""`--drop`: metadata to leave out, by kind."""

from __future__ import annotations

import click

from mvmic_codec.image.metadata import KINDS

_NAMES = {kind.option: kind.name for kind in KINDS}
_ALL = "all"


def _kinds(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> frozenset[str]:
    """The names in `info` of the kinds to leave out."""
    return frozenset(_NAMES[option] for option in (_NAMES if _ALL in given else given))


drop = click.option(
    "--drop",
    "dropped",
    multiple=True,
    type=click.Choice([*_NAMES, _ALL]),
    callback=_kinds,
    help="Metadata to leave out; may be given several times. exif holds the orientation, icc is "
    "the colour profile.",
)
