"""Write the seeds of the fuzzers, small inputs that reach far by themselves.

    python tests/fuzz/seeds.py

Fuzzing adds to the same folders what it finds; docs/fuzzing.md says how.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import one_tile

from mvmic_codec.bitstream import ans, container, flat, flatmap, plane, planecoder, residualcoder

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parents[1] / "formats" / "golden"
# Stands for the fingerprint of whatever model is installed; fuzz_file.py puts that in.
ANY_MODEL = bytes(8)
# Of the trellis: formats/ans.md, section 4.
NEXT_STATE = ((0, 2), (2, 0), (4, 6), (6, 4), (5, 7), (7, 5), (1, 3), (3, 1))


def cdf_row(half: int, peak: int) -> np.ndarray:
    """The table that fuzz_rans.c makes of these two numbers."""
    n = 2 * half + 2
    freq = np.ones(n, np.int64)
    spare = 4096 - n
    e = peak % n
    while spare:
        freq[e] += (spare + 1) // 2
        spare -= (spare + 1) // 2
        e = (e + 1) % n
    return np.concatenate([[0], np.cumsum(freq)])


def dependent_seeds() -> dict[str, bytes]:
    """The same of dependent passes: tables 1 and 2, and 3 and 4 for the second quantiser."""
    rng = np.random.default_rng(1)
    tables = [(4, 4), (1, 1), (3, 3), (1, 2)]
    cdf = np.zeros((5, 11), np.uint16)
    for t, (half, peak) in enumerate(tables, 1):
        cdf[t, : 2 * half + 3] = cdf_row(half, peak)
    coder = ans.Tables(np.array([0, *(half for half, _ in tables)], np.uint16), cdf)
    described = bytes([4]) + b"".join(struct.pack("<HH", half, peak) for half, peak in tables)
    seeds = {}
    for power, n in enumerate((1, 40, 300, 1500)):
        pattern = rng.integers(0, 3, 23).astype(np.uint8)
        indices = np.resize(pattern, n)
        numbers = np.resize(np.round(rng.laplace(scale=2, size=60)), n)
        numbers[rng.random(n) < 0.01] = 700
        described_all = described + struct.pack("<HB", n, 22) + pattern.tobytes()
        start = bytes([0x10 | power]) + described_all
        seeds[f"dependent-{n}-code"] = start + numbers[:60].astype("<i2").tobytes()
        # The numbers say which table has the next: found one by one.
        state, coded = 0, indices.copy()
        for i in np.flatnonzero(indices):
            coded[i] += 2 * (state >= 4)
            state = NEXT_STATE[state][int(numbers[i]) % 2]
        kept = np.where(indices == 0, 0, numbers).astype(np.int16)
        lanes = ans.encode([(kept, coded)], coder, 1 << power)
        start = bytes([0x80 | 0x40 | 0x10 | power]) + described_all
        counts = bytes(len(lane) // 4 for lane in lanes[:-1])
        seeds[f"dependent-{n}-decode"] = start + counts + b"".join(lanes)
    for name, numbers in {"far": (20000,), "farther": (20000, -32768, 16384)}.items():
        places = struct.pack("<HBB", len(numbers), 0, 1)
        far = struct.pack(f"<{len(numbers)}h", *numbers)
        seeds[f"dependent-{name}-code"] = b"\x10" + described + places + far
    # A table for one quantiser alone.
    places = struct.pack("<HBB", 40, 0, 3)
    seeds["dependent-out-of-range-decode"] = b"\xd0" + described + places + bytes([0, 0, 5, 7]) * 9
    return seeds


def rans_seeds() -> dict[str, bytes]:
    """Symbols to code, and the lanes that come of it to decode: inputs of fuzz_rans.c."""
    rng = np.random.default_rng(0)
    shapes = {
        "narrow": [(0, 0), (1, 1), (2, 1)],
        "wide": [(1023, 1000), (60, 55), (0, 1)],
        "escapes": [(0, 1), (0, 0)],
        "first-entries": [(1, 0), (3, 0), (2, 5)],
    }
    seeds = {}
    for name, tables in shapes.items():
        count = 1 + len(tables)
        width = max(2 * half + 3 for half, _ in tables)
        cdf = np.zeros((count, width), np.uint16)
        for t, (half, peak) in enumerate(tables, 1):
            cdf[t, : 2 * half + 3] = cdf_row(half, peak)
        halves = np.array([0, *(half for half, _ in tables)], np.uint16)
        coder = ans.Tables(halves, cdf)
        described = bytes([count - 1])
        described += b"".join(struct.pack("<HH", half, peak) for half, peak in tables)
        for power, n in enumerate((1, 40, 300, 1500)):
            pattern = rng.integers(0, count, 23).astype(np.uint8)
            indices = np.resize(pattern, n)
            symbols = np.round(rng.laplace(size=n) * (1 + halves[indices] / 4)).astype(np.int16)
            if name == "first-entries":
                symbols = -halves[indices].astype(np.int16)
            # Symbols repeat as well: an input holds the first few.
            symbols = np.resize(symbols[:60], n)
            kept = np.where(indices == 0, 0, symbols).astype(np.int16)
            described_all = described + struct.pack("<HB", n, 22) + pattern.tobytes()
            calls = 4 * (power % 4)
            start = bytes([power | calls]) + described_all
            seeds[f"{name}-{n}-code"] = start + symbols[:60].astype("<i2").tobytes()
            lanes = ans.encode([(kept, indices)], coder, 1 << power)
            if all(len(lane) < 1024 for lane in lanes[:-1]):
                start = bytes([0x80 | 0x40 | power | calls]) + described_all
                counts = bytes(len(lane) // 4 for lane in lanes[:-1])
                seeds[f"{name}-{n}-decode"] = start + counts + b"".join(lanes)
    seeds |= dependent_seeds()
    # Full blocks, an index that is no table, lanes that end too soon, too late or in a zero.
    table = bytes([1]) + struct.pack("<HH", 5, 5)
    seeds["full-blocks"] = b"\1" + table + struct.pack("<HBB", 4096, 0, 1) + b"\1\0\0\0\xfe\xff"
    # Long runs of skipped places, passed over in groups; with 41 they start at every offset.
    runs = struct.pack("<HB", 1100, 40) + bytes(37) + bytes([1]) * 4
    seeds["long-runs"] = b"\2" + table + runs + b"\1\0\xff\xff\0\0"
    pattern = bytes([9]) + bytes([1]) * 9
    seeds["out-of-range-code"] = b"\0" + table + struct.pack("<H", 1030) + pattern + b"\xff\1\0"
    seeds["out-of-range-decode"] = b"\x80" + seeds["out-of-range-code"][1:] + bytes(3) + b"\1" * 8
    lane = b"\xc0" + table + struct.pack("<HBB", 3000, 0, 1)
    seeds |= {"runs-out": lane, "words-left": lane + b"\0\xf0\1\1" * 900}
    seeds["ends-in-zero"] = lane + b"\0\x10\1\1" + bytes(4)
    for name in ("gray", "colour", "gray-1x1", "gray-smallest"):
        payload = one_tile.read((GOLDEN / f"{name}.mvm").read_bytes()).payload
        start = bytes([0x80 | 0x40]) + bytes([1]) + struct.pack("<HHHBB", 20, 20, 300, 0, 1)
        seeds[f"golden-{name}"] = start + payload[5:]
    return seeds


PATTERN = 0b10010010


def flatmap_seeds() -> dict[str, bytes]:
    """Maps to code, and the lanes that come of it to decode: inputs of fuzz_flatmap.c."""
    i, j = np.mgrid[0:30, 0:41]
    disc = ((i - 15) ** 2 + (j - 20) ** 2 < 150).astype(np.uint8)
    rng = np.random.default_rng(1)
    maps = {
        "disc": (disc, 1),
        "colours": (disc * (1 + (i * j) % 8).astype(np.uint8), 8),
        "letters": ((disc * (1 + (i // 3 + j // 2) % 3)).astype(np.uint8), 3),
        "all": (np.full((64, 64), 5, np.uint8), 6),
        "none": (np.zeros((1, 50), np.uint8), 2),
        "noise": (rng.integers(0, 3, (20, 9)).astype(np.uint8), 2),
        "late": ((np.arange(4096) == 4000).astype(np.uint8).reshape(64, 64), 1),
        "dot": (np.ones((1, 1), np.uint8), 1),
    }
    seeds = {}
    for name, (map, colours) in maps.items():
        height, width = map.shape
        lane = flatmap.encode(map, colours)
        seeds[f"{name}-code"] = bytes([width - 1, height - 1, colours - 1]) + map.tobytes()
        start = bytes([width - 1, height - 1, 0x80 | colours - 1])
        seeds[f"{name}-decode"] = start + lane
        seeds[f"{name}-too-long"] = start + bytes(4) + lane
        seeds[f"{name}-too-short"] = start + lane[4:]
        seeds[f"{name}-ends-in-zero"] = start + lane + bytes(4)
        # Every third pixel or so is open, as the bits of this byte say from pixel to pixel.
        open = np.unpackbits(np.uint8([PATTERN]), bitorder="little").astype(np.bool_)
        open = np.resize(open, map.shape)
        lane = flatmap.encode(map * open, colours, open)
        start = bytes([width - 1, height - 1, 0x40 | colours - 1, PATTERN])
        seeds[f"{name}-open-code"] = start + map.tobytes()
        start = bytes([width - 1, height - 1, 0xC0 | colours - 1, PATTERN])
        seeds[f"{name}-open-decode"] = start + lane
        seeds[f"{name}-open-too-long"] = start + bytes(4) + lane
    return seeds


def plane_seeds() -> dict[str, bytes]:
    """Planes to code, and the lanes that come of it to decode: inputs of fuzz_plane.c."""
    i, j = np.mgrid[0:30, 0:41]
    far = np.hypot(i - 15, j - 20)
    rng = np.random.default_rng(2)
    glyph = np.kron(rng.integers(0, 2, (5, 4)), np.ones((2, 2), np.int64)) * 200
    glyph += rng.integers(0, 40, glyph.shape)
    planes = {
        "mask": (far < 12, 2),
        "alpha": (np.clip((14 - far) * 40, 0, 255), 256),
        "gradient": (5 * i + j, 256),
        "labels": ((i // 7 + j // 5) % 6 + (far < 9), 7),
        "three": ((i * j // 9 + i // 4) % 3, 3),
        "letters": (np.tile(glyph, (4, 6)), 240),
        "dither": (rng.random((20, 33)) < np.arange(33) / 33, 2),
        "noise": (rng.integers(0, 200, (20, 19)), 200),
        "ends": (rng.integers(0, 2, (20, 19)) * 129, 130),
        "pairs": (rng.integers(0, 4, (25, 30)), 4),
        "column": (rng.integers(0, 9, (64, 1)), 9),
        "row": (rng.integers(0, 5, (1, 64)), 5),
        "late": (np.arange(4096).reshape(64, 64) == 4000, 3),
        "all": (np.full((64, 64), 255), 256),
        "dot": (np.ones((1, 1)), 2),
        "one": (np.zeros((9, 9)), 1),
    }
    seeds = {}
    for name, (numbers, symbols) in planes.items():
        plane = numbers.astype(np.uint8)
        height, width = plane.shape
        size = bytes([width - 1, height - 1, symbols - 1])
        for order, flag in {"": 0, "-ordered": 0x40}.items():
            lane = planecoder.encode(plane, symbols, bool(flag))
            seeds[f"{name}{order}-code"] = size + bytes([flag]) + plane.tobytes()
            start = size + bytes([0x80 | flag])
            seeds[f"{name}{order}-decode"] = start + lane
            seeds[f"{name}{order}-too-long"] = start + bytes(4) + lane
            seeds[f"{name}{order}-too-short"] = start + lane[4:]
            seeds[f"{name}{order}-ends-in-zero"] = start + lane + bytes(4)
            seeds[f"{name}{order}-noise"] = start + rng.bytes(300)
    # Symbols that there are not: told by escapes, which 200 and 256 symbols spell alike; and coded.
    for symbols, numbers in {3: [[3]], 200: [[0, 7], [255, 7]]}.items():
        plane = np.array(numbers, np.uint8)
        size = bytes([plane.shape[1] - 1, plane.shape[0] - 1, symbols - 1])
        lane = planecoder.encode(plane, 4 if symbols == 3 else 256, False)
        seeds[f"too-large-{symbols}-decode"] = size + b"\x80" + lane
        seeds[f"too-large-{symbols}-code"] = size + b"\0" + plane.tobytes()
    # A lane of no words says no to everything: 0 was ruled out, and then an escape tells it.
    seeds["ruled-out-decode"] = bytes([0, 0, 3, 0x80])
    return seeds


def residual_seeds() -> dict[str, bytes]:
    """Numbers to make images of, and lanes to decode: inputs of fuzz_residual.c."""
    rng = np.random.default_rng(5)
    i, j = np.mgrid[0:20, 0:23]
    ranges = {"bytes": (0, 255), "deep": (-1000, 3095), "whole": (-32768, 32767), "few": (7, 9)}
    seeds = {}
    turn = 0
    for span, (low, high) in ranges.items():
        most = high - low
        numbers = {
            "slope": (i + 2 * j) * (1 + most // 200) + rng.integers(0, 3, i.shape),
            "noise": rng.integers(0, most + 1, (12, 12)),
            "steps": (rng.random((16, 9)) < 0.3) * (most // 2),
            "ends": (rng.random((20, 23)) < 0.5) * most,
            "waves": np.abs(np.abs(3 * i + 5 * j) * most // 40 % (2 * most + 1) - most),
            "flat": np.full((9, 9), most // 3),
            "runs": np.repeat(rng.integers(0, most + 1, 25), rng.integers(1, 40, 25)),
        }
        for name, drawn in numbers.items():
            for kind in (0, 1, 2, 3, 6, 7):
                if kind & 1 and most > 255:
                    continue
                turn += 1
                size = ((22, 19), (30, 0), (0, 30), (8, 8), (22, 19))[turn % 5]
                bound = (0, 1, 0, 3, 0, 7, 208)[turn % 7]
                head = struct.pack(">BBBBh", *size, bound, kind, low)
                head += bytes([most, 0]) if kind & 1 else struct.pack(">H", most)
                lane = rng.bytes(4 * int(rng.integers(0, 30)))
                seeds[f"{name}-{span}-{kind}-code"] = head + drawn.astype(">u2").tobytes()
                seeds[f"{name}-{span}-{kind}-words"] = (
                    head[:3] + bytes([kind | 0x80]) + head[4:] + lane
                )
    # Lanes of an encoder, whole, cut and continued.
    image = np.clip(i + 2 * j + rng.integers(-3, 4, i.shape), 0, 255).astype(np.int32)
    pictures = {"dot": image[:1, :1], "picture": image}
    for (name, shown), (planes, bound) in itertools.product(
        pictures.items(), ((1, 0), (1, 2), (3, 0), (3, 1))
    ):
        height, width = shown.shape
        colours = np.ascontiguousarray(np.broadcast_to(shown, (planes, height, width)))
        lane, _ = residualcoder.encode(colours, 0, 255, bound)
        head = bytes([width - 1, height - 1, bound, 0x80 | (planes == 3), 0, 0])
        head += b"\xff\0" if planes == 3 else b"\0\xff"
        seeds[f"{name}-{planes}-{bound}-decode"] = head + lane
        seeds[f"{name}-{planes}-{bound}-too-short"] = head + lane[4:]
        seeds[f"{name}-{planes}-{bound}-too-long"] = head + bytes(4) + lane
        seeds[f"{name}-{planes}-{bound}-ends-in-zero"] = head + lane + bytes(4)
    return seeds


# How fuzz_synthesis.c draws the numbers of an array, in its order.
WAYS = ("any", "ends", "high", "low", "turns", "sparse", "small")


def synthesis_seeds() -> dict[str, bytes]:
    """Each function of synthesis.h on several sizes: inputs of fuzz_synthesis.c."""
    # Sizes for each function in the target's order, and how many arrays are drawn after them.
    sizes: dict[str, tuple[list[tuple[int, ...]], int]] = {
        # Sites, chroma and first channels of luma and chroma (two bytes each), whether sums fit.
        "rotate": (
            [
                (59, 64, 0, 48, 0, 21, 0, 0),
                (8, 7, 0, 0, 0, 7, 0, 0),
                (59, 0, 0, 0, 1, 0, 0, 2),
                (2, 0, 2, 0, 1, 100, 0, 1),
            ],
            4,
        ),
        # Blocks in a row, rows of blocks, whether there are three planes.
        "linear-rows": ([(25, 0, 0), (0, 1, 1), (6, 1, 1), (1, 2, 0)], 3),
        "linear-columns": ([(2, 1, 1), (0, 2, 0), (1, 0, 0)], 3),
        # Rows, columns, groups of inputs, outputs.
        "enter16": ([(2, 18, 1, 39), (0, 0, 3, 0), (5, 6, 0, 15)], 7),
        # Halves of rows and of columns, inputs, outputs, the shift; of ReLU the top, two bytes.
        "conv-relu": (
            [
                (1, 3, 31, 47, 0, 255, 31),
                (4, 5, 255, 16, 1, 255, 127),
                (0, 0, 0, 16, 2, 9, 0),
                (0, 11, 15, 15, 0, 255, 127),
            ],
            5,
        ),
        "conv-add": ([(1, 4, 11, 33, 2), (0, 0, 46, 7, 0), (1, 1, 15, 15, 1)], 6),
        "conv-leave": ([(1, 3, 15, 2, 1), (2, 0, 0, 0, 0)], 6),
        # Rows, columns, inputs, outputs (not of leave8), whether there are three planes.
        "enter8": ([(3, 12, 15, 35, 1), (0, 0, 40, 0, 0)], 10),
        "leave8": ([(2, 18, 31, 1), (1, 0, 2, 0)], 6),
        # Rows, columns, whether there are three planes.
        "quads": ([(4, 9, 1), (0, 0, 0), (2, 0, 0), (0, 4, 1), (1, 1, 1)], 1),
        # Rows, columns, whether there are three planes, bytes of a sample, columns left out.
        "samples": ([(2, 99, 1, 0, 0), (1, 63, 0, 1, 3), (3, 64, 1, 2, 1)], 3),
    }
    rng = np.random.default_rng(2)
    seeds = {}
    for number, (name, (described, arrays)) in enumerate(sizes.items()):
        for k, way in enumerate(WAYS):
            drawn = b"".join(bytes([k]) + rng.bytes(2) for _ in range(arrays))
            # At the end: where rows are cut, and where scratch starts.
            start = bytes([number, *described[k % len(described)]])
            seeds[f"{name}-{way}"] = start + drawn + rng.bytes(3)
    # One weight of nine, and rows of activations that are all -8191 or all 8191: on the way from
    # frequencies to sums these exceed 32 bits.
    drawn = bytes([8, 0, 0]) + bytes(9) + bytes([7]) + struct.pack("<H", 4 * 48 - 1) + bytes(3)
    seeds["conv-add-rows"] = bytes([5, 4, 0, 46, 15, 0]) + drawn + bytes(3)
    return seeds


def chunk(kind: bytes, payload: bytes) -> bytes:
    """A chunk with a checksum that is right."""
    crc = struct.pack("<I", zlib.crc32(kind + payload))
    return struct.pack("<I", len(payload)) + kind + payload + crc


def file_seeds() -> dict[str, bytes]:
    """Tiny files with everything that a container can hold: inputs of fuzz_file.py."""
    whole = one_tile.read((GOLDEN / "gray-1x1.mvm").read_bytes())
    header = dataclasses.replace(whole.header, fingerprint=ANY_MODEL)
    kinds = {
        "gray": header,
        "white": dataclasses.replace(header, photometric=1),
        "colour": dataclasses.replace(header, photometric=2),
        "equal-channels": dataclasses.replace(header, photometric=3),
        "deep": dataclasses.replace(header, bits=12, lo=9, hi=4000),
        "signed": dataclasses.replace(header, bits=16, signed=True, lo=-1024, hi=3071),
        "one-value": dataclasses.replace(header, lo=7, hi=7),
        "wide": dataclasses.replace(header, width=64, height=17),
        "huge": dataclasses.replace(header, width=16384, height=10000),
    }
    seeds = {name: one_tile.write(kind, whole.payload, {}) for name, kind in kinds.items()}
    for name in ("gray-flat", "gray-one-row", "metadata"):
        golden = one_tile.read((GOLDEN / f"{name}.mvm").read_bytes())
        renamed = dataclasses.replace(golden.header, fingerprint=ANY_MODEL)
        seeds[name] = one_tile.write(renamed, golden.payload, golden.metadata, golden.flat)
    plain = seeds["gray"]
    end = 8 + 12 + struct.unpack_from("<I", plain, 8)[0]  # of HEAD
    head, rest = plain[:end], plain[end:]
    seeds["unknown"] = head + chunk(b"newS", b"?") + chunk(b"newS", b"") + rest
    fixed = head[16:28]
    heads = {
        "version-1": b"\1" + bytes(41),
        "long-varint": fixed + b"\xff" * 5 + bytes(2),
        "padded-varint": fixed + b"\x80\0\0",
        "cut-range": fixed[:2] + b"\x78" + fixed[3:] + bytes(7),
        "range-of-all": fixed[:2] + b"\x78" + fixed[3:] + bytes(2) + struct.pack("<ii", 0, 255),
        "bytes-after": head[16:-4] + bytes(8),
    }
    for name, each in heads.items():
        seeds[f"head-{name}"] = plain[:8] + chunk(container.HEAD, each) + rest
    seeds |= version_3_seeds()
    faulty = {
        "text": (b"teXT", b"k\0\xff"),
        "resolution": (b"dpIX", b"\1"),
        "exif": (b"exIF", b"MM"),
    }
    for name, each in faulty.items():
        seeds[f"faulty-{name}"] = head + chunk(*each) + rest
    flat_areas = {
        "empty": b"",
        "no-colours": b"\0" + bytes(4),
        "many-colours": b"\x09" + bytes(13),
        "no-map": b"\2\0\xff" + bytes(4),
        "half-a-word": b"\1\0" + bytes(6),
        "range": b"\1\xff" + bytes(4),
    }
    for name, each in flat_areas.items():
        seeds[f"flat-{name}"] = one_tile.write(header, whole.payload, {}, each)
    sound = flat.to_payload(
        flat.Flat(np.array([[9]], np.int32), np.ones((1, 1), np.uint8), None), 8, False
    )
    map = np.array([[1]], np.uint8)
    blended = flat.to_payload(flat.Flat(np.array([[9]], np.int32), map, 0 * map), 8, False)
    row = np.array([[1, 0, 0, 0, 2] + [0] * 59] * 17, np.uint8)
    wide = flat.Flat(np.array([[9], [70]], np.int32), row, (flat.beside(row) > 0).astype(np.uint8))
    many = flat.to_payload(wide, 8, False)
    seeds["blends-sound"] = one_tile.write(header, whole.payload, {}, blended)
    seeds["blends-wide"] = one_tile.write(kinds["wide"], whole.payload, {}, many)
    seeds["blends-huge"] = one_tile.write(kinds["huge"], whole.payload, {}, blended)
    seeds["blends-words"] = one_tile.write(header, whole.payload, {}, blended[:6] + b"\xff" * 8)
    seeds["blends-short"] = one_tile.write(header, whole.payload, {}, blended[:8])
    seeds["flat-sound"] = one_tile.write(header, whole.payload, {}, sound)
    seeds["flat-huge"] = one_tile.write(kinds["huge"], whole.payload, {}, sound)
    seeds["flat-deep"] = one_tile.write(kinds["signed"], whole.payload, {}, sound + bytes(1))
    lanes = {
        "no-lane-words": b"\1" + bytes(4),
        "two-lanes": b"\2" + struct.pack("<II", 1, 0) + b"\0\x10\0\0" * 2,
        "four-lanes": b"\4" + bytes(16),
        "eight-lanes": b"\x08" + struct.pack("<7I", *[2] * 7) + bytes(4) + b"\0\x10\0\1" * 16,
    }
    seeds |= {name: one_tile.write(header, lane, {}) for name, lane in lanes.items()}
    return seeds


# Small ones that have every chunk of version 3.
OF_VERSION_3 = ("series", "series-of-tiles", "tiles", "tiles-alpha", "alpha-gray", "alpha-series")
OF_VERSION_3 += ("outliers", "bits", "bits-series-of-tiles", "palette", "palette-alpha")


def version_3_seeds() -> dict[str, bytes]:
    """Files of version 3, sound ones and damaged ones."""
    seeds = {
        f"v3-{name}": for_any_model((GOLDEN / f"{name}.mvm").read_bytes()) for name in OF_VERSION_3
    }
    dot = one_tile.read((GOLDEN / "gray-1x1.mvm").read_bytes())
    gray = dataclasses.replace(dot.header, version=3, fingerprint=ANY_MODEL)
    deep = dataclasses.replace(gray, bits=16, signed=True, lo=-100, hi=100)
    alpha = dataclasses.replace(gray, alpha=True)
    frames = dataclasses.replace(gray, frames=3)
    zero = np.zeros((1, 1), np.uint8)
    damaged = bytes(4) + b"\1\0\1\0"
    opaque = b"\0\xff" + plane.to_payload(zero, 1, True)
    outlier = b"\0\0\x80" + plane.to_payload(zero, 2, False)

    def tile(**layers: bytes) -> container.Tile:
        return container.Tile(dot.payload, **layers)

    sound = {
        "dot": (gray, [tile()], {}),
        "dots": (frames, [tile()] * 3, {}),
        "durations": (frames, [tile()] * 3, {container.ANIMATION: struct.pack("<4I", 0, 9, 8, 7)}),
        "durations-cut": (frames, [tile()] * 3, {container.ANIMATION: bytes(12)}),
        "opaque": (alpha, [tile(alpha=opaque)], {}),
        "hidden": (alpha, [tile(alpha=b"\0\0" + opaque[2:])], {}),
        "no-levels": (alpha, [tile(alpha=b"\xfe\0")], {}),
        "all-levels": (alpha, [tile(alpha=b"\xff" + damaged)], {}),
        "level-twice": (alpha, [tile(alpha=b"\1\7\7" + damaged)], {}),
        "outliers": (deep, [tile(outliers=outlier)], {}),
        "outliers-256": (deep, [tile(outliers=b"\xff" + bytes(512) + damaged)], {}),
        "outliers-cut": (deep, [tile(outliers=outlier[:2])], {}),
    }
    seeds |= {f"v3-{name}": container.write(*each) for name, each in sound.items()}
    plain = container.write(gray, [tile()], {})
    end = 8 + 12 + struct.unpack_from("<I", plain, 8)[0]  # of HEAD
    head, rest = plain[:end], plain[end:]
    formed = bytes([3, 0x80 | head[17]]) + head[18:-4]
    heads = {"form-0": b"\0", "form-8": b"\x08", "tile": b"\2\0", "palette": b"\4"}
    heads |= {"frames": b"\1\xff\xff\xff\x07", "many-frames": b"\1\xfe\xff\x03"}
    for name, each in heads.items():
        seeds[f"v3-head-{name}"] = head[:8] + chunk(container.HEAD, formed + each) + rest
    seeds["v3-pad"] = plain + b"\0"
    seeds["v3-pads"] = plain + bytes(2)
    seeds["v3-unknown-in-a-tile"] = head + chunk(b"FLAT", b"") + chunk(b"newS", b"?") + rest
    seeds["v3-misplaced"] = head + chunk(b"ALPH", opaque) + chunk(b"OUTL", outlier) + rest
    tiles = seeds["v3-dots"]
    at = tiles.index(b"SEEK") - 4
    (length,) = struct.unpack_from("<I", tiles, at + 8)
    lengths = {
        "zero": (0, 0, 0),
        "lies": (length + 12, length - 12, length),
        "largest": (2**32 - 1,) * 3,
        "more": (length,) * 4,
    }
    for name, each in lengths.items():
        other = chunk(b"SEEK", struct.pack(f"<{len(each)}I", *each))
        seeds[f"v3-seek-{name}"] = tiles[:at] + other + tiles[at + 24 :]
    seeds["v3-seek-missing"] = tiles[:at] + tiles[at + 24 :]
    seeds["v3-nothing"] = tiles[: at + 24]
    return seeds | indexed_seeds()


def indexed_seeds() -> dict[str, bytes]:
    """Indexed images of a few pixels: their lists of colours, and planes."""
    whole = container.Reader((GOLDEN / "bits.mvm").read_bytes()).header
    header = dataclasses.replace(whole, width=3, height=1)
    indices = plane.to_payload(np.array([[0, 2, 1]], np.uint8), 3, False)
    kinds = {
        "gray": (dataclasses.replace(header, bits=8, hi=255), b"\2\0\x80\xff"),
        "deep": (dataclasses.replace(header, bits=16, hi=65535), b"\2" + bytes(range(6))),
        "signed": (
            dataclasses.replace(header, bits=12, signed=True, lo=-2048, hi=2047),
            b"\2\0\xf8\0\0\xff\7",
        ),
        "equal-channels": (
            dataclasses.replace(header, bits=8, hi=255, photometric=3, alpha=True),
            b"\2" + bytes(range(6)),
        ),
        "few-colours": (header, b"\1\0\1"),
        "beyond-bits": (header, b"\2\0\1\2"),
        "no-colours": (header, b""),
        "colours-cut": (header, b"\2\0"),
        "more-colours": (dataclasses.replace(header, bits=8, hi=255), b"\2" + bytes(4)),
    }
    tiles = [container.Tile(indices)]
    return {
        f"v3-indexed-{name}": container.write(kind, tiles, {}, colours)
        for name, (kind, colours) in kinds.items()
    }


def for_any_model(data: bytes) -> bytes:
    """A file with the fingerprint that stands for the installed model."""
    reader = container.Reader(data)
    header = reader.header
    if not header.indexed:
        header = dataclasses.replace(header, fingerprint=ANY_MODEL)
    tiles = [
        reader.tile(frame, row, column)
        for frame in range(header.frames)
        for row in range(header.rows)
        for column in range(header.columns)
    ]
    return container.write(header, tiles, reader.metadata, reader.colours)


if __name__ == "__main__":
    kinds = {
        "rans": rans_seeds(),
        "flatmap": flatmap_seeds(),
        "plane": plane_seeds(),
        "residual": residual_seeds(),
        "synthesis": synthesis_seeds(),
        "file": file_seeds(),
    }
    for folder, seeds in kinds.items():
        for name, content in seeds.items():
            (HERE / "corpus" / folder / name).write_bytes(content)
