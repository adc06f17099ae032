"""Golden files decoded by several threads and processes at once give the samples of the goldens."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import mvmic_codec

GOLDEN = Path(__file__).parents[2] / "formats/golden"
NAMES = ["colour", "flat-blends-colour", "gray", "gray-16-bit"]
FILES = [GOLDEN / f"{name}.mvm" for name in NAMES]
# A hang would last for ever; this only bounds how long a failure takes.
SECONDS = 120


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Of each decode: more than one, whatever runs the tests."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")


def check(images):
    for name, image in zip(NAMES, images, strict=True):
        (expected,) = np.load(GOLDEN / f"{name}.npz").values()
        np.testing.assert_array_equal(np.asarray(image), expected, name)


def test_threads_of_the_caller():
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            check(pool.map(mvmic_codec.decode, FILES))


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_processes_of_the_caller(method):
    # Here first: a forked child has no threads of its parent.
    check(map(mvmic_codec.decode, FILES))
    with multiprocessing.get_context(method).Pool(2) as pool:
        check(pool.map_async(mvmic_codec.decode, FILES).get(SECONDS))
