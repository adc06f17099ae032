"""formats/ says what container.py does."""

import codecs
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import fields
from pathlib import Path

import pytest

from mvmic_codec import container
from mvmic_codec.container import Header

FORMATS = Path(__file__).parents[2] / "formats"
TEXT = (FORMATS / "mvm-1.md").read_text(encoding="utf-8")
EXAMPLE = b"".join(
    bytes.fromhex(line[9:47])
    for line in TEXT[TEXT.index("## Example") :].splitlines()
    if re.match(r" {4}[ \d]{3}  [0-9a-f]{2} ", line)
)


def test_example_is_what_is_written(header):
    assert container.write(header, [b"payload bytes"], {}) == EXAMPLE
    assert container.read(EXAMPLE).header == header


def test_head_table_has_the_fields_in_order():
    rows = re.findall(r"^\| (\d+) +\| `(\w+)` +\| (u8|u16|u32|i32|8 bytes) +\|", TEXT, re.MULTILINE)
    assert [name for _, name, _ in rows if name != "flags"] == [f.name for f in fields(Header)]
    sizes = {"u8": 1, "u16": 2, "u32": 4, "i32": 4, "8 bytes": 8}
    at = 0
    for offset, _, kind in rows:
        assert int(offset) == at
        at += sizes[kind]
    assert at == 42


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
    assert "5 x 3, gray, 8-bit, rate index 18, model fake" in said
    command.insert(1, "--mime-type")
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "image/x-mvm"
