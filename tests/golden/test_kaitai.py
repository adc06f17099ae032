"""formats/mvm.ksy parses every golden file, and refuses fields out of range.

The compiler is an npm package. MVMIC_KAITAI names a folder in which it is installed, with js-yaml.
"""

import os
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import one_tile
import pytest

from mvmic_codec.bitstream import overlays
from mvmic_codec.bitstream.container import MAGIC, METADATA, Reader, Tile, write
from mvmic_codec.bitstream.header import Header, sample_type

pytest.importorskip("kaitaistruct", reason="the Kaitai runtime is not installed")
if not os.environ.get("MVMIC_KAITAI") or shutil.which("node") is None:
    pytest.skip("MVMIC_KAITAI does not name a Kaitai compiler", allow_module_level=True)

FORMATS = Path(__file__).parents[2] / "formats"
GOLDEN = sorted((FORMATS / "golden").glob("*.mvm"))
FIELDS = ["newer-version", "version-1", "rate-64", "generation-0", "range-upside-down"]
FIELDS += ["form-0", "form-unknown", "form-high-bit", "frames-not-shortest", "tile-not-shortest"]
FIELDS += ["colours-too-long", "colours-out-of-range", "seek-too-long"]
FIELDS += ["alpha-levels-equal", "alpha-levels-descend", "alpha-level-above-bits"]
FIELDS += ["alpha-all-levels-of-7-bits", "alpha-plane-ends-in-zero", "outliers-256"]
FIELDS += ["bytes-after", "two-pad-bytes", "pad-byte-not-zero"]
FIELDS += ["width-without-end", "width-not-shortest", "height-not-shortest"]
FIELDS += ["resolution-zero", "three-lanes", "not-mvm"]
FIELDS += ["flat-no-colours", "flat-nine-colours", "flat-ends-in-zero"]
# Where whole words are missing, the runtime finds the end of the chunk.
CUT = ["flat-not-words", "flat-no-checksum", "lane-not-words", "no-range", "form-missing"]
CUT += ["frames-missing", "seek-too-short", "seek-not-words", "colours-too-short", "colours-empty"]
CUT += ["alpha-no-levels", "alpha-no-plane", "outliers-no-values", "indices-not-words"]


@pytest.fixture(scope="module")
def mvm(tmp_path_factory):
    """The compiled parser."""
    folder = tmp_path_factory.mktemp("kaitai")
    program = Path(__file__).with_name("compile_ksy.js")
    modules = Path(os.environ["MVMIC_KAITAI"]) / "node_modules"
    subprocess.run(
        ["node", program, FORMATS / "mvm.ksy", folder],
        check=True,
        env=os.environ | {"NODE_PATH": str(modules)},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        import mvm

        yield mvm.Mvm
    sys.modules.pop("mvm", None)


def check_head(parsed, header):
    for field in fields(header):
        # There is no fingerprint in an indexed image.
        found = getattr(parsed.header.body, field.name, b"")
        assert getattr(found, "value", found) == getattr(header, field.name)
    for name in ("rows", "columns", "count"):
        assert getattr(parsed.header.body, name) == getattr(header, name)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"width": 128, "height": 129},
        {"width": 16385, "height": 2**21 + 1},
        {"width": 2**28 + 1, "height": 2**31 - 1, "generation": 255, "rate_index": 63},
        {"photometric": 1, "bits": 16, "signed": True, "lo": -32768, "hi": 32767},
        {"bits": 16, "signed": True, "lo": -32768, "hi": 5},
        {"bits": 1, "signed": True, "lo": -1, "hi": 0},
        {"photometric": 3, "bits": 1, "hi": 1},
        {"photometric": 2, "lo": 7, "hi": 7},
        {"version": 2},
        {"version": 2, "rate_index": 63, "hi": 9},
        {"alpha": True, "rate_index": 63},
        {"frames": 130},
        {"tile": 64, "width": 65, "height": 128},
        {"tile": 192, "width": 192, "height": 193, "frames": 2, "hi": 9},
        {"generation": 0, "fingerprint": b"", "rate_index": 0},
        {"generation": 0, "fingerprint": b"", "rate_index": 0, "palette": True, "alpha": True},
    ],
)
def test_headers(mvm, header, change):
    header = replace(header, **change)
    last = Tile(b"\1" + bytes(4), alpha=None if header.indexed or not header.alpha else bytes(6))
    colours = bytes(2 + header.alpha) if header.indexed else None
    if header.indexed:
        last = Tile(bytes(4))
    check_head(mvm.from_bytes(write(header, [last] * header.count, {}, colours)), header)


def chunks_of(data):
    """Types and payloads of all chunks after HEAD."""
    found, at = [], len(MAGIC)
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        found.append((data[at + 4 : at + 8].decode(), data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found[1:]


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_golden_files(mvm, path):
    data = path.read_bytes()
    parsed, reader = mvm.from_bytes(data), Reader(data)
    check_head(parsed, reader.header)
    expected = chunks_of(data)
    assert [(chunk.type, chunk.length) for chunk in parsed.chunks] == [
        (kind, len(payload)) for kind, payload in expected
    ]
    assert parsed.pad == b""
    for chunk, (kind, payload) in zip(parsed.chunks, expected, strict=True):
        assert chunk.is_critical == (kind.encode() not in METADATA)
        check_payload(chunk.payload, kind, payload, reader.header)


def check_payload(found, kind, payload, header):
    if kind == "FLAT":
        end = 1 + len(found.colours) * len(found.colours[0].samples) * (2 if header.bits > 8 else 1)
        sample = np.dtype(sample_type(header.bits, header.signed))
        colours = np.frombuffer(payload[1:end], sample).tolist()
        assert sum((colour.samples for colour in found.colours), []) == colours
        assert struct.pack(f"<{len(found.lane)}I", *found.lane) in payload
    if kind == "DATA":
        words = sum(len(lane.words) for lane in found.lanes)
        assert found.lane_count == payload[0]
        assert 1 + 4 * found.lane_count + 4 * words == len(payload)
    if kind == "PLTE":
        colours = overlays.colours_of(payload, header)
        assert [colour.samples for colour in found.colours] == colours.tolist()
    if kind == "SEEK":
        assert struct.pack(f"<{header.count}I", *found.lengths) == payload
    if kind == "ALPH":
        assert found.levels == list(payload[1 : 1 + len(found.levels)])
        check_plane(found.plane, payload[1 + len(found.levels) :])
    if kind == "OUTL":
        assert [value.samples for value in found.values] == [[-32768], [32767]]
        check_plane(found.plane, payload[5:])
    if kind == "INDX":
        check_plane(found, payload)
    if kind == "anIM":
        assert (found.loop, *found.durations) in {(2, 100, 50, 200), (0, 40)}


def check_plane(found, payload):
    assert struct.pack(f"<{1 + len(found.lane)}I", found.crc, *found.lane) == payload


def test_a_byte_of_0_may_follow_in_version_3(mvm):
    plain, older = ((FORMATS / f"golden/{name}.mvm").read_bytes() for name in ("bits", "gray"))
    assert mvm.from_bytes(plain + b"\0").pad == b"\0"
    from kaitaistruct import ValidationFailedError

    with pytest.raises(ValidationFailedError):
        mvm.from_bytes(older + b"\0")


def with_flat(payload):
    """A gray file of 5x3 pixels with this FLAT chunk; its image data are a lane of no words."""
    header = Header(
        rate_index=18,
        photometric=0,
        signed=False,
        bits=8,
        generation=1,
        fingerprint=bytes(8),
        width=5,
        height=3,
        lo=0,
        hi=255,
    )
    return one_tile.write(header, b"\1" + bytes(4), {}, payload)


def examples():
    """The two payloads at the end of flat.md."""
    text = (FORMATS / "flat.md").read_text(encoding="utf-8")
    found = re.findall(r"`((?:[0-9a-f]{2} ){10,}[0-9a-f]{2})`", text)
    return [bytes.fromhex(each) for each in found]


def test_both_forms_of_flat_areas(mvm):
    one, two = (mvm.from_bytes(with_flat(each)).chunks[0].payload for each in examples())
    assert (one.form, two.form) == (1, 2)
    for areas in (one, two):
        assert areas.count == 2 and [colour.samples for colour in areas.colours] == [[0], [255]]
        assert areas.lane == [0xD2572A82, 0x0C]
    assert one.blends == [] and two.words == 2 and two.blends == [0x000D0000]


def test_damaged_form_2(mvm):
    from kaitaistruct import ValidationFailedError

    whole = examples()[1]
    lane, blends = whole[:11], whole[-4:]
    refused = [b"\x80" + whole[1:], b"\x89" + whole[1:], whole + bytes(4)]
    refused.append(lane + whole[11:15] + bytes(4) + blends)
    for payload in refused:
        with pytest.raises(ValidationFailedError):
            mvm.from_bytes(with_flat(payload))
    for payload in (whole[:-1], whole[:-6], whole[:9]):
        with pytest.raises(EOFError):
            mvm.from_bytes(with_flat(payload))
    assert mvm.from_bytes(with_flat(whole[:-4])).chunks[0].payload.blends == []


@pytest.mark.parametrize("name", CUT)
def test_cut_within_a_word(mvm, name):
    with pytest.raises(EOFError):
        mvm.from_file(FORMATS / "errors" / f"{name}.mvm")


@pytest.mark.parametrize("name", FIELDS)
def test_fields_out_of_range(mvm, name):
    from kaitaistruct import ValidationFailedError

    with pytest.raises(ValidationFailedError):
        mvm.from_file(FORMATS / "errors" / f"{name}.mvm")
