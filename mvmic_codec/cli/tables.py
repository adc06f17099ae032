"""Tables of results as arguments of a command: CSV files, and folders of more of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mvmic_codec.errors import InputError

if TYPE_CHECKING:
    from mvmic_codec.evaluation.rows import Row


def arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command TABLES, --peers-dir and --test, as `paths`, `folders` and `test`."""
    for add in (
        click.option(
            "--test", default="mvm", show_default=True, help="Codec to compare the others with."
        ),
        click.option(
            "--peers-dir",
            "folders",
            multiple=True,
            type=click.Path(path_type=Path, readable=False),
            help="Folder of further CSV tables, such as those of BPG and VVC; may be given several "
            "times.",
        ),
        click.argument(
            "paths",
            metavar="TABLES...",
            nargs=-1,
            required=True,
            type=click.Path(path_type=Path, readable=False),
        ),
    ):
        command = add(command)
    return command


def read(paths: tuple[Path, ...], folders: tuple[Path, ...]) -> list[Row]:
    """The rows of the CSV files and of all those in the folders.

    Raises InputError for a folder without any, and for what is no table.
    """
    from mvmic_codec.evaluation.rows import read_rows

    files = [*paths]
    for folder in folders:
        found = sorted(folder.glob("*.csv"))
        if not found:
            raise InputError(f"{folder} holds no CSV tables")
        files += found
    return [row for path in files for row in read_rows(path)]
