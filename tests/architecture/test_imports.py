"""The rooms of mvmic_codec: which of them may import which, and what a decoder never loads.

docs/architecture.md gives the rules in words.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mvmic_codec

ROOT = Path(mvmic_codec.__file__).parent
GOLDEN = Path(__file__).parents[2] / "formats/golden/flat-blends-colour.mvm"
# Whoever imports these has encoder and decoder too.
FACE = ["mvmic_codec.api", "mvmic_codec.plugin", "mvmic_codec.encode", "mvmic_codec.decode"]


def rooms(*names):
    return [f"mvmic_codec.{name}" for name in names]


# Rooms that study the codec, and that nothing else needs.
STUDIES = ("training", "evaluation", "tasks")
# By room, what its modules must not import.
FORBIDDEN = {
    "bitstream": ["torch", *rooms("model", "decoder", "features", "encoder", *STUDIES), *FACE],
    "image": ["torch", *rooms("model", "decoder", "features", "encoder", *STUDIES), *FACE],
    "model": [*rooms("decoder", "features", "encoder", *STUDIES), *FACE],
    "decoder": ["scipy", *rooms("features", "encoder", *STUDIES), *FACE],
    "features": ["scipy", *rooms("encoder", *STUDIES), *FACE],
    "encoder": [*rooms("features", *STUDIES), *FACE],
    "training": [*rooms("tasks"), *FACE[1:2]],
    "evaluation": [*rooms("tasks"), *FACE[1:2]],
}
# The rooms that code an image, and so follow the pass schedule.
CODING = ("bitstream", "model", "decoder", "encoder")


def modules():
    """Every module by its path below mvmic_codec, Cython's included."""
    paths = [*ROOT.rglob("*.py"), *ROOT.rglob("*.pyx")]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def is_type_checking(test):
    return isinstance(test, (ast.Name, ast.Attribute)) and "TYPE_CHECKING" in ast.unparse(test)


class Imports(ast.NodeVisitor):
    """The full names that a module imports, in functions too; those for type checkers alone not."""

    def __init__(self):
        self.names = set()
        self.relative = []

    def visit_If(self, node):  # noqa: N802 - ast's own name
        for part in node.orelse if is_type_checking(node.test) else node.body + node.orelse:
            self.visit(part)

    def visit_Import(self, node):  # noqa: N802
        self.names |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node):  # noqa: N802
        if node.level:
            self.relative.append(node.lineno)
        self.names |= {f"{node.module}.{alias.name}" for alias in node.names}


def imports_of(path, text):
    if path.endswith(".pyx"):
        # Python's parser does not know Cython: its import lines alone.
        text = "\n".join(re.findall(r"^(?:import .*|from \S+ import .*)$", text, re.MULTILINE))
    found = Imports()
    found.visit(ast.parse(text))
    return found


def broken_rules(path, text):
    """What a module imports against the rules, as sentences."""
    found = imports_of(path, text)
    room = path.split("/")[0] if "/" in path else ""
    forbidden = [*FORBIDDEN.get(room, []), *([] if room == "cli" else ["mvmic_codec.cli"])]
    broken = [
        f"{path} imports {name}"
        for name in sorted(found.names)
        if any(f"{name}.".startswith(f"{each}.") for each in forbidden)
    ]
    return broken + [f"{path}, line {line}: a relative import" for line in found.relative]


def test_every_module_keeps_the_rules():
    found = modules()
    assert {path.split("/")[0] for path in found} >= FORBIDDEN.keys()
    broken = [rule for path, text in found.items() for rule in broken_rules(path, text)]
    assert broken == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("decoder/new.py", "from mvmic_codec.encoder import encode"),
        ("decoder/new.py", "from mvmic_codec import encoder"),
        ("decoder/new.py", "def f():\n    import scipy.ndimage"),
        ("decoder/new.py", "import mvmic_codec.training.loop as loop"),
        ("decoder/new.py", "if True:\n    from mvmic_codec.evaluation import metrics"),
        ("decoder/new.py", "from mvmic_codec import api"),
        ("decoder/new.py", "from mvmic_codec.image import samples\nfrom . import decode"),
        ("bitstream/new.py", "import torch"),
        ("bitstream/new.pyx", "cimport cython\nfrom torch import Tensor"),
        ("bitstream/new.py", "from mvmic_codec.model.integer import to_uint8"),
        ("image/new.py", "import torch.nn.functional as F"),
        ("model/new.py", "from mvmic_codec.decoder import decode"),
        ("encoder/new.py", "from mvmic_codec.evaluation.metrics import psnr"),
        ("encoder/new.py", "from mvmic_codec import cli"),
        ("evaluation/new.py", "import mvmic_codec.cli.files"),
        ("new.py", "try:\n    import mvmic_codec.cli\nexcept ImportError:\n    pass"),
        (
            "decoder/new.py",
            "if TYPE_CHECKING:\n    import torch\nelse:\n    import mvmic_codec.encoder",
        ),
    ],
)
def test_a_module_that_breaks_a_rule_is_found(path, text):
    assert len(broken_rules(path, text)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("decoder/new.py", "import torch\nfrom mvmic_codec.model import loaded"),
        (
            "bitstream/new.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
        ),
        ("bitstream/new.pyx", "from libc.stdint cimport uint8_t\nimport numpy as np"),
        ("encoder/new.py", "import scipy\nfrom mvmic_codec.decoder import decode"),
        ("cli/new.py", "from mvmic_codec.cli import files\nfrom mvmic_codec import api"),
        ("training/new.py", "from mvmic_codec.encoder import encode"),
    ],
)
def test_a_module_that_keeps_the_rules_passes(path, text):
    assert broken_rules(path, text) == []


def loaded_by(code):
    """Names in sys.modules of a fresh process that has run the code."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        # The parent's path, so that the interpreter finds the same package.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def among(loaded, names):
    return sorted(name for name in loaded if any(f"{name}.".startswith(f"{n}.") for n in names))


def test_decoding_loads_no_encoder_and_no_torch():
    loaded = loaded_by(
        "import mvmic_codec.decoder.decode\nfrom PIL import Image\n"
        f"Image.open({str(GOLDEN)!r}).load()"
    )
    assert "mvmic_codec.decoder.image" in loaded
    sides = ["mvmic_codec.encoder", "mvmic_codec.training", "mvmic_codec.evaluation"]
    # These take longer to import than the pixels take to decode.
    assert among(loaded, [*sides, "torch", "scipy"]) == []


def test_the_bitstream_loads_no_torch():
    names = [path.stem for path in (ROOT / "bitstream").glob("*.py*") if path.stem != "__init__"]
    loaded = loaded_by("\n".join(f"import mvmic_codec.bitstream.{name}" for name in set(names)))
    assert "mvmic_codec.bitstream.symbols" in loaded
    assert among(loaded, ["torch"]) == []


def second_schedules(path, text):
    """Where a module makes a pass schedule of its own, as sentences."""
    if path == "model/schedule.py" or path.split("/")[0] not in CODING:
        return []
    makes = re.finditer(
        r"\bSymbolGroup\(|\bdivmod\(|^(?:SCHEDULE|SITE_ORDER|SPATIAL_STEPS)\b.*=",
        text,
        re.MULTILINE,
    )
    return [f"{path} has {match.group()!r}: the order stands in schedule.py" for match in makes]


def test_the_pass_schedule_stands_once():
    found = modules()
    assert "SCHEDULE = tuple(" in found["model/schedule.py"]
    assert [each for path, text in found.items() for each in second_schedules(path, text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "groups = [SymbolGroup(2 * step, step, True) for step in range(4)]",
        "SITE_ORDER = (0, 3, 1, 2)",
        "SCHEDULE: tuple[int, ...] = (0, 1)",
        "for number in range(8):\n    step, far = divmod(number, 2)",
    ],
)
def test_a_second_schedule_is_found(text):
    assert len(second_schedules("model/native.py", text)) == 1
