"""A codec under comparison, and the names of all of them."""

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
# These need weights, see `learned`.
LEARNED = ("bmshj2018-hyperprior", "mbt2018-mean", "cheng2020-anchor")


@dataclass(frozen=True)
class Setting:
    """One point of a codec's curve."""

    label: str
    encode: Callable[[Image.Image], bytes]


@dataclass(frozen=True)
class Codec:
    """A codec under comparison.

    name      as in the tables
    deep      whether it takes gray images of more than 8 bits
    curves    for gray (True) or colour (False): one list of settings for each variant to try. The
              better variant is kept for each image
    decode    file -> image
    apart     whether it runs in another process, so that this one's memory says nothing of it
    features  whether its files are this codec's, which have features
    """

    name: str
    deep: bool
    curves: Callable[[bool], list[list[Setting]]]
    decode: Callable[[bytes], Image.Image]
    apart: bool = False
    features: bool = False
