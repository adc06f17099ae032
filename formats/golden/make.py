"""Write the golden files: small images of every kind, their symbols' hashes and their samples.

    python formats/golden/make.py

Run once for a released model. Files that are there are never written again: a decoder that does
not give what is here is wrong. Before version 1.0 a new model may replace them: delete all but this
program, run it, and say so in the CHANGELOG.

NAME.mvm is the file, NAME.npz its samples as the reference decoder gives them: `samples` [H,W] or
[H,W,C], of a series [N,H,W] or [N,H,W,C], transparency being the last channel. For an image with a
palette they are indices, and `colours` [K,C] is there, too. golden.json has the SHA-256 of the
symbols of all passes, one after the other, as little-endian 16-bit integers; of several tiles one
tile after the other. An indexed image has none.

Those of `images` are files of version 2, which an encoder does not write any more.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import mvmic_codec
from mvmic_codec.bitstream import container, flat
from mvmic_codec.bitstream.header import RGB
from mvmic_codec.encoder import flat_fill
from mvmic_codec.encoder.candidate import EncodeCandidate
from mvmic_codec.encoder.flat_choice import flat_candidates_of
from mvmic_codec.image import samples

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "reference"))
import decode as reference  # noqa: E402


def draw(rows: int, columns: int, top: int) -> NDArray[np.int64]:
    """A slope, a disc, a fine grid and grain, in integers 0 to `top`."""
    i, j = np.mgrid[0:rows, 0:columns]
    slope = (3 * i + 2 * j) * top // (8 * (rows + columns))
    disc = ((i - rows // 2) ** 2 + (j - columns // 3) ** 2 < (min(rows, columns) // 3) ** 2) * top
    grid = ((i // 2 + j // 3) % 5 == 0) * (j > columns * 2 // 3) * top
    grain = (i * 7919 + j * 104729 + i * j * 31) % 97 * top // 97
    drawn: NDArray[np.int64] = (8 * slope + 6 * disc // 2 + 2 * grid + grain) // 14
    return np.clip(drawn, 0, top)


def colours(rows: int, columns: int) -> NDArray[np.uint8]:
    """Three planes that have something in common."""
    base = draw(rows, columns, 255)
    planes = [base, 255 - base // 2, (base + draw(columns, rows, 255).T) // 2]
    return np.stack(planes, 2).astype(np.uint8)


def margined(picture: NDArray[Any], margin: Any, letters: Any) -> NDArray[Any]:
    """The picture within a disc, around it a margin of one value and marks of another."""
    rows, columns = picture.shape[:2]
    i, j = np.mgrid[0:rows, 0:columns]
    out = picture.copy()
    out[(i - rows // 2) ** 2 + (j - columns // 2) ** 2 >= (min(rows, columns) // 2 - 1) ** 2] = (
        margin
    )
    out[3:9, 4:5] = out[8:9, 4:8] = out[3:9, 10:11] = letters
    return out


def blended(picture: NDArray[Any], margin: Any, letters: Any) -> NDArray[Any]:
    """The picture within a smaller disc, pixels on its edge mixed with the margin, and marks."""
    rows, columns = picture.shape[:2]
    i, j = np.mgrid[0:rows, 0:columns]
    cover = np.clip(min(rows, columns) / 3 - np.hypot(i - rows / 2, j - columns / 2), 0, 1)
    if picture.ndim == 3:
        cover = cover[:, :, None]
    out = np.rint(margin + cover * (picture.astype(np.float64) - margin)).astype(picture.dtype)
    out[3:9, 4:5] = out[8:9, 4:8] = out[3:9, 10:11] = letters
    return out


def shaped(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with transparency: a disc with a soft edge, a hole, and a translucent corner."""
    rows, columns = picture.shape[:2]
    i, j = np.mgrid[0:rows, 0:columns]
    far = np.hypot(i - rows / 2, j - columns / 2)
    alpha = np.clip(255 * (min(rows, columns) / 2.2 - far) / 3, 0, 255)
    alpha[far < min(rows, columns) / 12] = 0
    alpha[: rows // 6, : columns // 6] = 128
    return np.dstack((picture, np.rint(alpha).astype(np.uint8)))


def labels(rows: int, columns: int) -> NDArray[np.uint8]:
    """Rectangles and a disc, numbers 0 to 6."""
    i, j = np.mgrid[0:rows, 0:columns]
    out = (i // 17 + j // 23) % 5 + 1
    out[(i - rows // 2) ** 2 + (j - columns // 2) ** 2 < (min(rows, columns) // 4) ** 2] = 6
    out[: rows // 5] = 0
    return out.astype(np.uint8)


def with_palette(indices: NDArray[np.uint8], transparency: bytes | None = None) -> Image.Image:
    """An image of mode P."""
    image = Image.fromarray(indices)
    image.putpalette([9 * k % 256 if k % 3 else 250 - k for k in range(3 * 7)])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def images_of_version_3() -> dict[str, tuple[Any, dict[str, Any]]]:
    """As `images`."""
    gray = draw(101, 150, 255).astype(np.uint8)
    padded = margined((draw(70, 90, 4095) - 1024).astype(np.int16), -32768, 900)
    padded[41, 50] = 32767
    ramp = np.arange(48 * 64).reshape(48, 64) % 256
    frames = [draw(40, 56, 255 - 60 * k).astype(np.uint8) for k in range(3)]
    return {
        "plain-gray": (gray[:70, :90], {"rate_index": 27}),
        "plain-colour": (colours(50, 70), {"rate_index": 36}),
        "series": (frames, {"rate_index": 27, "duration": [100, 50, 200], "loop": 2}),
        "series-of-tiles": (
            [draw(70, 66, 255 - 60 * k).astype(np.uint8) for k in range(2)],
            {"rate_index": 20, "tile": 64, "duration": 40},
        ),
        "tiles": (margined(gray, 9, 200), {"rate_index": 27, "tile": 64}),
        "tiles-colour": (
            blended(colours(67, 135), (16, 17, 19), (230, 220, 90)),
            {"rate_index": 30, "tile": 64},
        ),
        "tiles-alpha": (
            shaped(np.repeat(gray[:90, :100, None], 3, 2)),
            {"rate_index": 27, "tile": 64},
        ),
        "alpha": (shaped(colours(80, 96)), {"rate_index": 30}),
        "alpha-gray": (np.dstack((gray[:48, :64], ramp.astype(np.uint8))), {"rate_index": 27}),
        "alpha-series": (
            [shaped(frames[0]), np.dstack((frames[1], np.full_like(frames[1], 255)))],
            {"rate_index": 27},
        ),
        "outliers": (padded, {"rate_index": 45}),
        "bits": (labels(50, 71) > 3, {}),
        "bits-series-of-tiles": ([labels(70, 65) > k for k in (2, 5)], {"tile": 64}),
        "palette": (with_palette(labels(60, 75)), {}),
        "palette-alpha": (with_palette(labels(60, 75), b"\x00\xff\x80"), {}),
    }


def images() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Name -> (image or array, options of encode); files of version 2."""
    gray = draw(70, 90, 255).astype(np.uint8)
    deep = draw(50, 81, 65535)
    exif = b"MM\0*\0\0\0\x08\0\0\0\0\0\0"
    # As much of a profile as tells that it is for gray samples.
    gray_profile = bytes(16) + b"GRAY" + bytes(108)
    described = {"exif": exif, "icc_profile": gray_profile, "xmp": b"<x:xmpmeta/>"}
    return {
        "gray": (gray, {"rate_index": 27}),
        "gray-smallest": (gray, {"rate_index": 0}),
        "gray-best": (gray, {"rate_index": 63}),
        "gray-1x1": (gray[:1, :1], {"rate_index": 40}),
        "gray-one-row": (draw(1, 200, 255).astype(np.uint8), {"rate_index": 40}),
        "gray-flat": (np.full((20, 30), 77, np.uint8), {"rate_index": 40}),
        "colour": (colours(67, 75), {"rate_index": 36}),
        "colour-smallest": (colours(130, 66), {"rate_index": 0}),
        "colour-best": (colours(64, 64), {"rate_index": 63}),
        "colour-equal-channels": (np.repeat(gray[:, :, None], 3, 2), {"rate_index": 27}),
        "gray-16-bit": (deep.astype(np.uint16), {"rate_index": 45}),
        "gray-12-bit": ((deep // 16).astype(np.uint16), {"rate_index": 45}),
        "gray-signed": ((deep // 16 - 1024).astype(np.int16), {"rate_index": 45}),
        "gray-four-lanes": (draw(300, 280, 255).astype(np.uint8), {"rate_index": 63}),
        "flat-areas": (margined(draw(96, 120, 255).astype(np.uint8), 9, 200), {"rate_index": 27}),
        "flat-areas-colour": (
            margined(colours(96, 120), (16, 17, 19), (230, 220, 90)),
            {"rate_index": 36},
        ),
        "flat-areas-signed": (
            margined((draw(96, 120, 4095) - 1024).astype(np.int16), -2000, 3000),
            {"rate_index": 45},
        ),
        "flat-blends": (blended(draw(150, 170, 255).astype(np.uint8), 9, 200), {"rate_index": 27}),
        "flat-blends-colour": (
            blended(colours(150, 170), np.array((16, 17, 19)), (230, 220, 90)),
            {"rate_index": 36},
        ),
        "flat-blends-signed": (
            blended((draw(150, 170, 4095) - 1024).astype(np.int16), -2000, 3000),
            {"rate_index": 45},
        ),
        "metadata": (
            Image.fromarray(gray[:33, :47]),
            {"rate_index": 18, "dpi": (300, 72), "text": {"key": "value"}, **described},
        ),
    }


def first_form(image: NDArray[Any], rate_index: int) -> bytes:
    """A file with flat areas in their first form, which encoders do not write any more."""
    written = container.Reader(mvmic_codec.encode(image, rate_index=rate_index, device="cpu"))
    given = samples.from_array(image)
    colour = written.header.photometric == RGB
    planes = given.planes if colour else given.planes[:1]
    found = flat_candidates_of(planes, given)
    assert found is not None
    widest = found.areas[0]
    rest = flat_fill.fill(planes, widest.map > 0)
    payload = EncodeCandidate(rest, rate_index, device="cpu").encode().payload
    areas = flat.to_payload(flat.Flat(widest.values, widest.map, None), given.bits, given.signed)
    return container.write(written.header, [container.Tile(payload, flat=areas)], {})


def main() -> None:
    """Write what is not there yet."""
    models = reference.load_models(reference.installed_models())
    table = HERE / "golden.json"
    hashes: dict[str, str] = json.loads(table.read_text()) if table.exists() else {}
    for name, (image, options) in (images() | images_of_version_3()).items():
        path = HERE / f"{name}.mvm"
        if not path.exists():
            first = name.startswith("flat-areas")
            path.write_bytes(
                first_form(image, **options)
                if first
                else mvmic_codec.encode(image, device="cpu", **options)
            )
        decoded = reference.decode(path.read_bytes(), models)
        if not (HERE / f"{name}.npz").exists():
            stored = {"samples": decoded.samples}
            if decoded.colours is not None:
                stored["colours"] = decoded.colours
            np.savez_compressed(HERE / f"{name}.npz", **stored)
        symbols = b"".join(each.astype("<i2").tobytes() for each in decoded.passes)
        digest = hashlib.sha256(symbols).hexdigest()
        if hashes.setdefault(name, digest) != digest:
            sys.exit(f"{path} no longer decodes to the symbols in golden.json")
    table.write_text(json.dumps(hashes, indent=1) + "\n")


if __name__ == "__main__":
    main()
