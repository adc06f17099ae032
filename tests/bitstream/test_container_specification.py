"""formats/ says what container.py does."""

import codecs
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import fields, replace
from pathlib import Path

import one_tile
import pytest

from mvmic_codec.bitstream import chunks, container
from mvmic_codec.bitstream.header import Header, pack, parse
from mvmic_codec.errors import InputError

FORMATS = Path(__file__).parents[2] / "formats"
TEXT = (FORMATS / "mvm-3.md").read_text(encoding="utf-8")
FLAGS = {"formed", "ranged", "form", "framed", "tiled"}
INDEXED = {"generation": 0, "fingerprint": b"", "rate_index": 0}
EXAMPLE = b"".join(
    bytes.fromhex(line[9:47])
    for line in TEXT[TEXT.index("## Example") :].splitlines()
    if re.match(r" {4}[ \d]{3}  [0-9a-f]{2} ", line)
)


def test_example_is_what_is_written(header):
    header = replace(header, bits=12, generation=1, width=300, hi=1000)
    assert one_tile.write(header, b"payload bytes", {}) == EXAMPLE
    assert one_tile.read(EXAMPLE).header == header


def test_head_table_has_the_fields_in_order():
    head = TEXT[TEXT.index("## HEAD") : TEXT.index("**Tiles**")]
    rows = dict(re.findall(r"^\| `(\w+)` +\| ([^|]+?) +\|", head, re.MULTILINE))
    assert set(rows) - {f.name for f in fields(Header)} == FLAGS
    # Flags of form stand after it, and what they announce after them.
    order = [f.name for f in fields(Header) if f.name != "palette"]
    assert [name for name in rows if name not in {*FLAGS, "palette"}] == order
    assert rows == {
        "version": "u8",
        "rate_index": "bits 0 to 5 of `rate`",
        "alpha": "bit 6 of `rate`",
        "formed": "bit 7 of `rate`",
        "photometric": "bits 0, 1 of `kind`",
        "signed": "bit 2 of `kind`",
        "ranged": "bit 3 of `kind`",
        "bits": "bits 4 to 7 of `kind`",
        "generation": "u8",
        "fingerprint": "8 bytes",
        "width": "varint",
        "height": "varint",
        "form": "u8",
        "framed": "bit 0 of `form`",
        "tiled": "bit 1 of `form`",
        "palette": "bit 2 of `form`",
        "frames": "varint",
        "tile": "varint",
        "lo": "i32",
        "hi": "i32",
    }


@pytest.mark.parametrize(
    ("change", "at", "byte"),
    [
        ({"rate_index": 63}, 1, 63),
        ({"alpha": True, "rate_index": 1}, 1, 0x41),
        ({"frames": 2}, 1, 0x80 | 18),
        ({"photometric": 3}, 2, 0x73),
        ({"bits": 16, "signed": True, "lo": -32768, "hi": 32767}, 2, 0xF4),
        ({"hi": 254}, 2, 0x78),
        ({"frames": 2}, 14, 1),
        ({"frames": 2}, 15, 0),
        ({"tile": 64, "width": 65}, 14, 2),
        ({"tile": 64, "width": 65}, 15, 0),
        ({"tile": 128, "width": 65, "height": 127, "frames": 9}, None, None),
        (INDEXED, 3, 0),
        (INDEXED | {"palette": True}, 6, 4),
    ],
)
def test_bits_of_the_header_are_where_the_page_has_them(header, change, at, byte):
    header = replace(header, **change)
    if at is None:
        with pytest.raises(InputError, match="one holds the whole image"):
            pack(header)
        return
    payload = pack(header)
    assert payload[at] == byte and parse(payload) == header


def test_the_longest_and_the_shortest_header(header):
    least, most = re.search(r"(\d+) to (\d+) bytes. Only the first", TEXT).groups()
    assert len(pack(replace(header, **INDEXED))) == int(least)
    sides = {"width": 2**31 - 1, "height": 2**28 + 1}
    formed = {"frames": 2**14 + 2, "tile": 64 * (2**24 + 1), "hi": 9}
    assert len(pack(replace(header, **sides, **formed))) == int(most) - 1
    # Four bytes of frames, or of the side of tiles, and so no longer one: there are 2^24 in all.
    formed = {"frames": 2**21 + 2, "tile": 64 * (2**21 + 1), "hi": 9}
    sides = {"width": 2**28 + 1, "height": 2**28 + 1}
    assert len(pack(replace(header, **sides, **formed))) == int(most)


def test_varints_of_the_specification(header):
    rows = re.findall(r"^\| (\d+|2\^31 - 2) +\| ((?:[0-9a-f]{2} )+) *\|", TEXT, re.MULTILINE)
    assert len(rows) == 6
    for value, code in rows:
        width = (2**31 - 2 if "^" in value else int(value)) + 1
        file = one_tile.write(replace(header, width=width), b"", {})
        assert file[28:].startswith(bytes.fromhex(code))
        assert container.read_header(file).width == width


def test_every_chunk_type_is_described():
    kinds = (container.HEAD, container.COLOURS, container.SEEK)
    for kind in (*kinds, *container.METADATA, *container.TILE):
        assert f"| `{kind.decode()}` |" in TEXT


def test_mime_entry():
    root = ET.parse(FORMATS / "mvm-mime.xml").getroot()
    space = "{http://www.freedesktop.org/standards/shared-mime-info}"
    entry = root.find(f"{space}mime-type")
    assert entry.get("type") == "image/x-mvm"
    assert entry.find(f"{space}glob").get("pattern") == "*.mvm"
    value = entry.find(f"{space}magic/{space}match").get("value")
    assert codecs.escape_decode(value)[0] == container.MAGIC


@pytest.mark.skipif(shutil.which("file") is None, reason="file(1) is not installed")
def test_magic_rule(tmp_path):
    path = tmp_path / "example"
    path.write_bytes(EXAMPLE)
    command = ["file", "--brief", "-m", str(FORMATS / "mvm.magic"), str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "version 3, gray, 12-bit, rate index 18, model mvmic-1g" in said
    command.insert(1, "--mime-type")
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "image/x-mvm"


@pytest.mark.skipif(shutil.which("file") is None, reason="file(1) is not installed")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"photometric": 1, "bits": 16, "signed": True}, "gray, 16-bit, signed, rate index 18"),
        ({"photometric": 2}, "RGB, 8-bit, rate index 18, model mvmic-9c"),
        ({"photometric": 3}, "RGB, 8-bit, rate index 18, model mvmic-9g"),
        ({"rate_index": 63, "frames": 2}, "gray, 8-bit, rate index 63, model mvmic-9g"),
        ({"version": 2}, "version 2, gray, 8-bit, rate index 18, model mvmic-9g"),
        ({"alpha": True}, "gray, 8-bit, transparency, rate index 18, model mvmic-9g"),
        (INDEXED | {"bits": 1, "hi": 1}, "version 3, gray, 1-bit, indexed\n"),
        (INDEXED | {"photometric": 2, "alpha": True}, "RGB, 8-bit, transparency, indexed\n"),
        *(({"bits": bits, "hi": 1}, f"gray, {bits}-bit, rate") for bits in range(1, 17)),
    ],
)
def test_magic_rule_for_every_kind(tmp_path, header, change, words):
    path = tmp_path / "file"
    path.write_bytes(container.MAGIC + chunks.pack(container.HEAD, pack(replace(header, **change))))
    command = ["file", "--brief", "-m", str(FORMATS / "mvm.magic"), str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert words in said
