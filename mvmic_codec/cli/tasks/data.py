"""The options of `mvmic tasks` that name a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mvmic_codec.errors import InputError

if TYPE_CHECKING:
    from mvmic_codec.tasks.layouts import DataSet

# Layouts of data sets with masks of polyps, or of anything else of one class.
POLYPS = ("folders", "colondb")
STREETS = ("camvid", "cityscapes")
_HELP = {
    "folders": "images and masks of equal names",
    "colondb": "--data is CVC-ColonDB or CVC-ClinicDB",
    "camvid": "images and labels 0 to 11 of equal names",
    "cityscapes": "--data holds leftImg8bit and gtFine; train is trained on, val is measured",
}
_EXTRA = ("torchvision", "torchmetrics", "pycocotools")


def options(*layouts: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command --data, --masks and --layout, which is one of these. The first is default."""

    def add_all(command: Callable[..., Any]) -> Callable[..., Any]:
        for add in (
            click.option(
                "--layout",
                type=click.Choice(layouts),
                default=layouts[0],
                show_default=True,
                help=f"{'; '.join(f'{name}: {_HELP[name]}' for name in layouts)}.",
            ),
            click.option(
                "--masks",
                type=click.Path(path_type=Path),
                help="Folder of masks or labels.  [default: FOLDER_mask, for camvid FOLDER_label, "
                "beside FOLDER]",
            ),
            click.option(
                "--data",
                "folder",
                required=True,
                type=click.Path(path_type=Path),
                help="Folder of images.",
            ),
        ):
            command = add(command)
        return command

    return add_all


def read(folder: Path, masks: Path | None, layout: str, *, judge: bool = False) -> DataSet:
    """A data set to train on, or to judge heads with. Errors as those of `layouts`.

    Only Cityscapes tells the two apart: its parts are train and val.
    """
    from mvmic_codec.evaluation import require

    require(*_EXTRA, extra="tasks")
    from mvmic_codec.tasks import layouts

    if layout in ("colondb", "cityscapes"):
        if masks is not None:
            raise click.UsageError(f"--masks does not go with --layout {layout}")
        if layout == "colondb":
            return layouts.cvc_colondb(folder)
        return layouts.cityscapes(folder, "val" if judge else "train")
    if layout == "camvid":
        return layouts.camvid(folder, masks_of(folder, masks, "label"))
    return layouts.folder_of_masks(folder, masks_of(folder, masks, "mask"))


def masks_of(folder: Path, masks: Path | None, end: str) -> Path:
    """The folder of masks that is named, or FOLDER_end beside FOLDER.

    Raises InputError if none is named and there is none beside a folder.
    """
    if masks is not None:
        return masks
    found = beside(folder, end)
    if folder.is_dir() and not found.is_dir():
        raise InputError(f"there is no folder {found}: name that of the masks by --masks")
    return found


def beside(folder: Path, end: str) -> Path:
    """FOLDER_end beside FOLDER, which may be given as a dot."""
    whole = folder if folder.name not in ("", "..") else folder.resolve()
    return whole.parent / f"{whole.name}_{end}"


def classes_of(data: DataSet) -> tuple[str, ...]:
    """The classes that a head tells apart: one means that class against the background."""
    background, *others = data.classes
    return (others[0],) if background == "background" and len(others) == 1 else data.classes
