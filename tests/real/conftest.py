from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_images() -> Path:
    """The folder of test images, which training never sees."""
    data = os.environ.get("MVMIC_DATA")
    if not data:
        pytest.skip("no real images: set MVMIC_DATA to a folder that holds test/KIND/*.webp")
    folder = Path(data) / "test"
    assert folder.is_dir(), f"MVMIC_DATA is {data}, which has no folder test"
    return folder
