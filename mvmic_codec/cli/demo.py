"""`mvmic demo`: an image to a file, to features, to what a head sees in them."""

from __future__ import annotations

import io
import time
import warnings
from pathlib import Path

import click

from mvmic_codec import rate
from mvmic_codec.cli import batch, files
from mvmic_codec.cli.encode import open_image
from mvmic_codec.cli.limits import max_pixels
from mvmic_codec.errors import InputError

# Of quality 3: about 0.06 bits per pixel on colonoscopy.
_INDEX = rate.index_of(3.0)
# Side of an image that is coded once before anything is timed.
_WARM_UP = 64


@click.command("demo")
@click.argument("image_path", metavar="IMAGE", type=click.Path(path_type=Path, readable=False))
@click.option(
    "--head",
    "head_path",
    type=click.Path(path_type=Path, readable=False),
    help="Head on features, as `mvmic tasks train` writes it.  [default: polyp, the one that "
    "ships]",
)
@click.option(
    "-o",
    "--output",
    default="overlay.png",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where to draw what was found.",
)
@click.option(
    "--rate-index",
    "index",
    type=click.IntRange(0, 63),
    help=f"Of the file.  [default: {_INDEX}, which is quality 3]",
)
@click.option("--force", is_flag=True, help="Overwrite the output.")
@max_pixels
@click.option("--device", help="Where to run all networks, such as cpu or cuda.")
def command(
    image_path: Path,
    head_path: Path | None,
    output: Path,
    index: int | None,
    force: bool,
    device: str | None,
) -> None:
    """Encode IMAGE, decode features without pixels, and draw what a head sees in them.

    An .mvm file is taken as it is. The overlay is drawn over the original image, or over what the
    file decodes to. Times are wall time of one run each, after the networks are loaded. Not a
    medical device: for research only.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    try:
        form = _format_of(output)
        from PIL import Image

        from mvmic_codec import api
        from mvmic_codec.model.identity import default_identity
        from mvmic_codec.tasks.heads import SHIPPED, load_head
        from mvmic_codec.tasks.overlay import draw_overlay

        try:
            with files.reading(image_path) as source:
                image, _ = open_image(source)
                source.seek(0)
                given = source.read() if image.format == "MVM" else None
        except InputError as error:
            raise InputError(f"{files.shown(image_path)} {error}") from error
        if given is not None and index is not None:
            raise click.UsageError(
                f"--rate-index is for an image, and {files.shown(image_path)} is encoded already"
            )
        outputs = files.Outputs(force=force)
        outputs.check(files.Job(image_path, output))
        head_path = head_path or Path(SHIPPED)
        head = load_head(head_path, device)
        head.check_task(detects=False)
        maps = head.feature_maps()
        if len(head.card.classes) != 1:
            raise InputError(
                f"the head {files.shown(head_path)} tells {len(head.card.classes)} classes apart, "
                "and this command draws one: use a head for one class"
            )
        if given is not None:
            index = api.read_header(given).rate_index
        index = _INDEX if index is None else index
        # The first run loads the model that the head is for. A part of the image would not do, as a
        # black corner is gray.
        noise = Image.effect_noise((_WARM_UP, _WARM_UP), 50)
        if head.card.fingerprint != default_identity(gray=True).fingerprint:
            noise = Image.merge("RGB", (noise, noise, Image.new("L", noise.size)))
        warm = api.encode(noise, rate_index=index, device=device)
        with batch.warnings_noted():
            head.predict(api.decode_features(warm, maps, device=device))

        start = time.perf_counter()
        data = given or api.encode(image, rate_index=index, device=device)
        encoded = time.perf_counter()
        features = api.decode_features(data, maps, device=device)
        # A GPU is done when a value of its result is here.
        float(features[maps[0]].sum())
        decoded = time.perf_counter()
        with warnings.catch_warnings():
            # Said already.
            warnings.simplefilter("ignore", UserWarning)
            prediction = head.predict(features)[0]
        end = time.perf_counter()

        file = io.BytesIO()
        drawn = draw_overlay(image, mask=prediction.mask)
        drawn.save(file, form)
        outputs.write(output, file.getvalue())
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
    encoding = "" if given is not None else f"encode {encoded - start:.2f} s, "
    bpp = 8 * len(data) / (image.width * image.height)
    batch.say(
        f"{files.shown(image_path)}: {image.width}x{image.height}, {len(data):,} bytes, "
        f"{bpp:.3f} bits per pixel at rate index {index}\n"
        f"{encoding}features {decoded - encoded:.2f} s, head {end - decoded:.2f} s\n"
        f"{head.card.classes[0]}: {(prediction.mask > 0).mean():.1%} of the image; "
        f"drawn to {files.shown(output)}\n"
        f"{head.card.notice}"
    )


def _format_of(output: Path) -> str:
    """Pillow's name of the format by a file's suffix. Raises InputError for one it cannot write."""
    from PIL import Image

    Image.init()
    name = Image.registered_extensions().get(output.suffix.lower())
    if name not in ("PNG", "JPEG", "WEBP", "TIFF", "BMP"):
        raise InputError(f"{files.shown(output)} cannot be written: name it .png, .jpg or .webp")
    return name
