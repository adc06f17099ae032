"""Measure several images at once, each in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from mvmic_codec.evaluation import peers
from mvmic_codec.evaluation.codec import Codec
from mvmic_codec.evaluation.evaluate import evaluate
from mvmic_codec.evaluation.rows import Row

Job = tuple[Path, str]  # an image, the name of a codec


@contextmanager
def started(
    processes: int,
    jobs: Iterable[Job],
    rate_indices: Sequence[int],
    device: str | None,
    weights: Path | None,
    memory: bool,
) -> Iterator[dict[Job, Future[list[Row]]]]:
    """The rows of `evaluate` for each job, without seconds.

    When the block ends, whatever the cause, the jobs not yet begun are dropped.
    """
    # Threads of torch and of codecs do not survive a fork. An interrupt ends a process at once,
    # where Python's own handler would print a traceback for each.
    pool = ProcessPoolExecutor(
        processes, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_DFL)
    )
    try:
        yield {
            job: pool.submit(_measure, *job, tuple(rate_indices), device, weights, memory)
            for job in jobs
        }
    finally:
        pool.shutdown(cancel_futures=True)


def _measure(
    path: Path,
    name: str,
    rate_indices: tuple[int, ...],
    device: str | None,
    weights: Path | None,
    memory: bool,
) -> list[Row]:
    rows = evaluate(path, _codec(name, rate_indices, device, weights), memory)
    # Seconds taken beside other work would say more about the machine than about the codec.
    return [replace(row, enc_s=None, dec_s=None) for row in rows]


@cache
def _codec(
    name: str, rate_indices: tuple[int, ...], device: str | None, weights: Path | None
) -> Codec:
    import torch

    # The processes share the cores as it is: one thread for torch, and one for our own code.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    return peers.codec(name, rate_indices, device, weights)
