"""What must hold for whatever bytes are given as a file: the fuzzer and the replay ask alike."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image, UnidentifiedImageError

import mvmic_codec
from mvmic_codec.bitstream import chunks, container
from mvmic_codec.bitstream.header import RGB
from mvmic_codec.errors import MvmError
from mvmic_codec.image import metadata
from mvmic_codec.model.identity import model_identity

_START = len(container.MAGIC)
# Where HEAD's payload starts, and three of its fields.
_HEAD = _START + 8
_KIND = _HEAD + 2
_GENERATION = _HEAD + 3
_FINGERPRINT = slice(_HEAD + 4, _HEAD + 12)
# A seed's fingerprint: that of whatever model is installed for its kind of image.
_ANY_MODEL = bytes(8)

# What else Pillow itself may say of a file that it opens.
REFUSALS = (MvmError, UnidentifiedImageError, Image.DecompressionBombError)


def for_installed_model(data: bytes) -> bytes:
    """The file with the installed model's fingerprint where it has that of any model.

    HEAD's checksum is right again if it was before.
    """
    # An indexed image has no fingerprint.
    if data[_FINGERPRINT] != _ANY_MODEL or data[_GENERATION] == 0:
        return data
    (length,) = struct.unpack_from("<I", data, _START)
    end = _HEAD + length
    patched = bytearray(data)
    patched[_FINGERPRINT] = model_identity(gray=data[_KIND] & 3 != RGB)[1]
    if data[end : end + 4] == _crc(data[_HEAD:end]):
        patched[end : end + 4] = _crc(patched[_HEAD:end])
    return bytes(patched)


def _crc(head: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(container.HEAD + head))


def mended(data: bytes) -> bytes:
    """The file with every chunk's checksum made right, so that what it holds is looked at.

    Lengths are taken as they are; the first that passes the end of the file ends the walk.
    """
    whole = bytearray(data)
    at = _START
    while at + chunks.OVERHEAD <= len(whole):
        (length,) = struct.unpack_from("<I", whole, at)
        end = at + 8 + length
        if end + 4 > len(whole):
            break
        struct.pack_into("<I", whole, end, zlib.crc32(whole[at + 4 : end]))
        at = end + 4
    return bytes(whole)


def check(data: bytes, largest: int) -> None:
    """Read the file in every way; what it declares to have at most `largest` pixels, decode.

    Whatever is wrong with it must be said by an MvmError, or by Pillow's own refusals.
    """
    header = whole = decoded = None
    try:
        header = container.read_header(data)
        reader = container.Reader(data)
        metadata.to_info(header, reader.metadata)
        whole = parts_of(reader)
        if header.frames * header.width * header.height <= largest:
            decoded = [
                mvmic_codec.decode(data, frame=frame, device="cpu")
                for frame in range(header.frames)
            ]
            mvmic_codec.decode_array(data, scale=16, device="cpu")
            mvmic_codec.decode_array(data, region=(0, 0, 1, 1), device="cpu")
    except MvmError:
        pass
    try:
        with Image.open(io.BytesIO(data), formats=["MVM"]) as image:
            assert header is not None
            assert image.size == (header.width, header.height) and image.mode == header.mode
            assert image.n_frames == header.frames
            if header.frames * image.width * image.height <= largest:
                loaded = []
                for frame in range(header.frames):
                    image.seek(frame)
                    image.load()
                    loaded.append(image.tobytes())
                # All of a file is checked only if all of it is read.
                assert decoded is not None
                assert loaded == [each.tobytes() for each in decoded]
    except REFUSALS:
        assert decoded is None
    if whole is not None:
        assert mended(data) == data
        # What was read can be written, and is the same again but for chunks of unknown types.
        assert parts_of(container.Reader(container.write(*whole))) == whole


def parts_of(reader):
    """What `container.write` takes, all of it checked."""
    reader.check()
    header = reader.header
    tiles = [
        reader.tile(frame, row, column)
        for frame in range(header.frames)
        for row in range(header.rows)
        for column in range(header.columns)
    ]
    return header, tiles, reader.metadata, reader.colours
