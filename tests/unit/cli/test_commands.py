"""The list of commands: it names every command there is, and each in one line."""

from importlib import import_module
from pkgutil import iter_modules

import click

from meterhouse import cli
from meterhouse.cli.commands import SECTIONS

ENTRIES = {name: entry for entries in SECTIONS.values() for name, entry in entries.items()}


def test_every_entry_is_a_command_of_its_name() -> None:
    context = click.Context(cli.cli)
    for name in ENTRIES:
        command = cli.cli.get_command(context, name)
        assert command is not None
        assert command.name == name


def test_every_command_has_an_entry() -> None:
    listed = {(entry.module, entry.attribute) for entry in ENTRIES.values()}
    modules = {name: vars(import_module(f"meterhouse.cli.{name}")) for _, name, _ in iter_modules(cli.__path__)}
    groups = [each for found in modules.values() for each in found.values() if isinstance(each, click.Group)]
    within = {id(command) for group in groups for command in _commands(group)}
    there = {
        (name, attribute)
        for name, found in modules.items()
        for attribute, command in found.items()
        if isinstance(command, click.Command) and id(command) not in within
    }
    assert there <= listed


def _commands(group: click.Group) -> list[click.Command | None]:
    context = click.Context(group)
    return [group.get_command(context, name) for name in group.list_commands(context)]


def test_help_shows_every_command_whole() -> None:
    text = cli.cli.get_help(click.Context(cli.cli, info_name="meterhouse", terminal_width=80))
    assert all(f"  {name} " in text and entry.help in text for name, entry in ENTRIES.items()), text
    assert "..." not in text.partition("Commands")[2]
