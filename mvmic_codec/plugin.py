"""The Pillow contract and nothing else: format "MVM", extension .mvm.

Opening reads header and metadata. Pixels, and with them numpy and torch, come with load().
Pillow's own size check runs between the two.
"""

from __future__ import annotations

import warnings
from typing import IO

from PIL import Image, ImageFile

from mvmic_codec.bitstream import container
from mvmic_codec.errors import FormatError, InputError
from mvmic_codec.image import metadata

FORMAT = "MVM"

# Image.open passes no options on to a format, so the device for loading has to be kept here.
_device: str | None = None


class MvmImageFile(ImageFile.ImageFile):
    """An opened `.mvm` file.

    `info` has model, rate_index, quality, and of exif, icc_profile, xmp, dpi, text what there is.
    Damage is reported by FormatError, an OSError; ImageFile.LOAD_TRUNCATED_IMAGES changes nothing
    about that, since part of an entropy-coded image is no image.
    """

    format = FORMAT
    format_description = "MVM learned medical image"

    def _open(self) -> None:
        assert self.fp is not None
        if not _accept(self.fp.read(len(container.MAGIC))):
            raise SyntaxError("not an MVM file")
        self.fp.seek(0)
        header, chunks = container.read_info(self.fp)
        self._size = (header.width, header.height)
        self._mode = header.mode
        self.info = metadata.to_info(header, chunks)
        # A plain tuple: Pillow before 11 has no class for it, Pillow since then takes both.
        self.tile = [("mvm", (0, 0, *self._size), 0, ())]  # type: ignore[list-item]

    def load_seek(self, pos: int) -> None:
        """Seek in the file. That this exists tells ImageFile.Parser to wait for the whole file."""
        assert self.fp is not None
        self.fp.seek(pos)

    def verify(self) -> None:
        """Check the checksum of every chunk, and close the file. Raises FormatError.

        What is coded within them has checksums of its own, which only decoding can check.
        """
        if self.fp is None:
            raise RuntimeError("verify must be called directly after open")
        self.fp.seek(0)
        container.read(self.fp)
        super().verify()


class _MvmDecoder(ImageFile.PyDecoder):
    _pulls_fd = True

    def decode(self, buffer: object) -> tuple[int, int]:
        from mvmic_codec import api

        assert self.fd is not None and self.im is not None
        image = api.decode(self.fd, device=_device)
        if image.mode != self.mode or image.size != (self.state.xsize, self.state.ysize):
            raise FormatError("the file was replaced by another one after it was opened")
        # Not set_as_raw, which would take the whole image as bytes once more.
        self.im.paste(image.im, (0, 0, *image.size))
        return -1, 0


def register_mvm_opener(*, device: str | None = None) -> None:
    """Make Pillow read and write `.mvm`; importing mvmic_codec does this by itself.

    device: where images opened and saved through Pillow are decoded and encoded from now on,
    "cpu", "cuda", "cuda:1", ...; None (the default) means CUDA where there is one, else the CPU.
    """
    global _device
    _device = device
    Image.register_open(FORMAT, MvmImageFile, _accept)
    Image.register_decoder("mvm", _MvmDecoder)
    Image.register_save(FORMAT, _save)
    Image.register_save_all(FORMAT, _save_all)
    Image.register_extension(FORMAT, ".mvm")
    Image.register_mime(FORMAT, "image/x-mvm")


def _accept(prefix: bytes) -> bool:
    # Half the magic says that it is ours; the container says if the other half is damaged.
    return prefix.startswith(container.MAGIC[:4])


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    from difflib import get_close_matches
    from inspect import signature

    from mvmic_codec import api

    options = dict(image.encoderinfo)
    if options.pop("append_images", None) or options.pop("append", False):
        raise InputError("an .mvm file holds one image; save others to files of their own")
    if options.pop("lossless", False):
        raise InputError("an .mvm file is always lossy; quality=8 comes nearest, without lossless")
    known = [name for name in signature(api.encode).parameters if name != "image"]
    given = {name: options.pop(name) for name in known if name in options}
    for name in options:
        near = get_close_matches(name, known, 1)
        hint = f"; is {near[0]!r} meant?" if near else ""
        # Shown where the caller calls Image.save.
        warnings.warn(f"saving to .mvm ignores the option {name!r}{hint}", stacklevel=3)
    # All bytes first and then one write. Pillow opens a file, and empties it, before it comes here.
    fp.write(api.encode(image, **{"device": _device, **given}))


def _save_all(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Save the only frame. InputError for an image of more."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise InputError(
            f"an .mvm file holds one frame, not {frames}; save each to a file, without save_all"
        )
    _save(image, fp, filename)
