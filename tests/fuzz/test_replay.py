"""The corpora of all fuzzers go through without a finding; broken code gives findings."""

import os
import shlex
import struct
import subprocess
from pathlib import Path

import pytest
from fuzz.check_file import check, for_installed_model, mended

from mvmic_codec.bitstream import container
from mvmic_codec.image import metadata

# Files that declare much are what this is about.
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CORPUS = HERE / "corpus"
FILES = sorted((CORPUS / "file").iterdir())
FILES += sorted((ROOT / "formats").glob("*/*.mvm"))
COMPILE = [*shlex.split(os.environ.get("CC", "cc")), "-g", "-I", str(ROOT / "csrc/common")]
COMPILE += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# LeakSanitizer needs ptrace, which containers may forbid; libFuzzer looks for leaks in its own way.
ENVIRONMENT = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}

# The C behind a target, and the headers that it alone includes.
SOURCES = {
    "rans": ["common/rans_tables.c", "decode/rans_decode.c", "encode/rans_encode.c"],
    "flatmap": ["decode/flatmap_decode.c", "encode/flatmap_encode.c"],
    "synthesis": ["common/gemm.c", "common/winograd.c", "common/synthesis.c"],
}
HEADERS = {
    "rans": ["common/rans.h", "common/rans_internal.h", "common/trellis.h"],
    "flatmap": ["common/flatmap.h", "common/flatmap_internal.h"],
    "synthesis": [
        "common/gemm.h",
        "common/lanes_internal.h",
        "common/synthesis.h",
        "common/winograd.h",
        "common/winograd_internal.h",
    ],
}
# -O1 takes four times as long to compile synthesis.c, and its corpus is short.
OPTIONS = {"rans": ["-O1"], "flatmap": ["-O1"], "synthesis": ["-O0"]}

# What is broken, by target: the text, and what stands there instead.
BROKEN_RANS = {
    "words are taken from before the lane": (" && lane->left != 0)", ")"),
    "more rounds are sure than there are words": ("lanes[lane].left < rounds ?", "0 ?"),
    "one round too many is sure": ("return rounds;\n", "return rounds + (rounds > 0);\n"),
    "an escape waits for other rounds": ("done < rounds && !escapes;", "done < rounds;"),
    "a level is of the other quantiser": ("trellis_level(number, *state)", "2 * number"),
    "a state is not kept": ("*state = TRELLIS_NEXT", "unsigned next = TRELLIS_NEXT"),
    "blocks start a pass": (
        "        if (second != 0)\n",
        "        state = 0;\n        if (second)\n",
    ),
    "tables of one quantiser are enough": (" && second < tables->count - greatest", ""),
    "lanes do not take turns": ("*turn + 1 == lane_count ? 0 : *turn + 1", "*turn"),
    "no level is refused": ("trellis_level(number, state) != level", "0"),
    "what is resolved has one table": ("(uint8_t)table;", "indices[i];"),
    "levels run over": ("level > TRELLIS_LEVEL_MAX ? TRELLIS_LEVEL_MAX : level", "level"),
    "escapes are read from another lane": ("&lanes[i % lane_count]", "&lanes[0]"),
    "an index may be no table": ("return there ?", "return 1 ?"),
    "an encoder's index may be no table": (
        "rans_indices_check(tables, 0, coded_indices, kept)",
        "RANS_OK",
    ),
    "a skipped place in a group is coded": ("return (zeros & tops) == 0;", "return 1;"),
    "half of a group is coded unseen": ("| ((halves[1] - ones) & ~halves[1])", ""),
    "the last but one round meets empty lanes": ("rounds -= rounds > 0;", ""),
    "a block is one place too short": ("places[RANS_BLOCK];", "places[RANS_BLOCK - 1];"),
    "the first entry is put on an empty lane": ("(entry | lane->state) == 0", "0"),
    "nobody notices that a lane ran out": ("lane->state == 0; /*", "0; /*"),
    "half of a group is skipped unseen": ("(halves[0] | halves[1]) == 0", "halves[0] == 0"),
    "a last word of 0 is taken": ("words[count - 1] == 0 || ", ""),
    "a word is moved out too late": (">= entry.freq;", "> entry.freq;"),
}
BROKEN_FLATMAP = {
    "words are taken from before the lane": (" && lane->left != 0)", ")"),
    "nobody notices how a lane ends": ("return lane.state != 0;", "return 0;"),
    "a last word of 0 is taken": ("== 0)\n        return 1;", "== 0)\n        (void)0;"),
    "the border is too thin": ("#define FLATMAP_MARGIN 2", "#define FLATMAP_MARGIN 1"),
    "a yes may be impossible": ("return yes + (yes == 0);", "return yes;"),
    "what is no longer asked is": ("cells[x] == wanted ? CELL_ASKED : 0", "CELL_ASKED"),
    "a word is moved out too late": (">= freq) {", ">= 2 * freq) {"),
    "all pixels are asked": ("work->open == NULL || work->open[y * work->width + x] ?", "1 ?"),
    "numbers stand where nothing is open": ("|| (colour != 0 && !open)", ""),
}
BROKEN = {"rans": BROKEN_RANS, "flatmap": BROKEN_FLATMAP}
FAULTS = [(kind, fault) for kind, faults in BROKEN.items() for fault in faults]


def run(*command):
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """The folder of the targets and their main() as objects, to be linked with what they test."""
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
    for name in ("fuzz_rans", "fuzz_flatmap", "fuzz_synthesis", "replay"):
        built = run(*COMPILE, "-O1", "-c", HERE / f"{name}.c", "-o", folder / f"{name}.o")
        assert built.returncode == 0, built.stderr
    return folder


def replay(harness, kind, tested, program):
    """The corpus of a kind through its target with the C files that it tests."""
    objects = [harness / f"fuzz_{kind}.o", harness / "replay.o"]
    built = run(*COMPILE, *OPTIONS[kind], *objects, *tested, "-o", program)
    assert built.returncode == 0, built.stderr
    return run(program, *sorted((CORPUS / kind).iterdir()))


@pytest.mark.parametrize("kind", SOURCES)
def test_c_has_no_finding(harness, tmp_path, kind):
    tested = [ROOT / "csrc" / name for name in SOURCES[kind]]
    done = replay(harness, kind, tested, tmp_path / "replay")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(list((CORPUS / kind).iterdir()))} inputs\n"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "fault"), FAULTS, ids=[" ".join(each) for each in FAULTS])
def test_broken_c_has_one(harness, tmp_path, kind, fault):
    text, instead = BROKEN[kind][fault]
    # All side by side, so that each includes the broken header.
    files = [ROOT / "csrc" / name for name in SOURCES[kind] + HEADERS[kind]]
    copies = [tmp_path / file.name for file in files]
    holding = 0
    for file, copy in zip(files, copies, strict=True):
        source = file.read_text()
        holding += text in source
        copy.write_text(source.replace(text, instead))
    assert holding == 1, f"{text!r} is in {holding} files"
    tested = [copy for copy in copies if copy.suffix == ".c"]
    done = replay(harness, kind, tested, tmp_path / "replay")
    assert done.returncode != 0


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
    return container._read_exactly(file, length + 4, "chunk")[:-4]


@pytest.mark.slow
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
