"""Features of one image as the bytes of a file, for programs without this package."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from mvmic_codec.features.maps import Features


def to_file(features: Features, suffix: str) -> bytes:
    """The bytes of a .safetensors or .npz file, for features of one image.

    Arrays: each map [1,C,h,w] under its name, float32, and `flat` [1,H,W], uint8. What describes
    them is one JSON object: in safetensors under the key `features` of the metadata, in npz the
    array `features`, a string.
    """
    arrays: dict[str, npt.NDArray[Any]] = dict(features.numpy())
    arrays["flat"] = features.flat.astype(np.uint8)
    described = json.dumps(
        {
            "height": features.size[0],
            "width": features.size[1],
            "rate_index": features.rate_indices[0],
            "model": features.fingerprint.hex(),
            "strides": features.strides,
        }
    )
    if suffix == ".safetensors":
        return save(arrays, {"features": described})
    arrays["features"] = np.array(described)
    stream = io.BytesIO()
    # Types of numpy take the names of arrays for those of options.
    savez: Callable[..., None] = np.savez
    savez(stream, **arrays)
    return stream.getvalue()
