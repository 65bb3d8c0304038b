"""Argument parsers that look alike: `--json`, `--env`, `--debug`, and an example at the end."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypedDict

from charkha.cli.main import COMMANDS
from charkha.errors import UserError

if TYPE_CHECKING:
    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]

_LONGEST_S = 3_155_760_000.0  # a century; what is longer no clock of a computer sleeps


def parser(command: str, *, example: str) -> argparse.ArgumentParser:
    """Return the parser of a command; a wrong command line ends the program with 2.

    What it parses has `json: bool`, `env: str | None` and `debug: bool`, wherever they are given.
    """
    made = argparse.ArgumentParser(prog=f"charkha {command}", **_looks(COMMANDS[command], example))
    _add_options(made)
    made.set_defaults(json=False, env=None, debug=False)
    return made


def subcommands(parent: argparse.ArgumentParser) -> Subcommands:
    """Return where `subcommand` adds to; what is parsed has the chosen one as `action: str`."""
    return parent.add_subparsers(dest="action", metavar="ACTION", required=True)


def subcommand(
    among: Subcommands, name: str, text: str, *, example: str
) -> argparse.ArgumentParser:
    """Add and return the parser of one subcommand, such as `add` of `charkha data`."""
    made = among.add_parser(name, help=text, **_looks(text, example))
    _add_options(made)
    return made


def count(text: str) -> int:
    """Read an option that counts something, for argparse: a whole number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return number


def seconds(text: str) -> float:
    """Read an option that is a time, for argparse: `30s`, `5min`, `1h`; a number alone is seconds."""
    units = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86_400}
    number = text.rstrip("smindh")
    try:
        found = float(number) * units[text[len(number) :]]
    except (ValueError, KeyError):
        found = 0.0
    if not 0 < found <= _LONGEST_S:  # nor is what is no number
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 30s, 5min or 1h")
    return found


def pair(text: str) -> tuple[str, str]:
    """Return name and value of a `--param NAME=VALUE`.

    Raises:
        UserError: it is none.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"--param {text!r} has no value", fix=f"--param {name or 'alpha'}=0.3")
    return name, value


class _Looks(TypedDict):
    description: str
    epilog: str
    formatter_class: type[argparse.HelpFormatter]
    allow_abbrev: bool


def _looks(text: str, example: str) -> _Looks:
    return {
        "description": f"{text[0].upper()}{text[1:]}.",
        "epilog": f"example:\n  {example}",
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command has; no defaults, or a subcommand's would hide what is given before."""
    absent = argparse.SUPPRESS
    parser.add_argument("--json", action="store_true", default=absent, help="print JSON")
    parser.add_argument("--env", metavar="NAME", default=absent, help="environment of charkha.toml")
    parser.add_argument("--debug", action="store_true", default=absent, help="show tracebacks")
