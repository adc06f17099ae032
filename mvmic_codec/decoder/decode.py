"""The payload of a DATA chunk -> the latent and the modes of an image or of one of its tiles."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import ans
from mvmic_codec.bitstream.grid import ALONE, Sides, coded_sites, hyper_size
from mvmic_codec.bitstream.header import RGB, Header
from mvmic_codec.bitstream.symbols import Unpacker
from mvmic_codec.decoder.reconstruct import Levels
from mvmic_codec.errors import FormatError
from mvmic_codec.image.samples import array_type
from mvmic_codec.model.decoding import DecodingModel, load
from mvmic_codec.model.schedule import NextSymbols
from mvmic_codec.model.shape import Shape

Hidden = npt.NDArray[np.bool_]
# Arrays of numpy for one image, or tensors of torch with an axis for images in front.
Latent = TypeVar("Latent")


class SymbolDecoder(Protocol[Latent]):
    """An entropy model, as `NativeEntropy` is one in numpy and `IntegerEntropy` in torch."""

    def decode_hyper(self, rate: int, size: tuple[int, int], next_symbols: NextSymbols) -> Latent:
        """As `NativeEntropy.decode_hyper`."""

    def decode(
        self, z: Latent, rate: int, inside: npt.NDArray[np.bool_], next_symbols: NextSymbols
    ) -> tuple[Latent, Latent]:
        """As `NativeEntropy.decode`."""


class SymbolModel(Protocol[Latent]):
    """What decoding symbols needs of a model, as `DecodingModel` and `LoadedModel` have it."""

    @property
    def entropy(self) -> SymbolDecoder[Latent]:
        """The entropy model."""

    @property
    def tables(self) -> ans.Tables:
        """The frequency tables."""


def levels_of(header: Header) -> Levels:
    """What the samples of a file are."""
    return Levels(header.lo, header.hi, array_type(header.bits, header.signed))


def check_start(payload: bytes, header: Header) -> None:
    """Raise FormatError or one of its kinds if the payload lacks the first symbols of the image.

    The header is that of an image of the tile's size. Those symbols are half of the hyper-latent. A
    few bytes can claim an image of any size. This check costs next to nothing, and belongs before
    any work whose time grows with the image.
    """
    model = model_of_file(header)
    size = hyper_size((header.height, header.width))
    first = model.entropy.anchor_hyper(header.rate_index, *size)
    Unpacker(payload, model.tables).next(first.ravel())


def model_of_file(header: Header) -> DecodingModel:
    """The model that the header names.

    Raises ModelError if it is not installed, and FormatError if it is for the other kind of image,
    gray or colour.
    """
    model = load(header.fingerprint)
    check_kind(model.shape, header)
    return model


def check_kind(shape: Shape, header: Header) -> None:
    """Raise FormatError if a model of this shape is for the other kind of image."""
    planes = planes_of(header)
    if shape.planes != planes:
        kinds = {1: "gray", 3: "colour"}
        raise FormatError(
            f"the file is damaged: its image is {kinds[planes]}, but the model that it names is "
            f"for {kinds[shape.planes]} images"
        )


def planes_of(header: Header) -> int:
    """How many planes are coded: 3 for RGB, 1 for gray and for RGB with equal channels."""
    return 3 if header.photometric == RGB else 1


def decode_symbols(
    model: SymbolModel[Latent],
    payload: bytes,
    rate: int,
    size: tuple[int, int],
    hidden: Hidden | None = None,
    sides: Sides = ALONE,
) -> tuple[Latent, Latent]:
    """Decode the latent, int16 [h,w,C] in eighths on the 255 scale, and the modes, uint8 [h,w].

    Both are at 1/16 of the padded image. A model in torch gives tensors [1,h,w,C] and [1,h,w] on
    its device. size is (H,W) of the image or of the tile that the payload is for. hidden [H,W] is
    True where flat areas hide it, and sides says where it borders on other tiles, as when it was
    encoded.

    Raises FormatError or one of its kinds for a damaged payload.
    """
    unpacker = Unpacker(payload, model.tables)
    # First of all: a few bytes can claim an image of any size, and do not hold its z.
    z = model.entropy.decode_hyper(rate, hyper_size(size), unpacker.next)
    latent, modes = model.entropy.decode(z, rate, coded_sites(size, hidden, sides), unpacker.next)
    unpacker.finish()
    return latent, modes
