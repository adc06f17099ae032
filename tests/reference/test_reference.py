"""formats/reference/decode.py, written from the specification, and the package: one format."""

import ast
import functools
import re
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import codec
import decode as reference
import numpy as np
import one_tile
import pytest
from PIL import Image
from skimage import data
from slow import first_is_quick

import mvmic_codec
from mvmic_codec.bitstream import ans, container, flat, grid, overlays, plane
from mvmic_codec.bitstream.header import GRAY_RGB, Header
from mvmic_codec.bitstream.header import pack as pack_header
from mvmic_codec.bitstream.symbols import Unpacker, pack
from mvmic_codec.decoder import decode, reconstruct
from mvmic_codec.decoder.paint import paint
from mvmic_codec.encoder import flat_fill
from mvmic_codec.errors import FormatError
from mvmic_codec.image import samples
from mvmic_codec.model.definition import SECOND
from mvmic_codec.model.identity import GENERATION, model_identity

FORMATS = Path(__file__).parents[2] / "formats"
ALONE = (False, False, False, False)
CASES = [
    ("L", (70, 90), 27),
    ("L", (1, 1), 63),
    ("L", (130, 66), 9),
    ("RGB", (70, 90), 63),
    ("RGB", (67, 129), 0),
    ("equal", (33, 65), 27),
    ("I;16", (70, 90), 63),
    ("signed", (16, 100), 40),
]


@pytest.fixture(scope="module")
def models():
    return reference.load_models(reference.installed_models())


@pytest.fixture(scope="module")
def model(models):
    """One of them, for tests of its parts."""
    return models[model_identity(gray=True)[1]]


def picture(mode, size):
    """A piece of a photograph: uint8, or 16 bits over their whole range."""
    rows, columns = size
    colour = data.astronaut()[40 : 40 + rows, 180 : 180 + columns]
    if mode == "RGB":
        return colour
    gray = colour[:, :, 1]
    if mode == "equal":
        return np.repeat(gray[:, :, None], 3, axis=2)
    if mode == "L":
        return gray
    deep = colour.astype(np.float64) @ [0.3, 0.5, 0.2]
    deep = np.rint((deep - deep.min()) / np.ptp(deep) * 65535)
    return (deep - 32768).astype(np.int16) if mode == "signed" else deep.astype(np.uint16)


@functools.cache
def coded(mode="L", size=(70, 90), rate=27):
    return mvmic_codec.encode(picture(mode, size), rate_index=rate, device="cpu")


class Recorder(Unpacker):
    """The package's own unpacker, which keeps every pass."""

    def __init__(self, payload, tables):
        super().__init__(payload, tables)
        self.passes = []

    def next(self, indices, second=0):
        symbols = super().next(indices, second)
        self.passes.append((symbols, indices))
        return symbols


def package_decode(file, monkeypatch, hidden=None):
    """Passes (symbols, table indices), latent, modes and samples as the package has them.

    The samples are not painted yet.
    """
    recorders = []

    def record(payload, tables):
        recorders.append(Recorder(payload, tables))
        return recorders[-1]

    monkeypatch.setattr(decode, "Unpacker", record)
    whole = one_tile.read(file)
    header = whole.header
    size, rate = (header.height, header.width), header.rate_index
    model = decode.model_of_file(header)
    latent, modes = decode.decode_symbols(model, whole.payload, rate, size, hidden)
    samples = reconstruct.reconstruct(
        model.synthesis, latent, modes, rate, size, decode.levels_of(header)
    )
    return recorders[0].passes, latent.transpose(2, 0, 1), modes, samples


@pytest.mark.parametrize("name", ["gray-of-a-model-for-colour", "colour-of-a-model-for-gray"])
def test_a_model_for_other_images_is_refused(models, name):
    """By its kind and not by what its symbols happen to be."""
    data = (FORMATS / "errors" / f"{name}.mvm").read_bytes()
    with pytest.raises(reference.FormatError, match="the model is not for such images"):
        reference.decode(data, models)
    with pytest.raises(mvmic_codec.FormatError, match="the model that it names is for"):
        mvmic_codec.decode(data, device="cpu")


@pytest.mark.parametrize(("mode", "size", "rate"), CASES)
def test_same_symbols_and_samples(models, monkeypatch, mode, size, rate):
    file = coded(mode, size, rate)
    ours = reference.decode(file, models)
    passes, latent, modes, _ = package_decode(file, monkeypatch)
    assert len(ours.passes) == len(passes) == 17
    for symbols, (expected, _) in zip(ours.passes, passes, strict=True):
        assert symbols.dtype == np.int16 and np.array_equal(symbols, expected)
    assert np.array_equal(ours.only.latent.y3, latent)
    assert np.array_equal(ours.only.latent.modes, modes)
    image = np.asarray(mvmic_codec.decode(file, device="cpu"))
    assert ours.samples.dtype == picture(mode, size).dtype
    assert ours.samples.shape == image.shape == picture(mode, size).shape
    assert np.array_equal(ours.samples, image)


def test_the_cases_are_not_trivial(models):
    ours = reference.decode(coded("RGB", (150, 170), 63), models)
    assert all(symbols.any() for symbols in ours.passes)
    assert len(np.unique(ours.only.latent.modes)) > 3
    assert ours.samples.std() > 20


def test_it_stands_alone():
    """No line of the package is in it, nor of any library that the package decodes with."""
    tree = ast.parse((FORMATS / "reference/decode.py").read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "constriction"}


# --- Flat areas of form 2 ------------------------------------------------------------------------

FLAT_CASES = [
    ("L", (150, 170), 27, [[0], [255]]),
    ("L", (64, 64), 0, [[0], [130]]),
    ("L", (97, 33), 63, [[3], [255], [77], [78], [0], [9], [250], [1]]),
    ("RGB", (150, 170), 36, [[0, 0, 0], [255, 240, 9]]),
    ("RGB", (65, 129), 63, [[16, 17, 18]]),
    ("equal", (130, 100), 40, [[12], [255]]),
    ("I;16", (150, 101), 45, [[0], [65535], [700]]),
    ("signed", (90, 170), 50, [[-32768], [32767]]),
]


def areas_of(size, colours, seed):
    """Flat areas of all sizes, each from a place of its own, and blends on every edge."""
    rng = np.random.default_rng(seed)
    map = np.zeros(size, np.uint8)
    map[:29] = 1
    for number in range(12):
        row, column = rng.integers(0, size)
        high, wide = rng.choice([1, 3, 23, 24, 25, 41], 2)
        map[row : row + high, column : column + wide] = 1 + number % len(colours)
    blends = rng.integers(0, 4, size).astype(np.uint8)
    blends[flat.beside(map) == 0] = 0
    return flat.Flat(np.array(colours, np.int32), map, blends)


def form_2(mode, size, rate, colours, seed):
    """A file with flat areas of form 2, and these."""
    areas = areas_of(size, colours, seed)
    given = samples.from_array(picture(mode, size))
    colour = mode == "RGB"
    _, fingerprint = model_identity(gray=not colour)
    header = Header(
        rate_index=rate,
        photometric=GRAY_RGB if mode == "equal" else 2 * colour,
        signed=given.signed,
        bits=given.bits,
        generation=GENERATION,
        fingerprint=fingerprint,
        width=size[1],
        height=size[0],
        lo=given.lo,
        hi=given.hi,
    )
    planes = flat_fill.fill(given.planes if colour else given.planes[:1], areas.hidden)
    payload = codec.encode_planes(planes, rate, hidden=areas.hidden, device="cpu")
    areas_payload = flat.to_payload(areas, given.bits, given.signed)
    return one_tile.write(header, payload, {}, areas_payload), areas


@pytest.mark.parametrize(("mode", "size", "rate", "colours"), FLAT_CASES)
def test_hidden_sites_and_blends(models, monkeypatch, mode, size, rate, colours):
    file, areas = form_2(mode, size, rate, colours, seed=rate)
    ours = reference.decode(file, models)
    found = ours.only.flat
    hidden = reference.hidden_sites(found.covered, ALONE)
    assert hidden.any() and not hidden.all()
    assert np.array_equal(found.m, areas.map)
    assert np.array_equal(found.b, areas.blends) and set(areas.blends.flat) == {0, 1, 2, 3}
    passes, latent, modes, image = package_decode(file, monkeypatch, areas.hidden)
    for symbols, (expected, _) in zip(ours.passes, passes, strict=True):
        assert np.array_equal(symbols, expected)
    assert np.array_equal(ours.only.latent.y3, latent)
    assert np.array_equal(ours.only.latent.modes, modes)
    paint(image, areas)
    if mode == "equal":
        image = image.repeat(3, axis=2)
    assert np.array_equal(ours.samples, image[:, :, 0] if image.shape[2] == 1 else image)
    assert np.array_equal(np.asarray(mvmic_codec.decode(file)), ours.samples)
    for number, colour in enumerate(colours, 1):
        assert (ours.samples[areas.map == number] == colour).all()


@pytest.mark.parametrize("extent", first_is_quick([24, 23, 25, 40]))
def test_hidden_sites_at_every_offset(extent):
    """A square of flat pixels anywhere: the same sites are coded, at the image's edges too."""
    size = (70, 75)
    found = set()
    for row, column in np.ndindex(48, 48):
        m = np.zeros(size, np.int64)
        m[row : row + extent, column : column + extent] = 1
        areas = reference.FlatAreas(2, np.zeros((1, 1), np.int64), m, np.zeros_like(m))
        out = reference.outside(size) | reference.hidden_sites(areas.covered, ALONE)
        expected = ~grid.coded_sites(size, m > 0)
        for k in range(4):
            assert np.array_equal(out[k], expected[k // 2 :: 2, k % 2 :: 2]), (row, column)
        found.add(int(expected.sum() - reference.outside(size).sum()))
        assert not reference.FlatAreas(1, areas.colours, m, areas.b).covered.any()
    # Up to 4 pixels around are as the site itself; beyond the image there are none.
    assert found == {23: {0, 1}, 24: {0, 1}, 25: {0, 1}, 40: {1, 2, 4}}[extent]


def test_examples_of_the_flat_areas():
    text = (FORMATS / "flat.md").read_text(encoding="utf-8")
    payloads = re.findall(r"`((?:[0-9a-f]{2} ){10,}[0-9a-f]{2})`", text)
    head = reference.Head(
        version=2,
        rate_index=18,
        photometric=0,
        signed=0,
        bits=8,
        generation=1,
        fingerprint=b"",
        width=4,
        height=3,
        lo=0,
        hi=255,
    )
    one, two = (reference.decode_flat(head, (3, 4), bytes.fromhex(each)) for each in payloads)
    assert (one.form, two.form) == (1, 2)
    for areas in (one, two):
        assert areas.m.tolist() == [[0, 0, 0, 1], [0, 2, 1, 1], [1, 1, 1, 1]]
        assert areas.colours.tolist() == [[0], [255]]
    assert not one.b.any()
    assert two.b.tolist() == [[0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0]]


FLAT_DAMAGES = {
    "no colours": ("FormatError", lambda payload, at: b"\x80" + payload[1:]),
    "nine colours": ("FormatError", lambda payload, at: b"\x89" + payload[1:]),
    "empty": ("TruncatedError", lambda payload, at: b""),
    "no words": ("TruncatedError", lambda payload, at: payload[:at]),
    "cut in the lane": ("TruncatedError", lambda payload, at: payload[: at + 8]),
    "checksum": ("ChecksumError", lambda payload, at: flipped(payload, at - 1)),
    "lane ends in 0": ("FormatError", lambda payload, at: lengthened(payload, at, bytes(4))),
    "a word more": ("FormatError", lambda payload, at: lengthened(payload, at, b"1234")),
    "blends end in 0": ("FormatError", lambda payload, at: payload + bytes(4)),
    "a word of blends more": ("FormatError", lambda payload, at: payload + b"1234"),
    "no blends": ("ChecksumError", lambda payload, at: payload[: words_end(payload, at)]),
    "not whole words": ("FormatError", lambda payload, at: payload + b"\1"),
}


def words_end(payload, at):
    return at + 4 + 4 * struct.unpack_from("<I", payload, at)[0]


def lengthened(payload, at, word):
    """The payload with one word more at the end of its lane."""
    end = words_end(payload, at)
    (words,) = struct.unpack_from("<I", payload, at)
    return (
        payload[:at] + struct.pack("<I", words + 1) + payload[at + 4 : end] + word + payload[end:]
    )


@pytest.mark.parametrize("name", FLAT_DAMAGES)
def test_damaged_flat_areas_are_refused_alike(name):
    expected, damage = FLAT_DAMAGES[name]
    file, areas = small_form_2()
    whole = one_tile.read(file)
    head = reference.read_file(file).head
    payload = damage(whole.flat, 1 + len(areas.colours) + 4)
    with pytest.raises(reference.MvmError) as ours:
        reference.decode_flat(head, (64, 64), payload)
    with pytest.raises(mvmic_codec.MvmError) as theirs:
        flat.from_payload(payload, whole.header)
    classes = [caught.type.__name__ for caught in (ours, theirs)]
    # A lane that is not whole words may be called cut or wrong.
    assert classes == [expected] * 2 or (
        expected == "FormatError" and set(classes) <= {"FormatError", "TruncatedError"}
    )


@functools.cache
def small_form_2():
    return form_2("L", (64, 64), 0, [[0], [130]], seed=0)


# --- Lanes ----------------------------------------------------------------------------------------


def make_payload(passes, tables, lanes):
    """As `mvmic_codec.bitstream.symbols.pack`, but with a number of lanes of our choice."""
    words = ans.encode(passes, tables, lanes)
    crc = zlib.crc32(b"".join(symbols.astype("<i2").tobytes() for symbols, _ in passes))
    lengths = [len(lane) // 4 for lane in words[:-1]]
    return struct.pack(f"<B{lanes}I", lanes, *lengths, crc) + b"".join(words)


@pytest.mark.parametrize("lanes", [1, 2, 4, 8])
def test_lanes_escapes_and_every_table(model, lanes):
    rng = np.random.default_rng(lanes)
    passes = []
    for count in (500, 1, 0, 700):
        index = rng.integers(0, 159, count)
        symbols = np.rint(rng.laplace(size=count) * rng.choice([0.3, 3, 300, 3e4], count))
        symbols = np.clip(symbols, -32768, 32767) * (index > 0)
        passes.append((symbols.astype(np.int16), index.astype(np.uint8)))
    arrays = model.arrays
    tables = ans.Tables(arrays["entropy.table_half"].copy(), arrays["entropy.table_cdf"].copy())
    payload = reference.Payload(make_payload(passes, tables, lanes), model.tables)
    for symbols, index in passes:
        assert np.array_equal(payload.take(index.astype(np.int64)), symbols)
    payload.close()


@pytest.mark.parametrize("lanes", [1, 2, 4, 8])
@pytest.mark.parametrize("spread", [0.3, 3, 300, 3e4])
def test_dependent_passes(model, lanes, spread):
    """Also of numbers that no encoder writes: what is read has a meaning."""
    rng = np.random.default_rng(lanes)
    arrays = model.arrays
    tables = ans.Tables(arrays["entropy.table_half"].copy(), arrays["entropy.table_cdf"].copy())
    passes = []
    for count in (400, 1, 0, 300):
        index = rng.integers(0, 64, count).astype(np.uint8)
        numbers = np.rint(rng.laplace(size=count) * spread).clip(-32768, 32767) * (index > 0)
        # Which quantiser each had is not said here: of these numbers the first, at every place.
        passes.append((numbers.astype(np.int16), index))
    words = ans.encode(passes, tables, lanes)
    decoder = ans.Decoder(words, tables)
    lengths = [len(lane) // 4 for lane in words[:-1]]
    payload = reference.Payload(
        struct.pack(f"<B{lanes}I", lanes, *lengths, 0) + b"".join(words), model.tables
    )
    # Numbers come out that were never put in, until one of both finds the end of a lane.
    for _, index in passes:
        try:
            expected = decoder.decode(index, SECOND)
        except FormatError:
            with pytest.raises(reference.FormatError):
                payload.take(index.astype(np.int64), True)
            return
        assert np.array_equal(payload.take(index.astype(np.int64), True), expected)


def test_example_of_the_symbols():
    text = (FORMATS / "ans.md").read_text(encoding="utf-8")
    example = bytes.fromhex(re.search(r"The payload is `([0-9a-f ]+)`", text)[1])
    table = reference.build_table(0, np.array([0, 1024, 4096]))
    payload = reference.Payload(example, [None, table])
    assert payload.take(np.ones(3, np.int64)).tolist() == [0, 5, 0]
    payload.close()


def test_nothing_coded_is_five_bytes():
    payload = reference.Payload(pack([], ans.Tables(*no_tables())), [None])
    payload.take(np.zeros(0, np.int64))
    payload.close()


def no_tables():
    return np.array([0, 0], np.uint16), np.array([[0, 0, 0], [0, 1024, 4096]], np.uint16)


# --- The container --------------------------------------------------------------------------------


def chunk(kind, payload):
    crc = zlib.crc32(kind + payload)
    return struct.pack("<I4s", len(payload), kind) + payload + struct.pack("<I", crc)


HEAD_END = 34  # of a gray image of 8 bits whose sides take a byte each


def parts(file):
    """HEAD's and DATA's payload of a file without metadata."""
    head, data = file[8:HEAD_END], file[HEAD_END:]
    assert head[4:8] == b"HEAD" and data[4:8] == b"DATA"
    assert len(data) == 12 + struct.unpack_from("<I", data)[0]
    return head[8:-4], data[8:-4]


def rebuilt(head, *chunks):
    return reference.MAGIC + chunk(b"HEAD", head) + b"".join(chunks)


def with_field(file, offset, value):
    """The file with other bytes in HEAD and the checksum that belongs to them."""
    head, payload = parts(file)
    head = head[:offset] + value + head[offset + len(value) :]
    return rebuilt(head, chunk(b"DATA", payload))


def with_end(file, end, kind=0x70):
    """The file with other bytes for width, height and what follows them in HEAD."""
    head, payload = parts(file)
    return rebuilt(head[:2] + bytes([kind]) + head[3:12] + end, chunk(b"DATA", payload))


def ranged(file, lo, hi, kind=0x78):
    """The file with lo and hi in HEAD, by default of an image of 8 bits."""
    return with_end(file, parts(file)[0][12:] + struct.pack("<2i", lo, hi), kind)


def flipped(file, at):
    return file[:at] + bytes([file[at] ^ 0x10]) + file[at + 1 :]


def between(file, *chunks):
    """The file with chunks between HEAD and DATA."""
    head, payload = parts(file)
    return rebuilt(head, *chunks, chunk(b"DATA", payload))


DPI = chunk(b"dpIX", struct.pack("<2I", 300_000, 300_000))
DAMAGES = {
    "empty": ("TruncatedError", lambda file: b""),
    "half the magic": ("TruncatedError", lambda file: file[:5]),
    "another magic": ("FormatError", lambda file: b"\x89PNG" + file[4:]),
    "cut in HEAD": ("TruncatedError", lambda file: file[:24]),
    "cut before DATA": ("TruncatedError", lambda file: file[:HEAD_END]),
    "cut in DATA": ("TruncatedError", lambda file: file[:-20]),
    "cut by one": ("TruncatedError", lambda file: file[:-1]),
    "two bytes more": ("FormatError", lambda file: file + b"\0\0"),
    "a byte more": ("FormatError", lambda file: file + b"\1"),
    "second DATA": ("FormatError", lambda file: file + file[HEAD_END:]),
    "HEAD flipped": ("ChecksumError", lambda file: flipped(file, 24)),
    "DATA flipped": ("ChecksumError", lambda file: flipped(file, 90)),
    "checksum flipped": ("ChecksumError", lambda file: flipped(file, len(file) - 1)),
    "no HEAD": ("FormatError", lambda file: reference.MAGIC + file[HEAD_END:]),
    "second HEAD": ("FormatError", lambda file: between(file, file[8:HEAD_END])),
    "HEAD too long": ("FormatError", lambda file: rebuilt(parts(file)[0] + b"\0", file[HEAD_END:])),
    "HEAD far too long": ("FormatError", lambda file: rebuilt(bytes(256), file[HEAD_END:])),
    "HEAD too short": ("FormatError", lambda file: rebuilt(parts(file)[0][:13], file[HEAD_END:])),
    "HEAD is empty": ("FormatError", lambda file: rebuilt(b"", file[HEAD_END:])),
    "version 4": ("VersionError", lambda file: rebuilt(b"\4" + bytes(200), file[HEAD_END:])),
    "version 1": ("VersionError", lambda file: rebuilt(b"\1" + bytes(41), file[HEAD_END:])),
    "version 0": ("FormatError", lambda file: with_field(file, 0, b"\0")),
    "alpha": ("FormatError", lambda file: with_field(file, 1, b"\x40")),
    "form": ("FormatError", lambda file: with_field(file, 1, b"\x80")),
    "RGB of 16 bits": ("FormatError", lambda file: with_field(file, 2, b"\xf2")),
    "equal channels of 9 bits": ("FormatError", lambda file: with_field(file, 2, b"\x83")),
    "RGB signed": ("FormatError", lambda file: with_field(file, 2, b"\x76")),
    "equal channels, signed": ("FormatError", lambda file: with_field(file, 2, b"\x77")),
    "generation 0": ("FormatError", lambda file: with_field(file, 3, b"\0")),
    "varint of 6 bytes": ("FormatError", lambda file: with_end(file, b"\x80" * 5 + b"\1\0")),
    "varint with a 0": ("FormatError", lambda file: with_end(file, b"\xd9\0\x45")),
    "varint with 0s": ("FormatError", lambda file: with_end(file, b"\x59\xc5\x80\x80\x80\0")),
    "varint without end": ("FormatError", lambda file: with_end(file, b"\x59\xc5")),
    "no height": ("FormatError", lambda file: with_end(file, b"\x59")),
    "width 2^31": ("FormatError", lambda file: with_end(file, b"\xff\xff\xff\xff\7\0")),
    "height 2^31": ("FormatError", lambda file: with_end(file, b"\0\xff\xff\xff\xff\7")),
    "height 2^35": ("FormatError", lambda file: with_end(file, b"\0\xff\xff\xff\xff\x7f")),
    "too large": ("FormatError", lambda file: with_end(file, b"\xfe\xff\xff\xff\7" * 2)),
    "thin and long": ("FormatError", lambda file: with_end(file, b"\xff\xff\xff\7\0")),
    "bytes after height": ("FormatError", lambda file: with_end(file, b"\x59\x45" + bytes(8))),
    "no range": ("FormatError", lambda file: with_field(file, 2, b"\x78")),
    "half a range": ("FormatError", lambda file: with_end(file, b"\x59\x45\1\0\0\0", 0x78)),
    "range of all": ("FormatError", lambda file: ranged(file, 0, 255)),
    "range of all, signed": ("FormatError", lambda file: ranged(file, -128, 127, 0x7C)),
    "lo over hi": ("FormatError", lambda file: ranged(file, 2, 1)),
    "hi 256": ("FormatError", lambda file: ranged(file, 0, 256)),
    "signed, hi 255": ("FormatError", lambda file: ranged(file, 0, 255, 0x7C)),
    "lo -1": ("FormatError", lambda file: ranged(file, -1, 255)),
    "fingerprint": ("ModelError", lambda file: with_field(file, 4, b"unknown!")),
    "critical": ("FormatError", lambda file: between(file, chunk(b"NEWs", b"abc"))),
    "DATa": ("FormatError", lambda file: between(file, chunk(b"DATa", b""))),
    "no letter": ("FormatError", lambda file: between(file, chunk(b"ex1F", b"II*\0"))),
    "ancillary flipped": ("ChecksumError", lambda file: between(file, flipped(DPI, 9))),
    "twice": ("FormatError", lambda file: between(file, DPI, DPI)),
    "no resolution": ("FormatError", lambda file: between(file, chunk(b"dpIX", bytes(8)))),
    "short resolution": ("FormatError", lambda file: between(file, chunk(b"dpIX", b"1234"))),
    "key alone": ("FormatError", lambda file: between(file, chunk(b"teXT", b"a\0b\0c"))),
    "text not UTF-8": ("FormatError", lambda file: between(file, chunk(b"teXT", b"a\0\xff"))),
}


def refusals(file, models):
    """The class of the error by which the reference and the package refuse a file."""
    with pytest.raises(reference.MvmError) as ours:
        reference.decode(file, models)
    with pytest.raises(mvmic_codec.MvmError) as theirs:
        mvmic_codec.decode(file, device="cpu")
    return ours.type.__name__, theirs.type.__name__


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_refused_alike(models, name):
    expected, damage = DAMAGES[name]
    assert refusals(damage(coded()), models) == (expected, expected)


@pytest.mark.parametrize(
    ("end", "field"),
    [
        (b"\xff\xff\xff\xff\7\0", "width"),
        (b"\0\xff\xff\xff\xff\7", "height"),
        (b"\0" + b"\x80" * 5 + b"\1", "varint"),
    ],
)
def test_sides_are_refused_by_their_range(end, field):
    """And not as more than this decoder takes."""
    with pytest.raises(reference.FormatError, match=f"HEAD: .*{field}"):
        reference.read_file(with_end(coded(), end))


def test_metadata_changes_no_sample(models):
    plain = reference.decode(coded(), models)
    text = "ward\0Nürnberg\0empty\0".encode()
    file = between(coded(), chunk(b"neWs", b"1"), DPI, chunk(b"neWs", b"2"), chunk(b"teXT", text))
    ours = reference.decode(file, models)
    assert ours.metadata == {"dpIX": DPI[8:-4], "teXT": text}
    assert mvmic_codec.decode(file).info["text"] == {"ward": "Nürnberg", "empty": ""}
    assert np.array_equal(ours.samples, plain.samples)


def test_example_of_the_container():
    text = (FORMATS / "mvm-3.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ {4}[ \d]{3}  ((?:[0-9a-f]{2} )+)", text, re.MULTILINE)
    file = reference.read_file(bytes.fromhex("".join(lines)))
    head = file.head
    assert (head.width, head.height, head.rate_index, head.generation) == (300, 3, 18, 1)
    assert (head.bits, head.signed, head.photometric, head.lo, head.hi) == (12, 0, 0, 0, 1000)
    assert (file.metadata, file.tiles) == ({}, [reference.CodedTile(b"payload bytes")])


# --- Damaged symbols under a sound container ------------------------------------------------------


def with_payload(file, payload):
    return rebuilt(parts(file)[0], chunk(b"DATA", payload))


PAYLOADS = {
    "empty": lambda payload: b"",
    "3 lanes": lambda payload: b"\3" + payload[1:],
    "no lanes": lambda payload: payload[:3],
    "8 lanes of the same bytes": lambda payload: b"\x08" + payload[1:],
    "no words": lambda payload: payload[:5],
    "not whole words": lambda payload: payload[:-1],
    "a word less": lambda payload: payload[:-4],
    "a word more": lambda payload: payload[:5] + bytes(4) + payload[5:],
    "last word 0": lambda payload: payload + bytes(4),
    "first word odd": lambda payload: payload[:5] + b"\1" + payload[6:],
    "wrong symbol_crc": lambda payload: flipped(payload, 2),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_damaged_payload_is_refused(models, name):
    file = with_payload(coded(), PAYLOADS[name](parts(coded())[1]))
    for refused in refusals(file, models):
        assert refused in ("FormatError", "TruncatedError", "ChecksumError")


@pytest.mark.parametrize("tenth", [1, 4, 8])
def test_flipped_bit_of_a_lane_is_refused(models, tenth):
    payload = parts(coded())[1]
    file = with_payload(coded(), flipped(payload, len(payload) * tenth // 10))
    for refused in refusals(file, models):
        assert refused in ("FormatError", "TruncatedError", "ChecksumError")


def test_another_rate_is_refused(models):
    """The rate index is not a matter of taste: it belongs to the symbols."""
    for refused in refusals(with_field(coded(), 1, b"\x1c"), models):
        assert refused in ("FormatError", "TruncatedError", "ChecksumError")


# --- The model ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", 0),
        ("hyper_step", 0),
        ("hyper_index", 64),
        ("aligned", 2),
        ("compand", 128),
        ("think.3.shift", 15),
        ("table_half", 1024),
        ("table_cdf", 0),
    ],
)
def test_values_out_of_range_are_refused(model, name, value):
    arrays = model.arrays | {f"entropy.{name}": model.arrays[f"entropy.{name}"].copy()}
    arrays[f"entropy.{name}"][1:2] = value
    reference.check_values(model.arrays)
    with pytest.raises(reference.ModelError):
        reference.check_values(arrays)


@pytest.mark.parametrize("name", ["gain", "step", "hyper_step"])
def test_values_beyond_the_bounds_are_refused(model, name):
    arrays = model.arrays | {f"entropy.{name}": np.full((64, 1), 2**40)}
    reference.check_bounds(model.arrays)
    with pytest.raises(reference.ModelError):
        reference.check_bounds(arrays)


def test_altered_weights_are_refused(tmp_path):
    weights = reference.installed_models()[0].read_bytes()
    path = tmp_path / "model.safetensors"
    for damaged in (weights[:-1], flipped(weights, len(weights) - 1), weights[:100], b""):
        path.write_bytes(damaged)
        with pytest.raises(reference.ModelError):
            reference.load_model(path)
    with pytest.raises(reference.ModelError):
        reference.load_model(tmp_path / "none.safetensors")


# --- The command ----------------------------------------------------------------------------------


def test_command(models, tmp_path, monkeypatch, capsys):
    scan, out = tmp_path / "scan.mvm", tmp_path / "out.npy"
    scan.write_bytes(coded())
    monkeypatch.setattr("sys.argv", ["decode.py", str(scan), "-o", str(out)])
    assert reference.main() == 0
    assert np.array_equal(np.load(out), reference.decode(coded(), models).samples)
    out.unlink()
    scan.write_bytes(coded()[:-1])
    assert reference.main() == 1
    assert "TruncatedError" in capsys.readouterr().err and not out.exists()


def planes():
    """Planes that ask all kinds of questions, with their number of symbols."""
    i, j = np.mgrid[0:24, 0:31]
    far = np.hypot(i - 11, j - 14)
    rng = np.random.default_rng(6)
    return {
        "mask": (far < 9, 2),
        "alpha": (np.clip((12 - far) * 50, 0, 255), 256),
        "labels": ((i // 5 + j // 7) % 4 + (far < 6), 5),
        "three": (i * j // 9 % 3, 3),
        "grain": (i + j + rng.integers(0, 9, i.shape), 100),
        "again": (np.tile(rng.integers(0, 200, (6, 31)), (4, 1)), 200),
        "one": (0 * i, 1),
        "column": (rng.integers(0, 4, (40, 1)), 4),
        "row": (rng.integers(0, 130, (1, 90)), 130),
    }


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("name", planes())
def test_planes(name, ordered):
    numbers, symbols = planes()[name]
    wanted = numbers.astype(np.uint8)
    payload = plane.to_payload(wanted, symbols, ordered)
    found = reference.decode_plane(payload, *wanted.shape, symbols, ordered)
    assert np.array_equal(found, wanted)


def test_examples_of_the_planes():
    text = (FORMATS / "plane.md").read_text(encoding="utf-8")
    payloads = re.findall(r"`((?:[0-9a-f]{2} ){10,}[0-9a-f]{2})`", text)
    for ordered, payload in enumerate(payloads):
        found = reference.decode_plane(bytes.fromhex(payload), 3, 5, 5, bool(ordered))
        assert found.tolist() == [[0, 0, 2, 2, 0], [0, 2, 3, 2, 0], [1, 0, 0, 2, 2]]
    assert len(payloads) == 2


PLANE_DAMAGES = {
    "empty": ("TruncatedError", lambda payload: b""),
    "no checksum": ("TruncatedError", lambda payload: payload[:3]),
    "not whole words": ("TruncatedError", lambda payload: payload[:-1]),
    "a word less": ("FormatError", lambda payload: payload[:-4]),
    "a word more": ("FormatError", lambda payload: payload[:4] + b"1234" + payload[4:]),
    "ends in 0": ("FormatError", lambda payload: payload + bytes(4)),
    "checksum": ("ChecksumError", lambda payload: flipped(payload, 0)),
    "an escape to what was ruled out": ("FormatError", lambda payload: payload[:4]),
}


@pytest.mark.parametrize("name", PLANE_DAMAGES)
def test_damaged_planes_are_refused_alike(name):
    expected, damage = PLANE_DAMAGES[name]
    numbers, symbols = planes()["labels"]
    payload = damage(plane.to_payload(numbers.astype(np.uint8), symbols, False))
    known = (*numbers.shape, symbols, False)
    with pytest.raises(reference.MvmError) as ours:
        reference.decode_plane(payload, *known)
    with pytest.raises(mvmic_codec.MvmError) as theirs:
        plane.from_payload(payload, *known)
    assert [caught.type.__name__ for caught in (ours, theirs)] == [expected] * 2


def test_an_escape_without_a_symbol():
    """Three and four symbols are spelled alike; a fourth there must not be."""
    payload = plane.to_payload(np.array([[3]], np.uint8), 4, False)
    with pytest.raises(reference.FormatError, match="no symbol"):
        reference.decode_plane(payload, 1, 1, 3, False)


# --- Version 3: series, tiles, layers and indexed images ------------------------------------------

GOLDEN = FORMATS / "golden"


def test_a_file_of_version_2_gives_what_it_gives_as_version_3(models):
    """A file of version 2 may have FLAT among metadata, and no byte after its end."""
    sound = (GOLDEN / "flat-blends.mvm").read_bytes()
    whole = one_tile.read(sound)
    newer = container.write(
        replace(whole.header, version=3), [container.Tile(whole.payload, flat=whole.flat)], {}
    )
    older = container.write(
        whole.header, [container.Tile(whole.payload, flat=whole.flat)], {container.DPI: DPI[8:-4]}
    )
    assert older.index(b"dpIX") < older.index(b"FLAT")
    swapped = rebuilt(
        pack_header(whole.header), chunk(b"FLAT", whole.flat), DPI, chunk(b"DATA", whole.payload)
    )
    expected = reference.decode(sound, models).samples
    for file in (newer, older, swapped, newer + b"\0"):
        assert np.array_equal(reference.decode(file, models).samples, expected)
        assert np.array_equal(mvmic_codec.decode_array(file), expected)
    assert refusals(older + b"\0", models) == ("FormatError", "FormatError")


SIZES = [(70, 90), (64, 128), (1, 129), (130, 5)]


def soft(size, rng):
    """Transparency: large areas of 0 and of 255, and something between."""
    i, j = np.mgrid[0 : size[0], 0 : size[1]]
    far = np.hypot(i - rng.integers(size[0]), j - rng.integers(size[1]))
    return np.clip(255 * (far - rng.integers(10, 60)) / 5, 0, 255).astype(np.uint8)


def series_of(kind, rng):
    """Frames of a kind, and a side of tiles."""
    size = SIZES[rng.integers(len(SIZES))]
    count, tile = int(rng.integers(1, 3)), int(rng.integers(2)) * 64
    rows, columns = size
    frames = []
    for _ in range(count):
        at = rng.integers(0, 300, 2)
        colour = data.astronaut()[at[0] : at[0] + rows, at[1] : at[1] + columns]
        gray = colour[:, :, 1].copy()
        gray[: rows // 3] = 7
        frames.append(
            {
                "gray": gray,
                "colour": colour,
                "LA": np.dstack((gray, soft(size, rng))),
                "RGBA": np.dstack((colour, soft(size, rng))),
                "equal": np.dstack((gray, gray, gray, soft(size, rng))),
                "deep": with_outliers(gray, rng),
                "bits": gray > 120,
                "labels": labelled(gray // 60),
            }[kind]
        )
    return frames, tile


def with_outliers(gray, rng):
    """Padding, and a few dead pixels."""
    deep = gray.astype(np.int16) * 5 - 100
    deep[gray.shape[0] // 2 :, : gray.shape[1] // 2] = -32768
    deep[rng.integers(gray.shape[0]), rng.integers(gray.shape[1])] = 32767
    return deep


def labelled(indices):
    image = Image.fromarray(indices)
    image.putpalette(list(range(0, 30, 2)))
    image.info["transparency"] = bytes((0, 99))
    return image


# Indexed images first, which take no time.
KINDS = ["labels", "bits", "LA", "RGBA", "deep", "equal", "gray", "colour"]


@pytest.mark.parametrize("seed", first_is_quick(range(4)))
@pytest.mark.parametrize("kind", first_is_quick(KINDS, 2))
def test_random_images_of_every_kind(models, kind, seed):
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    frames, tile = series_of(kind, rng)
    file = mvmic_codec.encode(frames, rate_index=int(rng.integers(64)), tile=tile, device="cpu")
    ours = reference.decode(file, models)
    theirs = mvmic_codec.decode_array(file)
    assert ours.samples.shape == theirs.shape and np.array_equal(ours.samples, theirs)
    header = mvmic_codec.read_header(file)
    assert (header.frames, header.tile > 0) == (
        len(frames),
        tile > 0 and max(header.rows, header.columns) > 1,
    )
    first = np.asarray(frames[0])
    if kind in ("bits", "labels"):
        assert np.array_equal(theirs[0] if len(frames) > 1 else theirs, first)
    if kind == "labels":
        image = mvmic_codec.decode(file).convert("RGBA")
        indices = ours.frames[0].samples
        assert np.array_equal(ours.colours[indices], np.asarray(image))


def test_layers_together(models):
    """Flat areas, transparency and outliers hide sites that none of them hides alone."""
    size, rate = (70, 90), 30
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    map = ((rows < 40) & (columns % 3 == 0)).astype(np.uint8)
    blends = np.where(flat.beside(map) > 0, 2, 0).astype(np.uint8)
    areas = flat.Flat(np.array([[9]], np.int32), map, blends)
    alpha = np.where((rows < 40) & (columns % 3 == 1), 0, 200 + rows % 3).astype(np.uint8)
    # One lies on a pixel that is flat, one on a transparent one.
    spots = (rows < 40) & (columns % 3 == 2) | (rows == 50) & (columns < 5) | (rows + columns < 3)
    alpha[50, 2] = 0
    values = np.where(rows % 2, 3, 250).astype(np.uint8)
    covered = (map > 0) | (alpha == 0) | spots
    gray = picture("L", size)
    planes = flat_fill.fill(gray[None].astype(np.float32) / 255, covered)
    payload = codec.encode_planes(planes, rate, hidden=covered, device="cpu")
    header = replace(
        mvmic_codec.read_header(coded()), alpha=True, rate_index=rate, width=90, height=70
    )
    tile = container.Tile(
        payload,
        overlays.alpha_payload(alpha),
        flat.to_payload(areas, 8, False),
        overlays.outliers_payload(values, spots, 8, False),
    )
    file = container.write(header, [tile], {})
    ours = reference.decode(file, models)
    found = mvmic_codec.decode_array(file)
    assert np.array_equal(ours.samples, found)
    alone = [map > 0, alpha == 0, spots]
    inside = ~reference.outside(size)
    assert not any((reference.hidden_sites(each, ALONE) & inside).any() for each in alone)
    assert (reference.hidden_sites(covered, ALONE) & inside).any()
    assert np.array_equal(found[..., 1], alpha)
    assert (found[spots, 0] == values[spots]).all() and (alpha[spots] == 0).any()
    assert (found[(alpha == 0) & ~spots, 0] == 0).all()
    assert (found[(map > 0) & ~spots, 0] == 9).all() and (map[spots] > 0).any()
    # Each layer alone, without the others, needs other symbols.
    for missing in ("flat", "outliers"):
        fewer = container.write(header, [replace(tile, **{missing: None})], {})
        for refused in refusals(fewer, models):
            assert refused in ("FormatError", "TruncatedError", "ChecksumError")


def test_tiles_of_several_frames_stand_in_their_order(models):
    file = (GOLDEN / "series-of-tiles.mvm").read_bytes()
    ours = reference.decode(file, models)
    assert [[len(row) for row in frame.tiles] for frame in ours.frames] == [[2, 2]] * 2
    assert len(ours.passes) == 8 * 17
    for number, frame in enumerate(ours.frames):
        alone = np.asarray(mvmic_codec.decode(file, frame=number))
        assert np.array_equal(frame.samples, alone)
    assert not np.array_equal(ours.frames[0].samples, ours.frames[1].samples)
