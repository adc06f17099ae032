"""What images differ from a base, as one adaptive binary rANS lane; see formats/residual.md."""

import numpy as np
import numpy.typing as npt

BOUND_MAX: int

def encode(
    samples: npt.NDArray[np.int32],
    low: int,
    high: int,
    bound: int,
    base: npt.NDArray[np.int32] | None = None,
    mask: npt.NDArray[np.uint8] | None = None,
) -> tuple[bytes, npt.NDArray[np.int32]]:
    """The lane of an image [P,H,W], and its samples [P,H,W] as `decode` gives them.

    P is 1, or 3 for red, green and blue. Samples are low to high, which lie in -32768 to 65535 and
    are at most 65,536 values, or 256 with three planes. No sample is off by more than `bound`, 0 to
    BOUND_MAX. base [P,H,W] in low to high is what a reader has already. Where mask [H,W] is 0,
    samples are those of the base and nothing is coded.

    A lane is whole little-endian 32-bit words and may be empty. Takes 16 to 60 bytes of memory for
    each sample. Raises InputError for other types, shapes or numbers.
    """

def decode(
    data: bytes,
    planes: int,
    height: int,
    width: int,
    low: int,
    high: int,
    bound: int,
    base: npt.NDArray[np.int32] | None = None,
    mask: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.int32]:
    """The samples [planes,height,width] of a lane, given all else as it was for `encode`.

    Any bytes give samples in low to high or one of the errors below. Samples from damaged data may
    be wrong: the caller keeps a checksum of them.

    Raises TruncatedError for data that is not whole words, FormatError for a lane that no encoder
    can have written, InputError as `encode`.
    """
