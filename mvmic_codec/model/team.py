"""Threads for the networks in C: each layer's rows are shared among them."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

# Calls layer(first row, rows) for so many rows, in multiples of a unit: as `Team.run`.
Run = Callable[[Callable[[int, int], None], int, int], None]


class Team:
    """Spreads the rows of a layer over threads. A context: it ends with the threads.

    threads  how many; None takes as many as `default_threads`
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or default_threads()
        self._pool = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def run(self, layer: Callable[[int, int], None], count: int, unit: int, first: int = 0) -> None:
        """Call layer(first row, rows) so that `count` rows are computed, in multiples of `unit`."""
        if count <= 0:
            return
        units = count // unit
        shares = min(self.threads, units)
        edges = [first + unit * (units * k // shares) for k in range(shares + 1)]
        ranges = [(a, b - a) for a, b in zip(edges, edges[1:], strict=False)]
        waiting = [self._pool.submit(layer, *each) for each in ranges[1:]] if self._pool else []
        layer(*ranges[0])
        for each in waiting:
            each.result()


def default_threads() -> int:
    """OMP_NUM_THREADS, or one thread for each processor that this process may use."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdecimal() and int(named) > 0:
        return int(named)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
