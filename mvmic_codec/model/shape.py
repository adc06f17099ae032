"""The sizes of a model, as its card holds them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from mvmic_codec.model.definition import AREA
from mvmic_codec.model.identity import Identity


@dataclass(frozen=True)
class Shape:
    """The sizes of a model. Its card holds these fields, and its fingerprint covers them.

    chroma       channels of y for chroma; 0 makes a model for gray images
    near_luma    channels of y for low frequencies of luma, which linear prediction uses
    near_chroma  the same for chroma
    hyper        channels of z
    width8       channels of the transforms at 1/8; width16 and width2 at 1/16 and at 1/2, the last
                 in synthesis alone
    blocks8      residual blocks at 1/8; blocks16 at 1/16
    context      channels of the context networks
    rotate       whether the order of sites changes with the channel

    y has these channels, in order: near_luma, near_chroma, the other luma (256 in all), the other
    chroma.
    """

    chroma: int = 160
    near_luma: int = 48
    near_chroma: int = 16
    hyper: int = 32
    width8: int = 96
    blocks8: int = 3
    width16: int = 192
    blocks16: int = 2
    width2: int = 32
    context: int = 128
    rotate: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError for numbers of channels that do not fit together."""
        if not (0 < self.near_luma <= AREA and 0 <= self.near_chroma <= self.chroma <= 2 * AREA):
            raise ValueError(
                f"of {AREA} channels of luma and {self.chroma} of chroma {self.near_luma} and "
                f"{self.near_chroma} cannot be near; a model for gray images has no chroma at all"
            )

    @property
    def planes(self) -> int:
        """Planes of an image: 3, or 1 in a model for gray images."""
        return 3 if self.chroma else 1

    @property
    def latent(self) -> int:
        """Channels of y."""
        return AREA + self.chroma

    @property
    def near(self) -> int:
        """Low-frequency channels of y, which take part in linear prediction."""
        return self.near_luma + self.near_chroma

    def is_luma(self) -> npt.NDArray[np.bool_]:
        """Which channels of y are luma: [C]."""
        luma = np.ones(self.latent, np.bool_)
        luma[self.near_luma : self.near] = False
        luma[self.latent - (self.chroma - self.near_chroma) :] = False
        return luma


def shape_of(identity: Identity) -> Shape:
    """The shape in a card. Raises TypeError or ValueError for fields that are wrong or missing."""
    missing = {field.name for field in fields(Shape)} - identity.shape.keys()
    if missing:
        raise ValueError(f"its shape lacks {', '.join(sorted(missing))}")
    return Shape(**identity.shape)  # type: ignore[arg-type]
