"""Synthesis in exact integers in C, stage by stage, from the latent to the samples.

formats/model.md, section 9, defines what is computed, by the same names.

A *map* is int16 [h+2,w+2,stride_of(channels)], position by position. Channels that do not exist are
0. The outermost rows and columns are zeros, or what lies around the map if it is a stripe. Calls
write neither.

*Planes* are int32 [J,rows,columns] in 2^-12, J = 1 or 3. They may be rows out of larger planes.

Every call computes the rows `first` to `first` + `count` - 1 of its result, into an array that the
caller gives. Arrays hold all rows: row k of the result depends on row k of the inputs and on those
around it. No integer depends on how rows are cut into ranges, so that threads may share the ranges
of a result. The processor decides which paths are usable; all paths give the same integers. Calls
release the GIL.

Arrays must be contiguous and of the types given. Arrays that do not fit together, or ranges that
are not there, raise ValueError. Weights whose sums or results might exceed 32 bits raise
OverflowError. `factor` is m of rq(a, m) = floor(a m / 2^32 + 1/2).
"""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Shorts = npt.NDArray[np.int16]
Ints = npt.NDArray[np.int32]

def usable_paths() -> tuple[str, ...]:
    """The paths that this processor can run, the fastest last.

    They are "portable", "neon" (aarch64), "avx2", "avx512" and "vnni" (x86-64).
    """

def stride_of(channels: int) -> int:
    """Channels of one position of a map, with those that fill it up."""

class Rotation:
    """From the latent to DCT coefficients.

    luma         int16 [8,256,256], by mode, channel and coefficient, in 2^-14, within +-2^14
    chroma       int16 [K,512], likewise; K = 0 for one plane, 1 to 512 for three
    near_luma    channels of luma that y begins with
    near_chroma  channels of chroma that follow; then the other luma, then the other chroma
    path         one of `usable_paths()`
    """

    def __init__(
        self, luma: Shorts, chroma: Shorts, near_luma: int, near_chroma: int, path: str
    ) -> None: ...
    def rotate(self, y: Shorts, modes: Bytes, x: Shorts, first: int, count: int) -> None:
        """Coefficients x [h,w,256J] in 2^-3 of y [h,w,256+K] in 2^-3 and modes [h,w], 0 to 7."""

class Linear:
    """The linear picture: inverse DCT, and a filter around borders between blocks.

    dct      int16 [16,16], by frequency and sample, in 2^-14
    borders  int16 [16,16], by result and sample, in 2^-14
    """

    def __init__(self, dct: Shorts, borders: Shorts, path: str) -> None: ...
    def rows(self, x: Shorts, out: Shorts, first: int, count: int) -> None:
        """Coefficients x [h,w,256J] to samples out [J,16h,16w] in 2^-5, filtered along rows.

        The range is of rows of blocks.
        """

    def columns(self, rows: Shorts, planes: Ints, first: int, count: int) -> None:
        """What `rows` gives, filtered along columns, to planes of the same shape.

        The range is of bands, 0 to h. Band k has the 16 rows around the border between the rows k-1
        and k of blocks. Bands 0 and h are the first and last 8 rows, which are not filtered: they
        are right only at the edges of the image.
        """

class Enter16:
    """Coefficients to features at 1/16.

    weight          int16 [O,256J]
    bias            int32 [8,O], by mode
    factor, offset  int32 [O]
    spread          int32 [256J], p of e = clamp(rnd(X p, 16), -8191, 8191)
    """

    def __init__(
        self, weight: Shorts, bias: Ints, factor: Ints, offset: Ints, spread: Ints, path: str
    ) -> None: ...
    def run(self, x: Shorts, modes: Bytes, out: Shorts, first: int, count: int) -> None:
        """Coefficients x [h,w,256J] and modes [h,w] to a map."""

class Conv:
    """A 3x3 convolution by Winograd's F(2x2,3x3). Rows and columns are even in number.

    weight                int8 or int16 [O,I,3,3], within +-3640
    bias, factor, offset  int32 [O]; only `relu` uses the offset
    shift                 0: inputs are within +-8191, which is not checked. 2 or 3: inputs are any,
                          and become min(rnd(in, shift), 32767 >> shift)
    """

    inputs: int
    outputs: int

    def __init__(
        self,
        weight: npt.NDArray[np.int8] | Shorts,
        bias: Ints,
        factor: Ints,
        offset: Ints,
        shift: int,
        path: str,
    ) -> None: ...
    def relu(self, maps: Shorts, top: int, out: Shorts, first: int, count: int) -> None:
        """Results in a map, clamped to 0 .. top."""

    def add(self, maps: Shorts, stream: Shorts, first: int, count: int) -> None:
        """Results added to a map, clamped to int16."""

    def leave(self, maps: Shorts, planes: Ints, first: int, count: int) -> None:
        """Results of 4J outputs added to planes [J,2h,2w], shuffled by 2. The range is of maps."""

class Enter8:
    """Features at 1/16 and the linear picture to features at 1/8.

    up                 int16 [4O,I]
    inject             int16 [O,64J]
    up_factor, offset  int32 [4O]
    inject_factor      int32 [O]
    """

    def __init__(
        self,
        up: Shorts,
        inject: Shorts,
        up_factor: Ints,
        inject_factor: Ints,
        offset: Ints,
        path: str,
    ) -> None: ...
    def run(self, maps: Shorts, planes: Ints, out: Shorts, first: int, count: int) -> None:
        """A map at 1/16 of h x w positions and planes [J,16h,16w] to a map of 2h x 2w positions.

        The range is of rows at 1/16. Planes are within +-2^24.
        """

class Leave8:
    """Features at 1/8, added to the linear picture.

    weight        int16 [64J,I]
    bias, factor  int32 [64J]
    """

    def __init__(self, weight: Shorts, bias: Ints, factor: Ints, path: str) -> None: ...
    def run(self, maps: Shorts, planes: Ints, first: int, count: int) -> None:
        """Results added to planes [J,8h,8w] within +-2^24, in place; clamped to +-2^23."""

def quads(planes: Ints, out: Shorts, first: int, count: int, path: str) -> None:
    """Planes [J,2h,2w] within +-2^24, less their means, to a map of h x w positions, 4J channels.

    Means are over the squares that `planes` has. So a stripe must bring one row of squares more on
    either side, but at the edges of the image.
    """

def samples(
    planes: Ints,
    matrix: Ints,
    low: int,
    levels: int,
    out: Bytes | npt.NDArray[np.uint16] | Ints,
    first: int,
    count: int,
    path: str,
) -> None:
    """Planes [J,rows,columns] to samples out [rows,width,J], width <= columns.

    z[k] = clamp(sum over c of matrix[k,c] planes[c] + 2^41, 0, 2^42), matrix [J,J], and samples are
    low + rnd(z levels, 42), with levels 1 to 65535. Samples that `out` cannot hold raise
    OverflowError.
    """
