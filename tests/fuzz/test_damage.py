"""Damaged golden files: refused by a named error, soon, in little memory; never other pixels."""

import dataclasses
import io
import json
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import one_tile
import pytest
import torch
from fuzz.check_file import REFUSALS, mended
from PIL import Image
from slow import first_is_quick

import mvmic_codec
from mvmic_codec.bitstream import chunks, container
from mvmic_codec.bitstream.grid import hyper_size
from mvmic_codec.bitstream.header import pack as pack_header
from mvmic_codec.bitstream.symbols import Pass, pack
from mvmic_codec.decoder import decode
from mvmic_codec.encoder import trellis
from mvmic_codec.errors import MvmError
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.integer import to_uint8
from mvmic_codec.model.loaded import load

# Files that declare much are what this is about.
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

GOLDEN = Path(__file__).parents[2] / "formats/golden"
FILES = {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.mvm"))}
# Of each kind of payload one, which the quick tests take; then all others.
NAMES = ["gray", "flat-blends-colour"]
NAMES += [name for name in FILES if name not in NAMES]
FLIPS = 100_000
SECONDS = 1.0
MIB = 1 << 20
HEAD_PAYLOAD = 16


@pytest.fixture(scope="module", autouse=True)
def loaded_models():
    """Loading them is not part of what may take a second, nor is that threads wait for each other.

    On a busy machine they do that most of the time, and it counts as time of this process.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in ("gray", "colour"):
        mvmic_codec.decode(FILES[name], device="cpu")
    yield
    torch.set_num_threads(before)


def load_with_pillow(data):
    with Image.open(io.BytesIO(data), formats=["MVM"]) as image:
        for frame in range(image.n_frames):
            image.seek(frame)
            image.load()


def check(data):
    container.Reader(data).check()


def ways_of(name, number):
    """How damaged files are read. Of several tiles some are decoded each time: one in 20 does."""
    if container.read_header(FILES[name]).count == 1 or number % 20 == 0:
        return (check, MvmError), (load_with_pillow, REFUSALS)
    return ((check, MvmError),)


def refused(data, ways):
    """No way of reading gives anything but an error that is meant for it."""
    for read, errors in ways:
        start = time.process_time()
        try:
            read(data)
        except errors:
            # Of this process alone, so that a busy machine does not count.
            assert time.process_time() - start < SECONDS
        else:
            return False
    return True


def head_end(data):
    return 8 + 12 + struct.unpack_from("<I", data, 8)[0]


def flipped(data, bit):
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@pytest.mark.parametrize("name", first_is_quick(NAMES))
def test_truncation_at_every_byte(name):
    for size in range(len(FILES[name])):
        assert refused(FILES[name][:size], ways_of(name, size)), (
            f"the first {size} bytes are taken for a file"
        )


@pytest.mark.parametrize("name", first_is_quick(NAMES))
def test_random_bit_flips(name):
    """100,000 over all files."""
    data = FILES[name]
    draw = random.Random(name)
    for number in range(-(-FLIPS // len(FILES))):
        bit = draw.randrange(8 * len(data))
        assert refused(flipped(data, bit), ways_of(name, number)), f"bit {bit} may be turned"


def decoded(data, decode=mvmic_codec.decode):
    """The image, or None where it is refused."""
    start = time.process_time()
    try:
        return decode(data, device="cpu")
    except MvmError:
        return None
    finally:
        assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("name", first_is_quick(NAMES))
def test_flips_after_which_the_chunks_checksums_are_mended(name):
    """What the lanes do not notice, the checksums of symbols, flat areas and planes do."""
    data = FILES[name]
    sound = decoded(data, mvmic_codec.decode_array).tobytes()
    draw = random.Random(name)
    parts = coded_parts(data)
    for start, end in parts:
        # Of a file of many tiles all is decoded each time.
        for _ in range(-(-200 // len(parts))):
            bit = draw.randrange(8 * start, 8 * end)
            found = decoded(mended(flipped(data, bit)), mvmic_codec.decode_array)
            assert found is None or found.tobytes() == sound, f"bit {bit} gives other pixels"


def coded_parts(data):
    """From where to where payloads of tiles are coded; lists of levels and of values are not."""
    header, parts, at = container.read_header(data), [], 8
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        kind, start, at = data[at + 4 : at + 8], at + 8, at + 12 + length
        if kind == container.ALPHA and data[start] < 255:
            start += 2 + data[start]
        elif kind == container.ALPHA:
            start += 1
        if kind == container.OUTLIERS:
            start += 1 + (1 + data[start]) * (1 + (header.bits > 8))
        if kind in container.TILE:
            parts.append((start, at - 4))
    return parts


HEADS = ["gray", "colour", "gray-signed", "metadata", "plain-gray", "tiles", "alpha", "bits"]
HEADS += ["palette", "outliers", "series"]


@pytest.mark.parametrize("name", first_is_quick(HEADS))
def test_every_bit_of_the_header_with_its_checksum_mended(name):
    """Another header is another file: decoded as it says, or refused."""
    data = FILES[name]
    header = container.read_header(data)
    sound = np.asarray(decoded(data))
    taken = set()
    for bit in range(8 * HEAD_PAYLOAD, 8 * (head_end(data) - 4)):
        damaged = mended(flipped(data, bit))
        image = decoded(damaged)
        if image is None:
            continue
        other = container.read_header(damaged)
        changed = {
            field.name
            for field in dataclasses.fields(header)
            if getattr(header, field.name) != getattr(other, field.name)
        }
        taken |= changed
        assert image.size == (other.width, other.height) and image.mode == other.mode
        if changed <= {"width", "height", "photometric", "generation"}:
            found = np.asarray(image)
            rows, columns = np.minimum(found.shape[:2], sound.shape[:2])
            np.testing.assert_array_equal(found[:rows, :columns], sound[:rows, :columns])
    # Only what does not change how symbols are coded can be changed unnoticed.
    kept = {"version", "bits", "signed", "photometric", "generation", "width", "height", "lo", "hi"}
    assert taken <= kept and ("generation" in taken) != header.indexed


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_what_declares_much_and_holds_little_is_refused_at_once(tmp_path):
    gray = FILES["gray"]
    header, payload = container.read_header(gray), one_tile.read(gray).payload

    def declaring(width, height, payload, flat=None):
        return one_tile.write(
            dataclasses.replace(header, width=width, height=height), payload, {}, flat
        )

    def tiled(chunk_of_lengths, alpha=None, **fields):
        """A file of version 3 that ends after its first tile."""
        given = dataclasses.replace(header, version=3, alpha=alpha is not None, **fields)
        head = container.MAGIC + chunks.pack(container.HEAD, pack_header(given))
        first = chunks.pack(container.DATA, payload)
        if alpha is not None:
            first = chunks.pack(container.ALPHA, alpha) + first
        return head + chunk_of_lengths + first

    large = {"width": 16384, "height": 10000}
    lengths = struct.pack("<I", 2**32 - 1)
    head, data = gray[: head_end(gray)], gray[head_end(gray) :]
    hostile = {
        "large": declaring(16384, 10000, payload),
        "large-empty": declaring(16384, 10000, b"\1" + bytes(4)),
        "thin": declaring(1, 2_790_000, payload),
        "flat": declaring(2_790_000, 1, payload),
        "large-and-flat": declaring(16384, 10000, payload, b"\1\0" + bytes(4)),
        "over-the-limit": declaring(2**31 - 1, 2**31 - 1, payload),
        "head-length": gray[:8] + lengths + gray[12:],
        "lane-words": declaring(90, 70, b"\2" + lengths + payload[1:]),
        "data-length": head + lengths + data[4:],
        "text-length": head + lengths + b"teXT" + data[8:],
        "unknown-length": head + lengths + b"newS" + data[8:],
        "frames-of-nothing": tiled(chunks.pack(b"SEEK", bytes(4_000_000)), frames=1_000_000),
        "frames-of-4-GiB": tiled(chunks.pack(b"SEEK", lengths * 1_000_000), frames=1_000_000),
        "frames-without-lengths": tiled(chunks.pack_start(b"SEEK", 2**26), frames=2**24),
        "large-tile": tiled(chunks.pack(b"SEEK", lengths * 2), tile=9984, width=9984, height=10000),
        "large-and-transparent": tiled(b"", alpha=b"\0\0" + bytes(4), **large),
        "large-and-opaque": tiled(b"", alpha=b"\1\0\xff" + bytes(4), **large),
    }
    paths = []
    for name, data in hostile.items():
        assert decoded(data) is None
        with pytest.raises(REFUSALS):
            load_with_pillow(data)
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
    # 64 MiB and 4 bytes for every pixel are allowed; none of these needs even the first.
    grown = growth(paths)
    assert grown < 64 * MIB, f"{grown / MIB:.0f} MiB"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_large_image_that_ends_after_its_hyper_latent(tmp_path):
    """All that can be done before the first symbol at 1/16 is done for it."""
    width, height = 16384, 10000
    header = container.read_header(FILES["gray"])
    release = load(header.fingerprint, "cpu")
    passes = []

    def zero(index, mean):
        passes.append(Pass(np.zeros(index.numel(), np.int16), to_uint8(index)))
        return index * 0

    release.entropy.code_hyper(header.rate_index, *hyper_size((height, width)), zero)
    z = pack(passes, release.tables)
    path = tmp_path / "large.mvm"
    path.write_bytes(one_tile.write(dataclasses.replace(header, width=width, height=height), z, {}))
    grown = growth([path])
    assert grown < 64 * MIB + 4 * width * height, f"{grown / MIB:.0f} MiB"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize(("name", "most"), [("gray", 7), ("colour", 12)])
def test_memory_by_pixel_of_what_is_decoded(monkeypatch, tmp_path, name, most):
    """What more rows take: all else is the same however large an image is."""
    held = []
    for height in (1024, 5120):
        header = dataclasses.replace(container.read_header(FILES[name]), width=512, height=height)
        release = load(header.fingerprint, "cpu")
        wild = Wild(0, 0)
        with monkeypatch.context() as patch, full_precision(release.device):
            patch.setattr(decode, "Unpacker", lambda payload, tables, wild=wild: wild)
            decode.decode_symbols(release, b"", header.rate_index, (height, 512))
        path = tmp_path / f"{height}.mvm"
        path.write_bytes(one_tile.write(header, pack(wild.passes, release.tables), {}))
        child = subprocess.run(
            [sys.executable, "-c", DECODING, GOLDEN / f"{name}.mvm", path],
            capture_output=True,
            text=True,
            check=True,
            # Of the GNU C library: what is freed is given back, so that it is not counted.
            env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        )
        held.append(json.loads(child.stdout))
    by_pixel = (held[1] - held[0]) / (512 * 4096)
    assert by_pixel < most, f"{by_pixel:.1f} bytes a pixel"


def growth(paths):
    """Bytes by which a process grows that is given files to refuse."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, GOLDEN / "gray.mvm", *paths],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(child.stdout)


# After a first file, which loads the model. The kernel forgets the peak of that, under which
# something could hide.
FROM_HERE = """
import pathlib
mvmic_codec.decode(sys.argv[1], device="cpu")
def kilobytes(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
pathlib.Path("/proc/self/clear_refs").write_text("5")
held = kilobytes("VmRSS")
"""

# The most that memory grew while a file was decoded, in stripes of a fourth of a megapixel.
DECODING = f"""
import sys
import mvmic_codec, mvmic_codec.decoder.reconstruct, torch
torch.set_num_threads(1)
mvmic_codec.decoder.reconstruct.STRIPE_BLOCKS = 1024
{FROM_HERE}
mvmic_codec.decode(sys.argv[2], device="cpu")
print(1024 * (kilobytes("VmHWM") - held))
"""

# The most that memory grew while all files were refused.
CHILD = f"""
import sys, warnings
import mvmic_codec
warnings.simplefilter("ignore")
{FROM_HERE}
for path in sys.argv[2:]:
    try:
        mvmic_codec.decode(path, device="cpu")
    except mvmic_codec.MvmError:
        continue
    sys.exit(path + " was decoded")
print(1024 * (kilobytes("VmHWM") - held))
"""


class Wild:
    """In place of an Unpacker: any symbols at all, or the nearest levels of dependent passes."""

    def __init__(self, seed, spread):
        self.draw = np.random.default_rng(seed)
        self.spread = spread
        self.passes = []

    def next(self, indices, second=0):
        drawn = np.round(self.draw.standard_cauchy(len(indices)) * self.spread)
        symbols = np.clip(drawn, -32768, 32767).astype(np.int16)
        symbols[indices == 0] = 0
        coded = indices > 0
        if second:
            wanted, price = symbols[coded].astype(float), np.ones(np.count_nonzero(coded))
            free = np.zeros((256, 1), np.float32)
            symbols[coded] = trellis.quantise(wanted, indices[coded], price, free, 1.0, second)
        self.passes.append(Pass(symbols, indices.copy(), second))
        return symbols

    def finish(self):
        pass


@pytest.mark.parametrize("name", ["gray", "colour", "gray-signed"])
@pytest.mark.parametrize("spread", first_is_quick([30, 0.3, 1e5]))
def test_any_symbols_that_are_coded_soundly_are_an_image(monkeypatch, name, spread):
    header = container.read_header(FILES[name])
    tables = load(header.fingerprint, "cpu").tables
    for rate in (0, 31, 63):
        wild = Wild(rate, spread)
        header = dataclasses.replace(header, rate_index=rate)
        with monkeypatch.context() as patch:
            patch.setattr(decode, "Unpacker", lambda payload, tables, wild=wild: wild)
            drawn = decoded(one_tile.write(header, b"", {}))
        again = decoded(one_tile.write(header, pack(wild.passes, tables), {}))
        assert drawn.size == again.size == (header.width, header.height)
        assert drawn.tobytes() == again.tobytes()
