"""A released model as a decoder needs it: numpy and C, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from mvmic_codec.bitstream import ans
from mvmic_codec.model import intnet, synthnet
from mvmic_codec.model.arrays import (
    Arrays,
    check_arrays,
    check_rate_bounds,
    check_synthesis,
    entropy_arrays,
    read_arrays,
    refusing_other_arrays,
    synthesis_arrays,
)
from mvmic_codec.model.identity import Identity, find_identity
from mvmic_codec.model.native import NativeEntropy
from mvmic_codec.model.native_synthesis import NativeSynthesis
from mvmic_codec.model.shape import Shape, shape_of


@dataclass(frozen=True)
class DecodingModel:
    """A released model, ready to decode."""

    identity: Identity
    shape: Shape
    tables: ans.Tables
    entropy: NativeEntropy
    synthesis: NativeSynthesis


@lru_cache(maxsize=4)
def load(model_fingerprint: bytes) -> DecodingModel:
    """The model with this 8-byte fingerprint. Raises ModelError if it is unknown or damaged."""
    identity, path = find_identity(model_fingerprint)
    arrays = read_arrays(identity, path)
    with refusing_other_arrays(path):
        return made_of(identity, arrays)


def made_of(identity: Identity, arrays: Arrays) -> DecodingModel:
    """The model with this card and these arrays of its weights file.

    Raises ModelError, LookupError, TypeError or ValueError for arrays that are none.
    """
    shape = shape_of(identity)
    entropy, synthesis = entropy_arrays(arrays), synthesis_arrays(arrays)
    check_arrays(entropy, shape)
    check_synthesis(synthesis, shape)
    check_rate_bounds(synthesis)
    # The fastest paths that this processor has.
    paths = intnet.usable_paths()[-1], synthnet.usable_paths()[-1]
    return DecodingModel(
        identity,
        shape,
        ans.Tables(entropy["table_half"], entropy["table_cdf"]),
        NativeEntropy(entropy, shape.rotate, paths[0]),
        NativeSynthesis(synthesis, shape.near_luma, shape.near_chroma, paths[1]),
    )
