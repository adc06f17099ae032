"""Synthesis of an image in stripes of rows, from top to bottom, by the layers in C.

Activations are many times larger than the image. Striping bounds memory and stays in cache. Each
stage computes the rows for which its input is complete, and keeps those that the next stripe needs.
No result depends on the height of stripes, or on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.definition import AREA, INPUT_MAX, STREAM_MAX
from mvmic_codec.model.native_synthesis import Block, NativeSynthesis
from mvmic_codec.model.synthnet import quads, stride_of
from mvmic_codec.model.team import Team

Array = npt.NDArray[Any]
# Feature maps in the order in which they are computed, with their samples of the image for each
# element. docs/features.md says what they are.
STRIDES = {"coefficients": 16, "s16": 16, "s8": 8}
PLANES = "planes"
# Takes the name of a feature map and its next rows, int16 [h,w,C].
EmitMap = Callable[[str, Array], None]
# Takes the next rows of planes, int32 [J,h,w] in 2^-12. They are overwritten later.
EmitPlanes = Callable[[Array], None]


class Rows:
    """The rows of a map or of planes that are in memory: some of those that were computed.

    Rows are counted from the top of the image.

    axis  of the rows in the array
    """

    def __init__(
        self, shape: tuple[int, ...], axis: int, kind: type[np.generic], start: int
    ) -> None:
        self.array: Array = np.zeros(shape, kind)
        # The row that lies first in memory, and the end of those in use.
        self.axis, self.start, self.end = axis, start, start + shape[axis]

    def at(self, first: int, end: int) -> Array:
        """Rows from first to end."""
        before = (slice(None),) * self.axis
        view: Array = self.array[(*before, slice(first - self.start, end - self.start))]
        return view

    def extend(self, end: int, kept_from: int) -> None:
        """Make room for rows up to `end`. Those before kept_from are forgotten."""
        start = min(max(kept_from, self.start), self.end)
        kept = self.at(start, self.end)
        if end - start > self.array.shape[self.axis]:
            shape = list(self.array.shape)
            shape[self.axis] = end - start
            self.array = np.zeros(shape, self.array.dtype)
        kept_end, self.start, self.end = self.end, start, end
        self.at(start, kept_end)[...] = kept


class MapRows(Rows):
    """Rows of a map, with a row of zeros above and below the image, and a column on either side.

    done  rows that were computed
    """

    def __init__(self, columns: int, channels: int) -> None:
        super().__init__((1, columns + 2, stride_of(channels)), 0, np.int16, -1)
        self.columns, self.channels, self.done = columns, channels, 0

    def view(self, first: int, end: int) -> Array:
        """Rows from first to end as a map, with one more on either side."""
        return self.at(first - 1, end + 1)

    def values(self, first: int, end: int) -> Array:
        """These rows [h,w,C] alone."""
        return self.at(first, end)[:, 1:-1, : self.channels]

    def begin(self, end: int, kept_from: int, *, last: bool) -> None:
        """Make room for rows up to `end`; below the last of the image is one of zeros."""
        self.extend(end + 1, kept_from - 1)
        if last:
            self.at(end, end + 1)[...] = 0


class StripedBody:
    """Residual blocks, which change a stream in place."""

    def __init__(self, blocks: Sequence[Block], stream: MapRows, team: Team) -> None:
        self.blocks, self.stream, self.team = blocks, stream, team
        self.middles = [MapRows(stream.columns, stream.channels) for _ in blocks]
        self.done = [0] * len(blocks)

    def run(self, end: int, *, last: bool) -> int:
        """The stream is complete up to row `end`. Returns up to where it has passed all blocks.

        `end` is even.
        """
        for k, (block, middle) in enumerate(zip(self.blocks, self.middles, strict=True)):
            start, end = middle.done, end if last else max(end - 2, 0)
            middle.begin(end, self.done[k], last=last)
            if end > start:
                rows = self.stream.view(start, end), INPUT_MAX, middle.view(start, end)
                self.team.run(partial(block.first.relu, *rows), end - start, 2)
                middle.done = end
            start, end = self.done[k], end if last else max(end - 2, 0)
            if end > start:
                maps = middle.view(start, end), self.stream.view(start, end)
                self.team.run(partial(block.second.add, *maps), end - start, 2)
                self.done[k] = end
        return end


class StripedSynthesis:
    """Synthesis of an image of so many columns of blocks at a rate index.

    emit_planes  is given planes whose rows are complete
    emit_map     is given each feature map whose rows are complete: its name in STRIDES, and rows
    until        what is computed last: a feature map, or PLANES
    """

    def __init__(
        self,
        net: NativeSynthesis,
        rate: int,
        columns: int,
        team: Team,
        emit_planes: EmitPlanes,
        emit_map: EmitMap = lambda name, rows: None,
        until: str = PLANES,
    ) -> None:
        self.net, self.layers, self.team = net, net.at_rate(rate), team
        self.emit_planes, self.emit_map, self.until = emit_planes, emit_map, until
        # Rows of blocks so far, and the coefficients of the last one.
        self.rows = 0
        self.last_row: Array = np.empty((0, columns, AREA * net.planes), np.int16)
        self.stream16 = MapRows(columns, net.channels16)
        self.stream8 = MapRows(2 * columns, net.channels8)
        self.quads = MapRows(8 * columns, 4 * net.planes)
        self.stream2 = MapRows(8 * columns, net.channels2)
        self.body16 = StripedBody(net.body16, self.stream16, team)
        self.body8 = StripedBody(net.body8, self.stream8, team)
        self.retouch = StripedBody([net.retouch], self.stream2, team)
        self.planes = Rows((net.planes, 0, BLOCK * columns), 1, np.int32, 0)
        # How many rows the stage after each stream has taken of it.
        self.taken16 = self.taken8 = self.taken2 = 0

    def __call__(self, coefficients: Array, modes: Array, *, last: bool) -> None:
        """The next rows of coefficients, int16 [h,w,256J], and of modes, uint8 [h,w]; h is even."""
        before, self.rows = self.rows, self.rows + len(modes)
        self.emit_map("coefficients", coefficients)
        if self.until == "coefficients":
            return
        self.stream16.begin(self.rows, self.taken16, last=last)
        maps = coefficients, modes, self.stream16.view(before, self.rows)
        self.team.run(partial(self.layers.enter16.run, *maps), len(modes), 1)
        end = self.body16.run(self.rows, last=last)
        self.emit_map("s16", self.stream16.values(self.taken16, end))
        if self.until == "s16":
            self.taken16 = end
            return
        complete = self.linear_planes(coefficients, last=last)
        self.enter8(min(end, complete), last=last)
        end = self.body8.run(self.stream8.done, last=last)
        self.emit_map("s8", self.stream8.values(self.taken8, end))
        if self.until == "s8":
            self.taken8 = end
            return
        self.leave8(end)
        self.post_filter(4 * end, last=last)

    def linear_planes(self, new: Array, *, last: bool) -> int:
        """Add rows to the linear picture, from new coefficients [h,w,256J].

        Returns how many rows of blocks are complete.
        """
        net, width = self.net, self.planes.array.shape[2]
        x = np.concatenate((self.last_row, new))
        self.last_row = new[-1:].copy()
        rows = np.empty((net.planes, BLOCK * len(x), width), np.int16)
        self.team.run(partial(net.linear.rows, x, rows), len(x), 1)
        start, end = BLOCK * (self.rows - len(x)), BLOCK * self.rows
        # The post-filter looks at two rows above those that it takes next.
        self.planes.extend(end, min(start, 2 * self.quads.done - 2, 2 * self.taken2))
        # Borders between rows of blocks; the first and the last are the edges of the image.
        first, after = int(start > 0), len(x) + last
        planes = self.planes.at(start, end)
        self.team.run(partial(net.linear.columns, rows, planes), after - first, 1, first)
        return self.rows if last else self.rows - 1

    def enter8(self, end: int, *, last: bool) -> None:
        """Rows of blocks up to `end` become rows at 1/8."""
        start = self.taken16
        self.stream8.begin(2 * end, self.taken8, last=last)
        if end > start:
            planes = self.planes.at(BLOCK * start, BLOCK * end)
            maps = self.stream16.view(start, end), planes, self.stream8.view(2 * start, 2 * end)
            self.team.run(partial(self.layers.enter8.run, *maps), end - start, 1)
        self.taken16, self.stream8.done = end, 2 * end

    def leave8(self, end: int) -> None:
        """Rows at 1/8 up to `end` correct the linear picture."""
        start = self.taken8
        if end > start:
            maps = self.stream8.view(start, end), self.planes.at(8 * start, 8 * end)
            self.team.run(partial(self.net.leave8.run, *maps), end - start, 1)
        self.taken8 = end

    def post_filter(self, complete: int, *, last: bool) -> None:
        """Planes are corrected up to row `complete` at 1/2, and pass the post-filter."""
        path, seen, stream = self.net.path, self.quads, self.stream2
        start, end = seen.done, complete if last else max(complete - 1, 0)
        seen.begin(end, stream.done, last=last)
        if end > start:
            # With one more row on either side, unless the image ends there.
            top, bottom = max(start - 1, 0), end if last else end + 1
            seen.extend(bottom + 1, seen.start)
            planes, maps = self.planes.at(2 * top, 2 * bottom), seen.view(top, bottom)
            self.team.run(
                lambda first, count: quads(planes, maps, first, count, path),
                end - start,
                1,
                start - top,
            )
            seen.done = end
        start, end = stream.done, seen.done if last else max(seen.done - 1, 0) // 2 * 2
        stream.begin(end, self.taken2, last=last)
        if end > start:
            layer = self.layers.retouch_enter.relu
            rows = seen.view(start, end), STREAM_MAX, stream.view(start, end)
            self.team.run(partial(layer, *rows), end - start, 2)
            stream.done = end
        end = self.retouch.run(stream.done, last=last)
        start, end = self.taken2, end if last else max(end - 2, 0)
        if end > start:
            planes = self.planes.at(2 * start, 2 * end)
            maps = stream.view(start, end)
            self.team.run(partial(self.net.retouch_leave.leave, maps, planes), end - start, 2)
            self.taken2 = end
            self.emit_planes(planes)


def reach_of(net: NativeSynthesis) -> int:
    """How many blocks on every side a sample of the planes depends on, rounded up to even."""
    # A residual block takes two rows at 1/16, or two at 1/8; the post-filter less than a block.
    reach = 2 * len(net.body16) + len(net.body8) + 1
    # Layers of 3x3 compute pairs of columns, and so bands have an even number.
    return reach + reach % 2


def coefficients_of(net: NativeSynthesis, team: Team, y: Array, modes: Array) -> Array:
    """Coefficients, int16 [h,w,256J], of rows of the latent, int16 [h,w,C], and modes [h,w]."""
    x = np.empty((*modes.shape, AREA * net.planes), np.int16)
    team.run(partial(net.rotation.rotate, y, modes, x), len(y), 1)
    return x
