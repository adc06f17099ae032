"""Planes <-> payload without a file around them, as many tests want it."""

from functools import partial

import numpy as np

from mvmic_codec.bitstream import ans, flat
from mvmic_codec.bitstream.container import Tile
from mvmic_codec.bitstream.flat import Flat
from mvmic_codec.decoder.decode import planes_of
from mvmic_codec.decoder.parts import decode_parts
from mvmic_codec.decoder.reconstruct import put
from mvmic_codec.decoder.tiles import only_tile
from mvmic_codec.encoder.candidate import EncodeCandidate
from mvmic_codec.model.device import full_precision


def candidate_of(planes, rate, *, hidden=None, device=None):
    flat = None
    if hidden is not None:
        colours = np.zeros((1, len(planes)), np.int32)
        flat = Flat(colours, hidden.astype(np.uint8), np.zeros(hidden.shape, np.uint8))
    return EncodeCandidate(planes, rate, flat=flat, device=device)


def encode_planes(planes, rate, *, hidden=None, effort=1, on_round=None, device=None):
    candidate = candidate_of(planes, rate, hidden=hidden, device=device)
    return candidate.encode(effort=effort, on_round=on_round).payload


def decode_planes(payload, header, *, hidden=None, device=None):
    """Planes [C,H,W] in 0..1, as float32; errors as `decode_parts`."""
    samples = decode_samples(payload, header, hidden=hidden, device=device)
    span = np.float32(max(header.hi - header.lo, 1))
    return ((samples - header.lo).astype(np.float32) / span).transpose(2, 0, 1)


def decode_samples(payload, header, *, hidden=None, device=None):
    """Samples [H,W,C] as int32, not painted; errors as `decode_parts`."""
    samples = np.empty((header.height, header.width, planes_of(header)), np.int32)
    tile = only_tile(tile_of_payload(payload, header, hidden))
    decode_parts(header, tile, partial(put, samples), device=device)
    return samples


def tile_of_payload(payload, header, hidden=None):
    """A tile of this payload, with flat areas where it is hidden."""
    if hidden is None:
        return Tile(payload)
    colours = np.full((1, planes_of(header)), header.lo, np.int32)
    areas = Flat(colours, hidden.astype(np.uint8), np.zeros(hidden.shape, np.uint8))
    return Tile(payload, flat=flat.to_payload(areas, header.bits, header.signed))


def ideal_bits(result, tables):
    """Of all that an encoder's result codes, by the model's tables."""
    return sum(ans.estimate_bits(*each.coded(), tables) for each in result.passes)


def estimate_bits(planes, rate, *, device=None):
    """Ideal size in bits of what `encode_planes` codes."""
    candidate = candidate_of(planes, rate, device=device)
    with full_precision(candidate.model.device):
        return ideal_bits(candidate.encoder.encode_two_pass(), candidate.model.tables)
