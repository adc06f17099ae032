"""Pillow's plugin interface and nothing else: format "MVM", extension .mvm.

Opening reads header and metadata. load() decodes pixels, and only then imports numpy. Pillow's
own check of the size runs between the two. Saving imports torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from PIL import Image, ImageFile

from mvmic_codec.bitstream import container
from mvmic_codec.errors import FormatError, InputError
from mvmic_codec.image import metadata

if TYPE_CHECKING:
    from mvmic_codec.features.maps import Features

FORMAT = "MVM"

# Image.open passes no options on to a format, so those for loading are kept here.
_device: str | None = None
_maps: bool | str | Sequence[str] = False


class MvmImageFile(ImageFile.ImageFile):
    """An opened `.mvm` file.

    `info` has model, rate_index and quality, and exif, icc_profile, xmp, dpi, text if present.

    A damaged file raises FormatError, which is an OSError. ImageFile.LOAD_TRUNCATED_IMAGES does not
    change that: a part of an entropy-coded image cannot be decoded.
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
        # The decoder does not know this object, and leaves the features here.
        self._features: list[Features] = []
        # A plain tuple: Pillow before 11 has no class for a tile, and later versions take both.
        self.tile = [("mvm", (0, 0, *self._size), 0, (self._features, _maps))]  # type: ignore[list-item]

    @property
    def features(self) -> Features:
        """The task features of the image, decoded with its pixels.

        Raises InputError if `register_mvm_opener` did not ask for features before it was opened.
        """
        self.load()
        if not self._features:
            raise InputError(
                "the image was opened without features; call "
                "mvmic_codec.register_mvm_opener(features=True) before Image.open"
            )
        return self._features[0]

    def load_seek(self, pos: int) -> None:
        """Seek in the file. Because this exists, ImageFile.Parser waits for the whole file."""
        assert self.fp is not None
        self.fp.seek(pos)

    def verify(self) -> None:
        """Check the checksum of every chunk, and close the file. Raises FormatError.

        Symbols and flat areas have further checksums, which only decoding checks.
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
        kept, maps = self.args
        if maps is False:
            image = api.decode(self.fd, device=_device)
        else:
            image, features = api.decode(self.fd, features=maps, device=_device)
            kept.append(features)
        if image.mode != self.mode or image.size != (self.state.xsize, self.state.ysize):
            raise FormatError("the file was replaced by another one after it was opened")
        # Not set_as_raw, which would copy the whole image to bytes first.
        self.im.paste(image.im, (0, 0, *image.size))
        return -1, 0


def register_mvm_opener(
    *, device: str | None = None, features: bool | str | Sequence[str] = False
) -> None:
    """Make Pillow read and write `.mvm`. Importing mvmic_codec calls this.

    device    where Pillow decodes and encodes `.mvm` from now on: "cpu", "cuda", "cuda:1", ...;
              None (the default) decodes on the CPU, without torch, and encodes on CUDA if there is
              one, else on the CPU. Decoded samples are the same on all
    features  True, or names of feature maps: images opened from now on have task features as their
              attribute `features`; see `mvmic_codec.Features`

    Raises InputError for an unknown map.
    """
    global _device, _maps
    if features is not False and features is not True:
        from mvmic_codec.features.maps import checked_names

        features = checked_names(features)
    _device, _maps = device, features
    Image.register_open(FORMAT, MvmImageFile, _accept)
    Image.register_decoder("mvm", _MvmDecoder)
    Image.register_save(FORMAT, _save)
    Image.register_save_all(FORMAT, _save_all)
    Image.register_extension(FORMAT, ".mvm")
    Image.register_mime(FORMAT, "image/x-mvm")


def _accept(prefix: bytes) -> bool:
    # Half the magic identifies the format. If the other half is damaged, the container says so.
    return prefix.startswith(container.MAGIC[:4])


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    _write(image, fp)


def _save_all(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Save an image of one frame. InputError for an image with more."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise InputError(
            f"an .mvm file holds one frame, not {frames}; save each to a file, without save_all"
        )
    _write(image, fp)


def _write(image: Image.Image, fp: IO[bytes]) -> None:
    """Write an image with the options that `save` or `save_all` got."""
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
        close = get_close_matches(name, known, 1)
        hint = f"; is {close[0]!r} meant?" if close else ""
        # The warning points at the caller of Image.save, which called _save or _save_all.
        warnings.warn(f"saving to .mvm ignores the option {name!r}{hint}", stacklevel=4)
    # One write, after everything that can fail. Pillow has already opened and emptied the file.
    fp.write(api.encode(image, **{"device": _device, **given}))
