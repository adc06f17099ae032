"""The corpora of both fuzzers go through without a finding; broken code gives findings."""

import os
import shlex
import struct
import subprocess
from pathlib import Path

import pytest
from fuzz.check_file import check, for_installed_model, mended

from mvmic_codec import container, metadata

# Files that declare much are what this is about.
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CORPUS = HERE / "corpus"
FILES = sorted((CORPUS / "file").iterdir())
FILES += sorted((ROOT / "formats").glob("*/*.mvm"))
COMPILE = [*shlex.split(os.environ.get("CC", "cc")), "-g", "-O1", "-I", str(ROOT / "csrc")]
COMPILE += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# LeakSanitizer needs ptrace, which containers may forbid; libFuzzer looks for leaks in its own way.
ENVIRONMENT = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}

# What is broken in rans.c: the text, and what stands there instead.
BROKEN = {
    "words are taken from before the lane": (" & (lane->left != 0)", ""),
    "a decoder's index may be no table": ("greatest < tables->count ?", "1 ?"),
    "an encoder's index may be no table": ("if (index >= tables->count)", "if (0)"),
    "a block is one place too short": ("places[RANS_BLOCK];", "places[RANS_BLOCK - 1];"),
    "the first entry is put on an empty lane": ("((uint64_t)entry | lane->state) == 0", "0"),
    "nobody notices that a lane ran out": ("local[lane].state == 0;", "0;"),
    "half of a group is skipped unseen": ("(halves[0] | halves[1]) == 0", "halves[0] == 0"),
    "a last word of 0 is taken": ("words[count] == 0 || ", ""),
    "a word is moved out too late": (">= freq;", "> freq;"),
}


def run(*command):
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """The target and its main() as objects, to be linked with a coder."""
    folder = tmp_path_factory.mktemp("harness")
    empty = folder / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    try:
        can = run(*COMPILE, empty, "-o", folder / "empty").returncode == 0
        can = can and run(folder / "empty").returncode == 0
    except OSError:
        can = False
    if not can:
        pytest.skip(f"{COMPILE[0]} cannot build programs with AddressSanitizer and UBSan")
    objects = [folder / "fuzz_rans.o", folder / "replay.o"]
    for each in objects:
        built = run(*COMPILE, "-c", HERE / each.with_suffix(".c").name, "-o", each)
        assert built.returncode == 0, built.stderr
    return objects


def replay(harness, coder, program):
    """The corpus through the harness with a coder's C file."""
    built = run(*COMPILE, *harness, coder, "-o", program)
    assert built.returncode == 0, built.stderr
    return run(program, *sorted((CORPUS / "rans").iterdir()))


def test_the_coder_has_no_finding(harness, tmp_path):
    done = replay(harness, ROOT / "csrc/rans.c", tmp_path / "replay")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(list((CORPUS / 'rans').iterdir()))} inputs\n"


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_coder_has_one(harness, tmp_path, fault):
    text, instead = BROKEN[fault]
    source = (ROOT / "csrc/rans.c").read_text()
    assert text in source
    (tmp_path / "rans.c").write_text(source.replace(text, instead))
    assert replay(harness, tmp_path / "rans.c", tmp_path / "replay").returncode != 0


def look_at(path):
    data = for_installed_model(path.read_bytes())
    check(data, 1 << 17)
    check(mended(data), 1 << 17)


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}-{path.name}" for path in FILES])
def test_files_have_no_finding(path):
    look_at(path)


def parse_text(payload):
    parts = payload.decode("utf-8").split("\0")
    return dict(zip(parts[0::2], parts[1::2], strict=True))


def read_without_checksum(file, kind, length):
    return container._take(file, length + 4, "chunk")[:-4]


@pytest.mark.parametrize(
    ("where", "name", "instead"),
    [
        (metadata, "_parse_text", parse_text),
        (metadata, "_parse_dpi", struct.Struct("<II").unpack),
        (container.Header, "mode", "L"),
        (container, "_read_payload", read_without_checksum),
    ],
)
def test_broken_readers_have_findings(monkeypatch, where, name, instead):
    monkeypatch.setattr(where, name, instead)
    found = 0
    for path in FILES:
        try:
            look_at(path)
        except Exception:
            found += 1
    assert found
