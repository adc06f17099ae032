"""Peers that are programs of their own: BPG and VVC.

An image goes to the program and comes back in files of a temporary folder, so the seconds of
these codecs hold the start of a process and the writing and reading of such files.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.evaluation.codec import Codec, Setting

Plane = npt.NDArray[np.float64]

_BPG_QPS = (48, 45, 42, 39, 36, 33, 30, 26, 22)
_VVC_QPS = (47, 42, 37, 32, 27, 22)

# VVC is coded at 10 bits, full range.
_PEAK = 1023

# Weights of R, G and B in the luma of BT.709, and what B - Y and R - Y are divided by to be chroma.
_LUMA = np.array([0.2126, 0.7152, 0.0722])
_CB, _CR = 2 * (1 - _LUMA[2]), 2 * (1 - _LUMA[0])


def bpg() -> Codec:
    """BPG by bpgenc and bpgdec, with x265, 4:4:4; a gray PNG becomes 4:0:0 of itself."""
    _require("BPG", "libbpg, built with x265", "bpgenc", "bpgdec")

    def setting(qp: int) -> Setting:
        def encode(image: Image.Image) -> bytes:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                image.save(folder / "image.png", compress_level=1)
                options = ("-e", "x265", "-m", "9", "-f", "444", "-q", str(qp))
                _run(folder, "bpgenc", *options, "-o", "image.bpg", "image.png")
                return _output(folder, "bpgenc", "image.bpg")

        return Setting(str(qp), encode)

    settings = [setting(qp) for qp in _BPG_QPS]
    return Codec("bpg", deep=False, curves=lambda gray: [settings], decode=_decode_bpg, apart=True)


def vvc() -> Codec:
    """VVC by vvencFFapp and vvdecapp: one intra frame of 10 bits, preset slower, tuned for PSNR.

    VVenC codes 4:0:0 and 4:2:0 alone, so colour has halved chroma.
    """
    _require("VVC", "VVenC and VVdeC", "vvencFFapp", "vvdecapp")

    def setting(qp: int) -> Setting:
        def encode(image: Image.Image) -> bytes:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                (folder / "image.yuv").write_bytes(_to_yuv(image))
                _run(
                    folder,
                    "vvencFFapp",
                    *("--InputFile", "image.yuv", "--BitstreamFile", "image.266"),
                    *("--Size", f"{image.width}x{image.height}", "--FrameRate", "1"),
                    *("--InputChromaFormat", "400" if image.mode == "L" else "420"),
                    *("--InputBitDepth", "10", "--InternalBitDepth", "10"),
                    *("--FramesToBeEncoded", "1", "--preset", "slower", "--PerceptQPA", "0"),
                    *("--QP", str(qp), "--Threads", "1"),
                )
                return _output(folder, "vvencFFapp", "image.266")

        return Setting(str(qp), encode)

    settings = [setting(qp) for qp in _VVC_QPS]
    return Codec("vvc", deep=False, curves=lambda gray: [settings], decode=_decode_vvc, apart=True)


def _decode_bpg(data: bytes) -> Image.Image:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "image.bpg").write_bytes(data)
        _run(folder, "bpgdec", "-o", "image.png", "image.bpg")
        with Image.open(io.BytesIO(_output(folder, "bpgdec", "image.png"))) as image:
            image.load()
            return image


def _decode_vvc(data: bytes) -> Image.Image:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "image.266").write_bytes(data)
        # A Y4M file tells the size of its frame, raw samples do not.
        options = ("--bitstream", "image.266", "--output", "image.y4m", "--threads", "1")
        _run(folder, "vvdecapp", *options)
        return _from_y4m(_output(folder, "vvdecapp", "image.y4m"))


def _to_yuv(image: Image.Image) -> bytes:
    """Planes of a gray or RGB image as 10-bit samples: luma alone, or luma and halved chroma."""
    pixels = np.asarray(image, np.float64) / 255
    if image.mode == "L":
        return _samples(pixels)
    if image.width % 2 or image.height % 2:
        raise InputError("vvc halves chroma and so takes colour images with even sides alone")
    luma = pixels @ _LUMA
    half = (image.width // 2, image.height // 2)
    chroma = [
        _resize((pixels[:, :, channel] - luma) / span + 0.5, half)
        for channel, span in ((2, _CB), (0, _CR))
    ]
    return b"".join(_samples(plane) for plane in (luma, *chroma))


def _from_y4m(data: bytes) -> Image.Image:
    """The one frame of a Y4M file of 10 bits.

    The name of the chroma format is not relied on, as some decoders call luma alone 4:2:0: how
    many samples there are decides.
    """
    header, _, rest = data.partition(b"\n")
    sizes = {field[:1]: int(field[1:]) for field in header.split()[1:] if field[:1] in b"WH"}
    width, height = sizes.get(b"W", 0), sizes.get(b"H", 0)
    samples = np.frombuffer(rest.partition(b"\n")[2], "<u2").astype(np.float64) / _PEAK
    area, quarter = width * height, (width // 2) * (height // 2)
    if area == 0 or len(samples) not in (area, area + 2 * quarter):
        raise MvmError(f"vvdecapp wrote {len(samples)} samples for {width}x{height} pixels")
    luma = samples[:area].reshape(height, width)
    if len(samples) == area:
        return Image.fromarray(_to_bytes(luma))
    halves = samples[area:].reshape(2, height // 2, width // 2)
    cb, cr = (_resize(half, (width, height)) - 0.5 for half in halves)
    blue, red = luma + _CB * cb, luma + _CR * cr
    green = (luma - _LUMA[2] * blue - _LUMA[0] * red) / _LUMA[1]
    return Image.fromarray(_to_bytes(np.dstack((red, green, blue))))


def _resize(plane: Plane, size: tuple[int, int]) -> Plane:
    image = Image.fromarray(plane.astype(np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float64)


def _samples(plane: Plane) -> bytes:
    return np.rint(plane * _PEAK).clip(0, _PEAK).astype("<u2").tobytes()


def _to_bytes(plane: Plane) -> npt.NDArray[np.uint8]:
    return np.rint(plane * 255).clip(0, 255).astype(np.uint8)


def _require(codec: str, package: str, *names: str) -> None:
    for name in names:
        if shutil.which(name) is None:
            raise InputError(
                f"{name} is not on the PATH; install {package}, or compare with rows of {codec} "
                "measured elsewhere by `mvmic compare --peers-dir`"
            )


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise MvmError(f"{command[0]} failed: {said[-1] if said else f'exit {done.returncode}'}")


def _output(folder: Path, program: str, name: str) -> bytes:
    path = folder / name
    if not path.exists():
        raise MvmError(f"{program} ended well and wrote nothing")
    return path.read_bytes()
