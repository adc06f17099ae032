"""formats/ says what container.py does."""

import codecs
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import fields, replace
from pathlib import Path

import pytest

from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.container import Header

FORMATS = Path(__file__).parents[2] / "formats"
TEXT = (FORMATS / "mvm-2.md").read_text(encoding="utf-8")
EXAMPLE = b"".join(
    bytes.fromhex(line[9:47])
    for line in TEXT[TEXT.index("## Example") :].splitlines()
    if re.match(r" {4}[ \d]{3}  [0-9a-f]{2} ", line)
)


def test_example_is_what_is_written(header):
    header = replace(header, bits=12, generation=1, width=300, hi=1000)
    assert container.write(header, b"payload bytes", {}) == EXAMPLE
    assert container.read(EXAMPLE).header == header


def test_head_table_has_the_fields_in_order():
    rows = re.findall(r"^\| (\d*) +\| `(\w+)` +\| ([^|]+?) +\|", TEXT, re.MULTILINE)
    assert [name for _, name, _ in rows if name != "ranged"] == [f.name for f in fields(Header)]
    offsets = [0, 1, 2, 2, 2, 2, 3, 4, 12]
    assert [int(offset) for offset, _, _ in rows if offset] == offsets
    kinds = ["u8", "u8", "bits 0, 1", "bit 2", "bit 3", "bits 4 to 7", "u8", "8 bytes"]
    assert [kind for _, _, kind in rows] == [*kinds, "varint", "varint", "i32", "i32"]


def test_varints_of_the_specification(header):
    rows = re.findall(r"^\| (\d+|2\^31 - 2) +\| ((?:[0-9a-f]{2} )+) *\|", TEXT, re.MULTILINE)
    assert len(rows) == 6
    for value, code in rows:
        width = (2**31 - 2 if "^" in value else int(value)) + 1
        file = container.write(replace(header, width=width), b"", {})
        assert file[28:].startswith(bytes.fromhex(code))
        assert container.read_header(file).width == width


def test_every_chunk_type_is_described():
    for kind in (container.HEAD, container.DATA, *container.METADATA):
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
    assert "version 2, gray, 12-bit, rate index 18, model mvmic-1g" in said
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
        *(({"bits": bits, "hi": 1}, f"gray, {bits}-bit, rate") for bits in range(1, 17)),
    ],
)
def test_magic_rule_for_every_kind(tmp_path, header, change, words):
    path = tmp_path / "file"
    path.write_bytes(container.write(replace(header, **change), b"", {}))
    command = ["file", "--brief", "-m", str(FORMATS / "mvm.magic"), str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert words in said
