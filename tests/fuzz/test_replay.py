"""The corpora of all fuzzers go through without a finding; broken code gives findings."""

import os
import shlex
import struct
import subprocess
from pathlib import Path

import pytest
from fuzz.check_file import check, for_installed_model, mended

from mvmic_codec.bitstream import chunks, header
from mvmic_codec.image import metadata
from mvmic_codec.model.synthnet import usable_paths

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

# The C behind a target, and the headers that it includes.
SOURCES = {
    "rans": ["common/rans_tables.c", "decode/rans_decode.c", "encode/rans_encode.c"],
    "flatmap": ["decode/flatmap_decode.c", "encode/flatmap_encode.c"],
    "plane": ["decode/plane_decode.c", "encode/plane_encode.c"],
    "residual": [
        "common/residual_begin.c",
        "decode/residual_decode.c",
        "encode/residual_encode.c",
    ],
    "synthesis": ["common/gemm.c", "common/winograd.c", "common/synthesis.c"],
}
ANSWERS = ["common/answers.h", "common/answers_internal.h"]
HEADERS = {
    "rans": ["common/rans.h", "common/rans_internal.h", "common/trellis.h"],
    "flatmap": [*ANSWERS, "common/flatmap.h", "common/flatmap_internal.h"],
    "plane": [*ANSWERS, "common/plane.h", "common/plane_internal.h"],
    "residual": [
        *ANSWERS,
        "common/residual.h",
        "common/residual_internal.h",
        "common/residual_tables.h",
    ],
    "synthesis": [
        "common/gemm.h",
        "common/lanes_internal.h",
        "common/synthesis.h",
        "common/winograd.h",
        "common/winograd_internal.h",
    ],
}
# -O1 takes four times as long to compile synthesis.c, and its corpus is short.
OPTIONS = {
    "rans": ["-O1"],
    "flatmap": ["-O1"],
    "plane": ["-O1"],
    "residual": ["-O1"],
    "synthesis": ["-O0"],
}

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
# Of the lane of answers that maps and planes are.
BROKEN_ANSWERS = {
    "words are taken from before the lane": (" && lane->left != 0)", ")"),
    "nobody notices how a lane ends": ("return lane->state != 0;", "return lane == NULL;"),
    "a last word of 0 is taken": ("return count != 0 && (", "return 0 && ("),
    "a yes may be impossible": ("return yes + (yes == 0);", "return yes;"),
    "a word is moved out too late": (">= freq) {", ">= 2 * freq) {"),
}
BROKEN_FLATMAP = BROKEN_ANSWERS | {
    "the border is too thin": ("#define FLATMAP_MARGIN 2", "#define FLATMAP_MARGIN 1"),
    "what is no longer asked is": ("cells[x] == wanted ? CELL_ASKED : 0", "CELL_ASKED"),
    "all pixels are asked": ("work->open == NULL || work->open[y * work->width + x] ?", "1 ?"),
    "numbers stand where nothing is open": ("|| (colour != 0 && !open)", ""),
}
BROKEN_PLANE = BROKEN_ANSWERS | {
    "the border is too thin": ("#define PLANE_MARGIN 2", "#define PLANE_MARGIN 1"),
    "two rows are kept": ("#define PLANE_ROWS 3", "#define PLANE_ROWS 2"),
    "the border is not cleared": ("memset(work->rows, 0, PLANE_ROWS", "memset(work->rows, 0, 0"),
    "places are not cleared": ("memset(work->places, 0, PLANE_PLACES", "memset(work->places, 0, 0"),
    "a tree too few is cleared": ("work->ordered ? 4 :", "work->ordered ? 3 :"),
    "trees lie too far apart": ("(tree << bits);", "(tree << bits << 1);"),
    "there are too few places": ("hash >> (32 - PLANE_MEMORY_BITS)", "hash >> 8"),
    "a candidate is asked about twice": (
        "is_ruled_out(choice, choice->candidates[choice->at])",
        "0",
    ),
    "a symbol may be too large": ("if (value >= work->symbols)", "if (value > 255)"),
    "what was ruled out comes back": (
        "return is_ruled_out(choice, value) ? DAMAGED : value",
        "return value",
    ),
    "damage is no end": ("if (symbol == DAMAGED)\n                    return 1;", ""),
    "large symbols are coded": ("plane[x] >= work->symbols;", "0;"),
    "too few answers are expected": ("changes * (CANDIDATES + bits_of(work->symbols))", "changes"),
    "half is folded over": ("2 * up < symbols ?", "2 * up <= symbols ?"),
    "an order goes the other way": ("(position + 1) / 2;", "position / 2;"),
}
BROKEN_RESIDUAL = {
    **{name: each for name, each in BROKEN_ANSWERS.items() if name != "a yes may be impossible"},
    "the border is too thin": ("#define RESIDUAL_MARGIN 3", "#define RESIDUAL_MARGIN 2"),
    "three rows are kept": ("#define RESIDUAL_ROWS 4", "#define RESIDUAL_ROWS 3"),
    "contexts are not cleared": (
        "memset(work->contexts, 0, RESIDUAL_CONTEXTS",
        "memset(NULL, 0, 0",
    ),
    "a fit goes on in the next plane": (
        "memset(work->products, 0, sizeof",
        "memset(work->products, 0, 0 * sizeof",
    ),
    "a colour leaves the range": ("site->high = work->high - green;", "site->high = work->high;"),
    "rows above the first are not there": ("row[x] = base ? work->anchors[inside] : middle;", ";"),
    "errors above the first are not there": ("            errors[x] = error;\n", ""),
    "nothing is left of a row": ("        row[-x] = row_of(work, work->rows, above)[0];\n", ""),
    "a column right of the last": ("dx > 0 && x + 1 == work->width ? x :", ""),
    "a column left of the first": ("dx < 0 && x == 0 ? 0 :", ""),
    "a row below the last": ("dy > 0 && y + 1 == work->height ? y :", ""),
    "a row above the first": ("dy < 0 && y == 0 ? 0 :", ""),
    "a prediction is not limited": ("mean < least ? least :", ""),
    "a sum of the prediction overflows": (
        "(int64_t)work->weights[j] * site",
        "work->weights[j] * site",
    ),
    "a bound is not kept": (
        "(error + work->bound) / site.step",
        "(error + work->bound + 1) / site.step",
    ),
    "what is certain is asked": ("if ((site.up > 0 || site.down > 0) &&", "if ("),
    "a sign is asked about twice": (
        "if (site->up > 0 && site->down > 0)\n        sign",
        "if (1)\n        sign",
    ),
    "sizes go on past the most": (
        "    most = sign > 0 ? site->up : site->down;",
        "    most = 2 * (site->up + site->down);",
    ),
    "what is skipped is not the base": ("= plane_of(work, work->base, plane)[at];", "= 0;"),
    "inputs are not scaled down": (
        "INPUT_BITS - bit_length((uint32_t)most)",
        "31 - bit_length((uint32_t)most)",
    ),
    "a value has more contexts than there are": ("wide > 10 ? wide - 10 : 0", "0"),
    "a share is of another count": ("count += count < COUNT_MOST;", "count++;"),
}
BROKEN_SYNTHESIS = {
    "a wild site is taken for a tame one": ("TAME (1 << 17)", "TAME ((1 << 17) + 1)"),
    "a sum of halves overflows": (
        "(int64_t)total[GROUPS * sums + k] * 256",
        "total[GROUPS * sums + k] * 256",
    ),
    "wild coefficients are not clamped": ("sum = sum < INT16_MIN ? INT16_MIN : sum;", ""),
    "tame coefficients are not clamped": (
        "to_int16(divide(total[k], ROTATION_BITS))",
        "(int16_t)divide(total[k], ROTATION_BITS)",
    ),
    "half of a pair of channels is looked at": (
        "(any[2 * k] | any[2 * k + 1]) != 0",
        "any[2 * k] != 0",
    ),
    "chroma begins too soon": ("{near_luma, AREA + rotation->near_chroma}", "{near_luma, AREA}"),
    "one mode has too many sites": ("at < n && found < DENSE_POSITIONS", "at < n"),
    "a site that is none": ("site, found, x + AREA", "site, found + 1, x + AREA"),
    "samples past a row are filtered": ("k < (w - 1) * BLOCK; k++", "k < w * BLOCK; k++"),
    "the last samples of a row are missing": (
        "memcpy(to + columns - BLOCK / 2, row + columns - BLOCK / 2, BLOCK / 2 * sizeof *to);",
        "",
    ),
    "blocks are taken from the next row": ("smaller(DCT_BLOCKS, w - b)", "DCT_BLOCKS"),
    "scratch of linear rows is too small": ("(w * AREA + POSITIONS * BLOCK)", "(w * AREA / 2)"),
    "scratch of 3x3 layers is too small": ("(tiles * inputs + APART)", "(tiles * inputs)"),
    "scratch of enter8 is too small": ("(size_t)4 * 3 * 64", "(size_t)3 * 64"),
    "a group too many is filtered": ("smaller(GROUPS, (columns - x) / LANES)", "GROUPS"),
    "planes are rounded down": ("divide(total[k], COLUMN_BITS)", "total[k] >> COLUMN_BITS"),
    "what may be negative is shifted left": ("* (1 << COLUMN_BITS)", "<< COLUMN_BITS"),
    "a product overflows in enter16": (
        "divide(value * low, SPREAD_BITS)",
        "divide(value * spread[k], SPREAD_BITS)",
    ),
    "inputs of enter16 are not limited": ("(int16_t)clamp(e, -LIMIT, LIMIT)", "(int16_t)e"),
    "modes are of the first positions": ("modes[first + t] * outputs", "modes[t] * outputs"),
    "positions past the last": ("smaller(DENSE_POSITIONS, w * count - first)", "DENSE_POSITIONS"),
    "results of enter8 are transposed": (
        "2 * at.y + part / 2, 2 * at.x + part % 2, 2 * w",
        "2 * at.y + part % 2, 2 * at.x + part / 2, 2 * w",
    ),
    "samples are not limited": (
        "clamp(divide(row[j], UNSHUFFLE_BITS), -LIMIT, LIMIT)",
        "divide(row[j], UNSHUFFLE_BITS)",
    ),
    "enter8 sees the first plane alone": (
        "planes->at + c * planes->pitch + (8 * y + i)",
        "planes->at + (8 * y + i)",
    ),
    "planes are not clamped": ("-PLANE_MAX, PLANE_MAX)", "INT32_MIN, INT32_MAX)"),
    "outputs of leave8 are swapped": ("o / 64, i = o % 64 / 8;", "o / 64, i = o % 64 / 8 ^ 2;"),
    "outputs of the last layer are swapped": ("result[4 * c + 2 * i + 1]", "result[4 * c + i + 1]"),
    "ReLU has no top": ("clamp(value, 0, to->top)", "clamp(value, 0, INT16_MAX)"),
    "ReLU has no offset": ("factor[k]) + offset[k];", "factor[k]);"),
    "a stream is not clamped": ("out[k] = to_int16(out[k] +", "out[k] = (int16_t)(out[k] +"),
    "no rows above a range": ("y > 0 || above", "y > 0"),
    "no rows below a range": ("y + 1 < count || below", "y + 1 < count"),
    "rows above the first": ("y > 0 || above", "1"),
    "something lies beside one column": ("sums[0] = sums[w + 1] = 0;", ""),
    "one column has a neighbour": ("w == 1 ? 1 : 2", "2"),
    "a mean is rounded down": ("* sum + (1 << (MEAN_BITS - 1))) >>", "* sum) >>"),
    "samples past the last column": ("smaller(RUN, width - first)", "RUN"),
    "no sample is too dark": ("z = z < 0 ? 0 : z;", ""),
    "no sample is too bright": ("z = z > one ? one : z;", ""),
    "a level loses its high bits": (
        "(uint64_t)z * (uint32_t)",
        "(uint64_t)(uint32_t)z * (uint32_t)",
    ),
    "a mixed sample overflows": ("(int64_t)samples->matrix", "samples->matrix"),
    "a result overflows": ("((int64_t)a * factor", "(a * factor"),
    "a result is rounded down": (" + ((int64_t)1 << 31)) >> 32", ") >> 32"),
    "a row is one position too long": ("if (++place->x == place->w)", "if (++place->x > place->w)"),
    "large inputs wrap around": ("x[k] > most ? most : x[k]", "x[k]"),
    "a map has one border": ("(y + 1) * (w + 2) + x + 1", "(y + 1) * (w + 1) + x + 1"),
    "sums are not modulo 2^32": ("(int32_t)((uint32_t)a + (uint32_t)b)", "a + b"),
    "int16 is not clamped from below": (
        "clamp(x, INT16_MIN, INT16_MAX)",
        "clamp(x, INT32_MIN, INT16_MAX)",
    ),
    "tiles past the last": ("smaller(conv->most, conv->all_tiles - conv->first)", "conv->most"),
    "rows of tiles lie too close": (
        "(2 * conv->columns + 2) * inputs",
        "2 * conv->columns * inputs",
    ),
    "shifts are swapped": ("if (conv->shift == 2)", "if (conv->shift == 3)"),
    "a group too many is computed": ("(int)conv->groups, conv->m", "GROUPS, conv->m"),
    "groups lie too close": ("u + f * block, 16 * block,", "u + f * block, block,"),
    "a frequency has the wrong sign": ("b[y][1][k] - b[y][3][k]", "b[y][3][k] - b[y][1][k]"),
    "columns of a tile are swapped": (
        "v[2 * pitch + k] = (int16_t)(b[y][2][k] - b[y][1][k])",
        "v[2 * pitch + k] = (int16_t)(b[y][1][k] - b[y][2][k])",
    ),
    "sums are four times as large": ("s[y][3][k]) >> 2", "s[y][3][k])"),
    "a weight has the wrong sign": ("(int16_t)(both - middle)", "(int16_t)(middle - both)"),
    "weights of inputs that are none": ("? smaller(INPUTS, inputs - first) : 0", "? INPUTS : 0"),
    "weights of outputs that are none": ("smaller(LANES, outputs - group * LANES)", "LANES"),
    "weights of an input too few": ("i < smaller(INPUTS, stride - first)", "i < 2"),
    "both weights of a pair are the first": (
        "second * weight[2 * o + 1]",
        "second * weight[2 * o]",
    ),
}
# The same of what not every processor runs.
BROKEN_PATHS = {
    "neon": ("madd_neon(total[p] + 2, w1, pair)", "madd_neon(total[p] + 2, w0, pair)"),
    "avx2": ("_mm256_madd_epi16(both, w1)", "_mm256_madd_epi16(both, w0)"),
    "avx512": ("multiply_add(total[p][1], both, w1)", "multiply_add(total[p][1], both, w0)"),
}
BROKEN_SYNTHESIS |= {path: BROKEN_PATHS[path] for path in usable_paths() if path in BROKEN_PATHS}
BROKEN = {
    "rans": BROKEN_RANS,
    "flatmap": BROKEN_FLATMAP,
    "plane": BROKEN_PLANE,
    "residual": BROKEN_RESIDUAL,
    "synthesis": BROKEN_SYNTHESIS,
}
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
    for name in (*(f"fuzz_{kind}" for kind in SOURCES), "replay"):
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
    return chunks.read_exactly(file, length + 4, "chunk")[:-4]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "name", "instead"),
    [
        (metadata, "_parse_text", parse_text),
        (metadata, "_parse_dpi", struct.Struct("<II").unpack),
        (header.Header, "mode", "L"),
        (chunks, "read_payload", read_without_checksum),
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
