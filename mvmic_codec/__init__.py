"""A learned medical-image codec that behaves like any other Pillow format.

    import mvmic_codec                      # Pillow now reads and writes .mvm
    image = Image.open("scan.mvm")
    image.save("out.mvm")                   # or quality=1 (smallest) to 8 (best)
    data = mvmic_codec.encode(image_or_array)
    image = mvmic_codec.decode(data)
    features = mvmic_codec.decode_features("scan.mvm")  # what the decoder's networks know, sooner

Importing the package imports neither numpy nor torch. numpy comes with the first pixels, and torch
with the first file that is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mvmic_codec import forks  # noqa: F401 - notices forks from here on
from mvmic_codec.bitstream.header import Header
from mvmic_codec.errors import (
    ChecksumError,
    FormatError,
    InputError,
    ModelError,
    MvmError,
    TruncatedError,
    VersionError,
)
from mvmic_codec.plugin import register_mvm_opener

if TYPE_CHECKING:
    from mvmic_codec.api import decode, decode_array, decode_features, encode, read_header
    from mvmic_codec.features.maps import Features

__version__ = "0.16.0"

__all__ = [
    "ChecksumError",
    "Features",
    "FormatError",
    "Header",
    "InputError",
    "ModelError",
    "MvmError",
    "TruncatedError",
    "VersionError",
    "__version__",
    "decode",
    "decode_array",
    "decode_features",
    "encode",
    "read_header",
    "register_mvm_opener",
]

register_mvm_opener()


def __getattr__(name: str) -> Any:
    if name in ("decode", "decode_array", "decode_features", "encode", "read_header"):
        from mvmic_codec import api

        return getattr(api, name)
    if name == "Features":
        from mvmic_codec.features.maps import Features

        return Features
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
