"""formats/mvm.ksy parses every golden file, and refuses fields out of range.

The compiler is an npm package. MVMIC_KAITAI names a folder in which it is installed, with js-yaml.
"""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from mvmic_codec import container, flat
from mvmic_codec.container import METADATA

pytest.importorskip("kaitaistruct", reason="the Kaitai runtime is not installed")
if not os.environ.get("MVMIC_KAITAI") or shutil.which("node") is None:
    pytest.skip("MVMIC_KAITAI does not name a Kaitai compiler", allow_module_level=True)

FORMATS = Path(__file__).parents[2] / "formats"
GOLDEN = sorted((FORMATS / "golden").glob("*.mvm"))
FIELDS = ["newer-version", "rate-64", "flags", "two-channels", "no-width", "two-frames"]
FIELDS += ["range-upside-down", "resolution-zero", "three-lanes", "not-mvm"]
FIELDS += ["flat-no-colours", "flat-nine-colours", "flat-ends-in-zero"]
# Where whole words are missing, the runtime finds the end of the chunk.
CUT = ["flat-not-words", "flat-no-checksum", "lane-not-words"]


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


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_golden_files(mvm, path):
    data = path.read_bytes()
    parsed, whole = mvm.from_bytes(data), container.read(data)
    body, header = parsed.header.body, whole.header
    for field in ("rate_index", "channels", "bits", "width", "height", "lo", "hi", "model"):
        assert getattr(body, field) == getattr(header, field)
    assert bool(body.signed) == header.signed and body.fingerprint == header.fingerprint
    assert body.photometric.value == header.photometric
    *metadata, last = parsed.chunks
    if whole.flat is not None:
        areas = metadata.pop()
        assert areas.type == "FLAT" and areas.is_critical and areas.length == len(whole.flat)
        understood = flat.from_payload(whole.flat, header)
        assert [colour.samples for colour in areas.payload.colours] == understood.colours.tolist()
        assert areas.payload.count == len(understood.colours)
        assert struct.pack(f"<{len(areas.payload.lane)}I", *areas.payload.lane) in whole.flat
    assert {chunk.type.encode() for chunk in metadata} == set(whole.metadata) <= set(METADATA)
    assert not any(chunk.is_critical for chunk in metadata) and last.is_critical
    assert last.type == "DATA" and last.length == len(whole.payloads[0])
    assert last.payload.lane_count == whole.payloads[0][0]
    words = sum(len(lane.words) for lane in last.payload.lanes)
    assert 1 + 4 * last.payload.lane_count + 4 * words == last.length


@pytest.mark.parametrize("name", CUT)
def test_cut_within_a_word(mvm, name):
    with pytest.raises(EOFError):
        mvm.from_file(FORMATS / "errors" / f"{name}.mvm")


@pytest.mark.parametrize("name", FIELDS)
def test_fields_out_of_range(mvm, name):
    from kaitaistruct import ValidationFailedError

    with pytest.raises(ValidationFailedError):
        mvm.from_file(FORMATS / "errors" / f"{name}.mvm")
