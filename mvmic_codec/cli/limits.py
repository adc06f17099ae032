"""`--max-pixels`: how large an image a command takes, which is Pillow's own limit otherwise."""

from __future__ import annotations

import click


def _set_limit(context: click.Context, parameter: click.Parameter, pixels: int | None) -> None:
    if pixels is not None:
        from PIL import Image

        # Pillow warns above its figure and refuses above twice that.
        Image.MAX_IMAGE_PIXELS = -(-pixels // 2)


max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    expose_value=False,
    callback=_set_limit,
    help="Refuse larger images: a guard against small files that claim to be huge.  "
    "[default: 178956970]",
)
