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

import pytest

from mvmic_codec.bitstream import container, flat
from mvmic_codec.bitstream.container import METADATA

pytest.importorskip("kaitaistruct", reason="the Kaitai runtime is not installed")
if not os.environ.get("MVMIC_KAITAI") or shutil.which("node") is None:
    pytest.skip("MVMIC_KAITAI does not name a Kaitai compiler", allow_module_level=True)

FORMATS = Path(__file__).parents[2] / "formats"
GOLDEN = sorted((FORMATS / "golden").glob("*.mvm"))
FIELDS = ["newer-version", "version-1", "rate-64", "generation-0", "range-upside-down"]
FIELDS += ["width-without-end", "width-not-shortest", "height-not-shortest"]
FIELDS += ["resolution-zero", "three-lanes", "not-mvm"]
FIELDS += ["flat-no-colours", "flat-nine-colours", "flat-ends-in-zero"]
# Where whole words are missing, the runtime finds the end of the chunk.
CUT = ["flat-not-words", "flat-no-checksum", "lane-not-words", "no-range"]


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
        found = getattr(parsed.header.body, field.name)
        assert getattr(found, "value", found) == getattr(header, field.name)


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
    ],
)
def test_headers(mvm, header, change):
    header = replace(header, **change)
    check_head(mvm.from_bytes(container.write(header, b"\1" + bytes(4), {})), header)


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_golden_files(mvm, path):
    data = path.read_bytes()
    parsed, whole = mvm.from_bytes(data), container.read(data)
    check_head(parsed, whole.header)
    *metadata, last = parsed.chunks
    header = whole.header
    if whole.flat is not None:
        areas = metadata.pop()
        assert areas.type == "FLAT" and areas.is_critical and areas.length == len(whole.flat)
        understood = flat.from_payload(whole.flat, header)
        assert [colour.samples for colour in areas.payload.colours] == understood.colours.tolist()
        assert areas.payload.count == len(understood.colours)
        assert struct.pack(f"<{len(areas.payload.lane)}I", *areas.payload.lane) in whole.flat
    assert {chunk.type.encode() for chunk in metadata} == set(whole.metadata) <= set(METADATA)
    assert not any(chunk.is_critical for chunk in metadata) and last.is_critical
    assert last.type == "DATA" and last.length == len(whole.payload)
    assert last.payload.lane_count == whole.payload[0]
    words = sum(len(lane.words) for lane in last.payload.lanes)
    assert 1 + 4 * last.payload.lane_count + 4 * words == last.length


def with_flat(payload):
    """A gray file of 5x3 pixels with this FLAT chunk; its image data are a lane of no words."""
    header = container.Header(
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
    return container.write(header, b"\1" + bytes(4), {}, payload)


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
