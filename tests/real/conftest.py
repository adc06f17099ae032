from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def test_images() -> Path:
    """The folder of test images, which training never sees."""
    folder = Path(os.environ.get("MVMIC_DATA", ROOT.parent / "shared" / "data")) / "test"
    if not folder.is_dir():
        pytest.skip(f"no test images at {folder}: set MVMIC_DATA to the folder that holds test/")
    return folder
