"""What importing and opening cost, in fresh interpreters."""

import os
import subprocess
import sys

import pytest

import mvmic_codec


def run(code, *arguments):
    # The parent's path, so that the interpreter finds the same package.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    ).stdout


@pytest.fixture
def file(tmp_path, fake_codec):
    path = tmp_path / "scan.mvm"
    path.write_bytes(mvmic_codec.encode(bytes_array()))
    return path


def bytes_array():
    import numpy as np

    return np.arange(60, dtype=np.uint8).reshape(6, 10)


HEAVY = "[name for name in ('torch', 'numpy') if name in sys.modules]"


def test_import_is_quick_and_light():
    code = (
        "import sys, time; start = time.process_time(); import mvmic_codec; "
        f"print(time.process_time() - start, {HEAVY})"
    )
    answers = [run(code).split(" ", 1) for _ in range(5)]
    assert {heavy.strip() for _, heavy in answers} == {"[]"}
    best = min(float(seconds) for seconds, _ in answers)
    print(f"import mvmic_codec: {1000 * best:.1f} ms of CPU (target 50)")
    assert best < 0.15


def test_open_and_header_are_light(file):
    code = (
        "import sys, mvmic_codec; from PIL import Image; image = Image.open(sys.argv[1]); "
        "header = mvmic_codec.read_header(sys.argv[1]); "
        f"print(image.size, image.mode, header.rate_index, {HEAVY})"
    )
    assert run(code, file).strip() == "(10, 6) L 54 []"


def test_public_names_are_listed_without_loading_them():
    code = f"import sys, mvmic_codec; print('encode' in mvmic_codec.__all__, {HEAVY})"
    assert run(code).strip() == "True []"
