"""`mvmic tasks`: experiments with vision tasks on features from files."""

import click

from mvmic_codec.cli.tasks import overlays, tables, train


@click.group("tasks")
def command() -> None:
    """Train networks on features of .mvm files, and make the paper's tables."""


for each in (train.command, tables.table1, tables.table2, tables.table4, overlays.command):
    command.add_command(each)
