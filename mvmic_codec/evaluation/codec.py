"""What a codec under comparison is, and the names of those that there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# This codec's names by the effort of its encoder: rows of two efforts are rows of two codecs.
MVM = {1: "mvm", 2: "mvm-effort2", 3: "mvm-effort3"}
# All but mvm itself and the learned ones. `peers.peer` says what each needs.
PEERS = ("jpeg", "jpeg2000", "webp", "avif", "heic", "jxl", "bpg", "vvc")
# With weights that are given, see `learned`.
LEARNED = ("mbt2018-mean", "cheng2020-anchor")


@dataclass(frozen=True)
class Setting:
    """One point of a codec's curve."""

    label: str
    encode: Callable[[Image.Image], bytes]


@dataclass(frozen=True)
class Codec:
    """A codec under comparison.

    name    as in the tables
    deep    takes gray images of more than 8 bits
    curves  for gray (True) or colour (False), one list of settings for each variant of the codec
            that is worth a try; of these the better one is kept for each image
    decode  file -> image
    apart   works in a process of its own, whose memory is not this one's
    """

    name: str
    deep: bool
    curves: Callable[[bool], list[list[Setting]]]
    decode: Callable[[bytes], Image.Image]
    apart: bool = False
