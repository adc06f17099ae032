"""The payload of a DATA chunk -> the latent and the modes, and by synthesis samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import ans
from mvmic_codec.bitstream.container import RGB, Header
from mvmic_codec.bitstream.grid import coded_sites, hyper_size
from mvmic_codec.bitstream.symbols import Unpacker
from mvmic_codec.decoder.reconstruct import EmitMapPart, EmitPart, Levels, reconstruct_parts
from mvmic_codec.decoder.stripes import PLANES
from mvmic_codec.errors import FormatError, needs_torch
from mvmic_codec.image.samples import array_type
from mvmic_codec.model.decoding import DecodingModel, load
from mvmic_codec.model.schedule import NextSymbols
from mvmic_codec.model.shape import Shape
from mvmic_codec.model.team import Team

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


def decode_parts(
    payload: bytes,
    header: Header,
    emit: EmitPart,
    *,
    hidden: Hidden | None = None,
    device: str | None = None,
    emit_map: EmitMapPart | None = None,
    until: str = PLANES,
) -> None:
    """Decode the samples of an image, and pass them to `emit` part by part.

    A whole image at once may take too much memory. A part has 3 channels if the header's
    photometric is RGB, else 1. hidden [H,W] is True where flat areas hide the image, as when it was
    encoded. device is "cpu", where C does everything, or a device of torch; None is "cpu". Samples
    are the same on all. emit_map and until are those of `reconstruct.reconstruct_parts`.

    Raises ModelError for a model that is not installed. Raises FormatError or one of its kinds for
    a damaged payload, and if the model is for the other kind of image, gray or colour. Raises
    InputError for a device that this machine does not have, and MvmError for one of torch if torch
    is not installed.
    """
    if device not in (None, "cpu"):
        assert device is not None
        with needs_torch(f"decoding on {device!r}"):
            from mvmic_codec.decoder import on_device
        on_device.decode_parts(
            payload, header, emit, device, hidden=hidden, emit_map=emit_map, until=until
        )
        return
    model = model_of_file(header)
    size, rate = (header.height, header.width), header.rate_index
    with Team() as team:
        model = replace(model, entropy=model.entropy.in_team(team))
        latent, modes = decode_symbols(model, payload, rate, size, hidden)
        reconstruct_parts(
            model.synthesis,
            latent,
            modes,
            rate,
            size,
            levels_of(header),
            emit,
            emit_map=emit_map,
            until=until,
            team=team,
        )


def levels_of(header: Header) -> Levels:
    """What the samples of a file are."""
    return Levels(header.lo, header.hi, array_type(header.bits, header.signed))


def check_start(payload: bytes, header: Header) -> None:
    """Raise FormatError or one of its kinds if the payload lacks the first symbols of the image.

    Those are half of the hyper-latent. A few bytes can claim an image of any size. This check costs
    next to nothing, and belongs before any work whose time grows with the image.
    """
    model = model_of_file(header)
    size = hyper_size((header.height, header.width))
    first = model.entropy.anchor_hyper(header.rate_index, *size)
    Unpacker(payload, model.tables).next(first.ravel())


def model_of_file(header: Header) -> DecodingModel:
    """The model that the header names. Errors as `decode_parts`."""
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
) -> tuple[Latent, Latent]:
    """Decode the latent, int16 [h,w,C] in eighths on the 255 scale, and the modes, uint8 [h,w].

    Both are at 1/16 of the padded image. A model in torch gives tensors [1,h,w,C] and [1,h,w] on
    its device. size is the image's (H,W), hidden as for `decode_parts`. Raises FormatError or one
    of its kinds.
    """
    unpacker = Unpacker(payload, model.tables)
    # First of all: a few bytes can claim an image of any size, and do not hold its z.
    z = model.entropy.decode_hyper(rate, hyper_size(size), unpacker.next)
    latent, modes = model.entropy.decode(z, rate, coded_sites(size, hidden), unpacker.next)
    unpacker.finish()
    return latent, modes
