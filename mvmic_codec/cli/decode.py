"""`mvmic decode`: .mvm files to images of any other format."""

from __future__ import annotations

import click
from PIL import Image

from mvmic_codec.bitstream.container import Reader
from mvmic_codec.cli import batch, files, formats, lost
from mvmic_codec.cli.drop import drop
from mvmic_codec.cli.limits import max_pixels
from mvmic_codec.cli.plan import Naming, plan
from mvmic_codec.image.metadata import KINDS


class Region(click.ParamType):  # type: ignore[type-arg]
    """Four whole numbers with commas between them."""

    name = "L,T,R,B"

    def convert(self, value: str, param: object, ctx: object) -> tuple[int, int, int, int]:
        """The numbers. Raises BadParameter for others."""
        try:
            left, top, right, bottom = map(int, value.split(","))
        except ValueError:
            raise click.BadParameter(
                f"{value!r} is no region: give LEFT,TOP,RIGHT,BOTTOM in pixels, such as 0,0,512,512"
            ) from None
        return left, top, right, bottom


@click.command("decode")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(readable=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(readable=False),
    help="File for one image, or -; else a folder.  [default: beside the input]",
)
@click.option(
    "--to",
    "suffix",
    default=".png",
    show_default=True,
    help="Suffix, and by it the format, of files whose name -o does not give.",
)
@click.option("--frame", type=int, help="Which frame of a series, from 0.  [default: all]")
@click.option(
    "--region", type=Region(), help="LEFT,TOP,RIGHT,BOTTOM in pixels: decode this part alone."
)
@click.option(
    "--scale",
    default="1",
    show_default=True,
    type=click.Choice(["1", "2", "4", "8", "16"]),
    help="A picture smaller by so much, sooner.",
)
@drop
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@max_pixels
@click.option("--device", help="Where to decode: cpu, or by torch cuda.  [default: cpu]")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def command(
    inputs: tuple[str, ...],
    output: str | None,
    suffix: str,
    frame: int | None,
    region: tuple[int, int, int, int] | None,
    scale: str,
    dropped: frozenset[str],
    force: bool,
    device: str | None,
    quiet: bool,
) -> None:
    """Decode .mvm files, or all of them below folders, to images.

    The suffix of the output chooses the format. "-" is standard input, and with -o standard
    output; then --to chooses the format and the summary goes to standard error. Folders keep
    their tree; files in them that are not decoded are named on standard error, and so is metadata
    that the format cannot hold. Files that exist are left alone without --force. The frames of a
    series become one TIFF, PNG or WebP.

    Exit codes: 0 all done, 1 an input failed (the others are done), 2 wrong usage, 130 interrupted,
    143 terminated.
    """
    suffix = suffix if suffix.startswith(".") else f".{suffix}"
    _check_suffix(suffix)
    naming = Naming(".mvm files", {".mvm"}, {".mvm"}, suffix)
    try:
        planned = plan(inputs, output, naming)
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
    to_stream = any(files.is_stream(job.target) for job in planned.jobs)
    for job in planned.jobs:
        _check_suffix(suffix if to_stream else job.target.suffix)
    outputs = files.Outputs(force=force)

    def work(job: files.Job) -> str:
        from mvmic_codec import api

        outputs.check(job)
        chosen = suffix if to_stream else job.target.suffix
        form, _ = formats.FORMATS[chosen.lower()]
        with files.reading(job.source) as file:
            reader = Reader(file)
            header = reader.header
            wanted = range(header.frames) if frame is None else [frame]
            formats.check_kind(header, form, len(wanted))
            if len(wanted) > 1:
                api.check_frames(reader, region, int(scale))
            images: list[Image.Image] = []
            with batch.progress(files.shown(job.source.name), "%", hide=quiet, total=100) as bar:

                def told(share: float) -> None:
                    percent = int(100 * (len(images) + share) / len(wanted))
                    bar.update(percent - bar.n)

                for number in wanted:
                    images.append(
                        api.decode_image(
                            reader,
                            number,
                            region=region,
                            scale=int(scale),
                            on_part=told,
                            device=device,
                        )
                    )
        image = images[0]
        metadata = {
            kind.name: image.info[kind.name]
            for kind in KINDS
            if kind.name in image.info and kind.name not in dropped
        }
        if len(images) > 1 and "duration" in image.info:
            metadata["duration"] = [each.info["duration"] for each in images]
            metadata["loop"] = image.info["loop"]
        # Pillow's writers take what is there, whatever else they are given.
        for each in images:
            kept = each.info.get("transparency")
            each.info = {} if kept is None else {"transparency": kept}
        data = formats.encoded(images, chosen, metadata)
        outputs.write(job.target, data)
        missing = lost.missing(data, metadata)
        if missing:
            batch.complain(job.source, lost.sentence(form, missing))
        name = files.shown(job.target)
        frames = f"{len(images)} frames of " if len(images) > 1 else ""
        return f"{name}: {frames}{image.width}x{image.height} {image.mode}, {form}"

    lines, failures = batch.run(
        planned.jobs, work, lambda job: job.source, label="decode", quiet=quiet
    )
    batch.tell_unplanned(planned)
    if not quiet and lines:
        batch.say("\n".join(lines), err=to_stream)
    if failures or planned.failed:
        raise click.exceptions.Exit(1)


def _check_suffix(suffix: str) -> None:
    if suffix.lower() not in formats.FORMATS:
        raise click.UsageError(
            f"{suffix or 'a name without a suffix'} is no format to decode to; "
            f"choose from {' '.join(formats.FORMATS)}"
        )
