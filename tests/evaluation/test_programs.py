"""BPG and VVC through stand-ins: scripts that check how they are called and then keep the image."""

import os
import sys

import numpy as np
import pytest
from PIL import Image

from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.evaluation import evaluate
from mvmic_codec.evaluation.peers import peer

BPGENC = """
*options, qp, o, out, source = sys.argv[1:]
assert options == "-e x265 -m 9 -f 444 -q".split(), options
assert o == "-o" and 22 <= int(qp) <= 48
with open(source, "rb") as file, open(out, "wb") as copy:
    data = file.read()
    assert data[1:4] == b"PNG"
    copy.write(b"BPG" + data + bytes(50 - int(qp)))
"""

BPGDEC = """
o, out, source = sys.argv[1:]
assert o == "-o"
with open(source, "rb") as file, open(out, "wb") as copy:
    data = file.read()
    assert data[:3] == b"BPG"
    copy.write(data[3:].rstrip(b"\\0"))
"""

VVENC = """
options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
chroma = {"400": 1, "420": 1.5}[options["--InputChromaFormat"]]
width, height = options["--Size"].split("x")
with open(options["--InputFile"], "rb") as file:
    data = file.read()
assert len(data) == 2 * chroma * int(width) * int(height), len(data)
for name, value in {
    "--InputBitDepth": "10",
    "--InternalBitDepth": "10",
    "--FramesToBeEncoded": "1",
    "--preset": "slower",
    "--PerceptQPA": "0",
    "--Threads": "1",
}.items():
    assert options[name] == value, name
assert 22 <= int(options["--QP"]) <= 47
with open(options["--BitstreamFile"], "wb") as file:
    file.write(f"VVC W{width} H{height}\\n".encode() + data)
"""

VVDEC = """
options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
assert options["--threads"] == "1"
assert options["--output"].endswith(".y4m")
with open(options["--bitstream"], "rb") as file:
    name, *sizes = file.readline().decode().split()
    data = file.read()
assert name == "VVC"
with open(options["--output"], "wb") as file:
    # It calls luma alone 4:2:0, as some versions do.
    file.write(f"YUV4MPEG2 {' '.join(sizes)} F1:1 Ip C420p10\\nFRAME\\n".encode() + data)
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Puts a script on the PATH, before all else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(**scripts):
        for name, script in scripts.items():
            path = folder / name
            path.write_text(f"#!{sys.executable}\nimport sys\n{script}")
            path.chmod(0o755)

    return put


def picture(colour):
    y, x = np.mgrid[0:48, 0:64]
    gray = 120 + 60 * np.sin(x / 9) + 50 * np.cos(y / 11)
    planes = [gray, 0.9 * gray, 0.5 * gray + x / 3]
    return Image.fromarray((np.dstack(planes) if colour else gray).astype(np.uint8))


@pytest.mark.parametrize("colour", [False, True])
def test_bpg_keeps_the_image(programs, colour):
    programs(bpgenc=BPGENC, bpgdec=BPGDEC)
    codec, image = peer("bpg"), picture(colour)
    (settings,) = codec.curves(not colour)
    labels = [setting.label for setting in settings]
    assert labels == ["48", "45", "42", "39", "36", "33", "30", "26", "22"]
    files = [setting.encode(image) for setting in settings]
    assert len(set(map(len, files))) == len(files)
    decoded = codec.decode(files[0])
    assert decoded.mode == image.mode
    np.testing.assert_array_equal(decoded, image)


def test_vvc_keeps_a_gray_image(programs):
    programs(vvencFFapp=VVENC, vvdecapp=VVDEC)
    codec = peer("vvc")
    (settings,) = codec.curves(True)
    assert [setting.label for setting in settings] == ["47", "42", "37", "32", "27", "22"]
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    for image in (ramp, picture(False), picture(False).crop((0, 0, 33, 21))):
        decoded = codec.decode(settings[0].encode(image))
        assert decoded.mode == "L"
        np.testing.assert_array_equal(decoded, image)


def test_vvc_keeps_colour_but_for_what_halved_chroma_loses(programs):
    programs(vvencFFapp=VVENC, vvdecapp=VVDEC)
    codec, image = peer("vvc"), picture(True)
    decoded = codec.decode(codec.curves(False)[0][0].encode(image))
    assert decoded.mode == "RGB"
    assert np.abs(np.asarray(decoded, int) - np.asarray(image, int)).max() <= 3
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (10, 90, 200)):
        flat = Image.new("RGB", (16, 16), colour)
        decoded = codec.decode(codec.curves(False)[0][0].encode(flat))
        assert np.abs(np.asarray(decoded, int) - np.asarray(flat, int)).max() <= 1


def test_vvc_codes_luma_of_bt709_and_full_range(programs):
    programs(vvencFFapp=VVENC, vvdecapp=VVDEC)
    red = peer("vvc").curves(False)[0][0].encode(Image.new("RGB", (4, 4), (255, 0, 0)))
    samples = np.frombuffer(red.partition(b"\n")[2], "<u2")
    luma, cb, cr = samples[0], samples[16], samples[20]
    assert luma == round(0.2126 * 1023)
    assert cb == round((0.5 - 0.2126 / 1.8556) * 1023) and cr == 1023


def test_vvc_refuses_colour_with_odd_sides(programs):
    programs(vvencFFapp=VVENC, vvdecapp=VVDEC)
    with pytest.raises(InputError, match="even sides"):
        peer("vvc").curves(False)[0][0].encode(Image.new("RGB", (15, 16)))


@pytest.mark.parametrize(
    "name, scripts, missing",
    [
        ("bpg", {}, "bpgenc"),
        ("bpg", {"bpgenc": BPGENC}, "bpgdec"),
        ("vvc", {}, "vvencFFapp"),
        ("vvc", {"vvencFFapp": VVENC}, "vvdecapp"),
    ],
)
def test_a_missing_program_is_named_with_its_remedy(programs, monkeypatch, name, scripts, missing):
    programs(**scripts)
    monkeypatch.setenv("PATH", os.environ["PATH"].partition(os.pathsep)[0])
    with pytest.raises(InputError, match=f"{missing} is not on the PATH; install .*--peers-dir"):
        peer(name)


def test_what_a_program_says_is_the_error(programs):
    failing = "sys.exit('first line\\nno such preset')"
    programs(bpgenc=failing, bpgdec=BPGDEC, vvencFFapp="sys.exit(3)", vvdecapp="")
    with pytest.raises(MvmError, match="^bpgenc failed: no such preset$"):
        peer("bpg").curves(True)[0][0].encode(picture(False))
    with pytest.raises(MvmError, match="^vvencFFapp failed: exit 3$"):
        peer("vvc").curves(True)[0][0].encode(picture(False))
    with pytest.raises(MvmError, match="^vvdecapp ended well and wrote nothing$"):
        peer("vvc").decode(b"data")


def test_a_frame_of_another_size_is_an_error(programs):
    programs(vvencFFapp=VVENC, vvdecapp=VVDEC)
    with pytest.raises(MvmError, match="wrote 5 samples for 4x3 pixels"):
        peer("vvc").decode(b"VVC W4 H3\n" + bytes(10))
    with pytest.raises(MvmError, match="wrote 5 samples for 0x0 pixels"):
        peer("vvc").decode(b"VVC\n" + bytes(10))


def test_rows_of_a_program(programs, tmp_path):
    programs(bpgenc=BPGENC, bpgdec=BPGDEC)
    (tmp_path / "set").mkdir()
    picture(False).save(tmp_path / "set" / "a.png")
    codec = peer("bpg")
    evaluate.warm_up(codec)
    rows = evaluate.evaluate(tmp_path / "set" / "a.png", codec)
    assert len(rows) == 9 and {row.max_error for row in rows} == {0}
