import numpy as np
import pytest

from mvmic_codec.evaluation import memory
from mvmic_codec.evaluation.memory import Peak

MIB = 2**20


@pytest.fixture
def told():
    with Peak() as peak:
        pass
    if peak.mib is None:
        pytest.skip("this system does not tell the peak memory of a process")


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("size", [1, 40, 100])  # blocks that the C library keeps, and larger ones
def test_what_is_freed_within_counts_and_what_was_held_before_does_not(size):
    held = [np.ones(MIB, np.uint8) for _ in range(50)]
    more = 100 // size
    with Peak() as peak:
        blocks = [np.ones(size * MIB, np.uint8) for _ in range(more)]
        del blocks
    assert size * more - 1 <= peak.mib <= size * more + 5
    assert len(held) == 50
    with Peak() as again:
        blocks = [np.ones(size * MIB, np.uint8) for _ in range(more)]
        del blocks
    assert again.mib == pytest.approx(peak.mib, abs=5), "not hidden by what was freed before"


@pytest.mark.usefixtures("told")
def test_a_block_that_takes_nothing():
    with Peak() as peak:
        pass
    assert 0 <= peak.mib < 1


def test_without_proc_nothing_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "none" / "clear_refs")
    with Peak() as peak:
        pass
    assert peak.mib is None
