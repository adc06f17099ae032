"""Pillow's plugin interface and nothing else: format "MVM", extension .mvm.

Opening reads header and metadata. load() decodes pixels, and only then imports numpy. Pillow's
own check of the size runs between the two. Saving imports torch.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile, ImagePalette

from mvmic_codec.bitstream import container
from mvmic_codec.errors import InputError
from mvmic_codec.image import metadata

if TYPE_CHECKING:
    from mvmic_codec.features.maps import Features

FORMAT = "MVM"

# Image.open passes no options on to a format, so those for loading are kept here.
_device: str | None = None
_maps: bool | str | Sequence[str] = False


class MvmImageFile(ImageFile.ImageFile):
    """An opened `.mvm` file.

    `info` has model, rate_index and quality, and exif, icc_profile, xmp, dpi, text, duration and
    loop if present. Frames of a series are reached by `seek`. `draft`, and so `Image.thumbnail`,
    decodes a smaller picture, which is sooner. Of an image in tiles `crop` before `load` decodes no
    more than it needs.

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
        # Pillow forgets its own reference after loading, and replaces this one when it closes.
        self._fp = self.fp
        self._reader = container.Reader(self.fp)
        header = self._header = self._reader.header
        self.n_frames = header.frames
        self.is_animated = header.frames > 1
        # Other frames are read later.
        self._close_exclusive_fp_after_loading = header.frames == 1
        self.info = metadata.to_info(header, self._reader.metadata)
        # No model coded an image of 1 bit or with a palette: it has pixels, but no features.
        self._maps = False if header.indexed else _maps
        self._go_to(0)

    def _go_to(self, frame: int) -> None:
        """Be ready to load a frame, whatever the caller did with the one before it."""
        self._frame = frame
        self.info.pop("transparency", None)
        self.palette = None
        header = self._header
        if header.palette:
            from mvmic_codec.bitstream.overlays import colours_of
            from mvmic_codec.image.pillow import palette_of, transparency_of

            assert self._reader.colours is not None
            colours = colours_of(self._reader.colours, header)
            self.palette = ImagePalette.raw("RGB", palette_of(header, colours))
            if header.alpha:
                self.info["transparency"] = transparency_of(colours)
        self._start(1)

    def _start(self, scale: int) -> None:
        """Be ready to load the frame at a scale."""
        header = self._header
        self._mode = header.mode
        self._size = -(-header.width // scale), -(-header.height // scale)
        self._scale = scale
        # Pillow would paint over pixels that are there: they belong to another frame or size.
        self.im = None  # type: ignore[assignment]
        if self.palette is not None:
            # Pixels that a failed attempt to load left may have had it already.
            self.palette.dirty = 1
        # The decoder does not know this object, and leaves the features here.
        self._features: list[Features] = []
        arguments = self._reader, self._frame, scale, self._features, self._maps
        # A plain tuple: Pillow before 11 has no class for a tile, and later versions take both.
        self.tile = [("mvm", (0, 0, *self._size), 0, arguments)]  # type: ignore[list-item]

    @property
    def features(self) -> Features:
        """The task features of the image, decoded with its pixels.

        Raises InputError for an image that no model coded, and if `register_mvm_opener` did not ask
        for features before the image was opened.
        """
        from mvmic_codec.features.maps import check_coded

        check_coded(self._header)
        self.load()
        if not self._features:
            raise InputError(
                "the image was opened without features; call "
                "mvmic_codec.register_mvm_opener(features=True) before Image.open"
            )
        return self._features[0]

    def seek(self, frame: int) -> None:
        """Go to a frame of a series, from 0. Changes of the frame before it are gone.

        Raises EOFError if there is none, and TypeError for what is no whole number.
        """
        frame = operator.index(frame)
        if not self._seek_check(frame):
            return
        if not hasattr(self._fp, "read"):
            raise ValueError("the image is closed")
        self.fp = self._fp  # type: ignore[assignment]
        duration = metadata.duration_of(self._header, self._reader.metadata, frame)
        if duration is not None:
            self.info["duration"] = duration
        self._go_to(frame)

    def tell(self) -> int:
        """The current frame, from 0."""
        return self._frame

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """Load a picture that is smaller by 2, 4, 8 or 16, and not smaller than `size`.

        Returns the mode, and the box of it that is the whole image; None if it stays as it is. mode
        is not looked at. Each sample is the mean over a square of pixels, without what the networks
        of the decoder add.
        """
        if size is None or len(self.tile) != 1 or self._maps is not False:
            return None
        header = self._header
        least = min(header.width // max(size[0], 1), header.height // max(size[1], 1))
        scale = max(each for each in (1, 2, 4, 8, 16) if each <= max(least, 1))
        if scale == self._scale:
            return None
        self._start(scale)
        return self.mode, (0, 0, header.width / scale, header.height / scale)

    def crop(self, box: tuple[float, float, float, float] | None = None) -> Image.Image:
        """As of any image. Before `load`, of an image in tiles, it decodes those that it needs."""
        if box is None or not self.tile or not self._header.tile or self._scale > 1:
            return super().crop(box)
        left, top, right, bottom = (int(round(each)) for each in box)
        if not (0 <= left < right <= self.width and 0 <= top < bottom <= self.height):
            return super().crop(box)
        from mvmic_codec import api

        region = left, top, right, bottom
        image = api.decode_image(self._reader, self._frame, region=region, device=_device)
        image.info = dict(self.info)
        return image

    def load_seek(self, pos: int) -> None:
        """Seek in the file. Because this exists, ImageFile.Parser waits for the whole file."""
        assert self.fp is not None
        self.fp.seek(pos)

    def verify(self) -> None:
        """Check the checksum of every chunk, and close the file. Raises FormatError.

        Symbols, flat areas and planes have further checksums, which only decoding checks.
        """
        if self.fp is None:
            raise RuntimeError("verify must be called directly after open")
        self._reader.check()
        super().verify()

    def __getstate__(self) -> list[Any]:
        """What is pickled: the frame, its features, and nothing of the file."""
        state: list[Any] = super().__getstate__()
        return [*state, self._header, self._features]

    def __setstate__(self, state: list[Any]) -> None:
        """A pickled image is one image, the frame that was loaded."""
        *state, self._header, self._features = state
        super().__setstate__(state)
        self.fp = None
        self._min_frame = self._frame = 0
        self.n_frames, self.is_animated = 1, False


class _MvmDecoder(ImageFile.PyDecoder):
    _pulls_fd = True

    def decode(self, buffer: object) -> tuple[int, int]:
        from mvmic_codec import api

        assert self.im is not None
        reader, frame, scale, kept, maps = self.args
        if maps is False:
            image = api.decode_image(reader, frame, scale=scale, device=_device)
        else:
            image, features = api.decode_image_with_features(reader, maps, frame, device=_device)
            kept.append(features)
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
    _write(image, [image], fp)


def _save_all(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Save all frames of an image, and those of the images in `append_images` after them."""
    from mvmic_codec.image.series import copies_of

    others = _appended(image.encoderinfo.pop("append_images", None))
    frames = copies_of(image, image.encoderinfo)
    for each in others:
        # Metadata is that of the first image.
        frames += copies_of(each, metadata.NAMES)
    _write(image, frames, fp)


def _appended(images: object) -> list[Image.Image]:
    """The images of the option append_images. Raises InputError for anything else."""
    found = [] if images is None else images
    if isinstance(found, Iterable) and not isinstance(found, Image.Image):
        found = list(found)
    if isinstance(found, list) and all(isinstance(each, Image.Image) for each in found):
        return found
    raise InputError("append_images takes a list of Pillow images; open or convert them first")


def _write(image: Image.Image, frames: list[Image.Image], fp: IO[bytes]) -> None:
    """Write frames with the options that `save` or `save_all` of an image got."""
    from difflib import get_close_matches
    from inspect import signature

    from mvmic_codec import api

    options = dict(image.encoderinfo)
    if _appended(options.pop("append_images", None)):
        raise InputError("append_images needs save_all=True")
    if options.pop("append", False):
        raise InputError(
            "an .mvm file takes no further frames; save all at once with save_all=True and "
            "append_images"
        )
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
    given = {"device": _device, **given}
    fp.write(api.encode(frames if len(frames) > 1 else frames[0], **given))
