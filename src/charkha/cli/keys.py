"""`charkha keys`: make, list and revoke the API keys of a server."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from charkha.cli import show
from charkha.cli.arguments import parser, subcommand, subcommands
from charkha.errors import DONE
from charkha.project import Project, open_project
from charkha.serving import keys


def main(arguments: list[str]) -> int:
    """Run one `charkha keys …` command line; return the exit code."""
    given = _parser().parse_args(arguments)
    _ACTIONS[given.action](open_project(environment=given.env), given)
    return DONE


def _parser() -> argparse.ArgumentParser:
    made = parser("keys", example="charkha keys add shop --expires 90d")
    among = subcommands(made)
    add = subcommand(
        among,
        "add",
        "make a key and print it, for the only time",
        example="charkha keys add shop --expires 90d",
    )
    add.add_argument("name", metavar="NAME", help="who gets it")
    add.add_argument(
        "--model",
        metavar="MODEL",
        action="append",
        help="a model that it opens, again for another, '*' for all; the project's own without it",
    )
    add.add_argument(
        "--scope",
        action="append",
        choices=keys.SCOPES,
        help="what it allows, again for another; predict without it",
    )
    add.add_argument("--expires", metavar="TIME", help="90d, 12h or 2027-01-31; never without it")
    subcommand(
        among, "list", "list keys, with what they open; never the keys", example="charkha keys list"
    )
    revoke = subcommand(
        among,
        "revoke",
        "make a key worthless; a server that runs hears of it within a second",
        example="charkha keys revoke 5f0c91ab",
    )
    revoke.add_argument("key", metavar="KEY", help="its id, or its name where no other has that")
    return made


def _add(project: Project, given: argparse.Namespace) -> None:
    file = project.serving.keys
    made, key = keys.add_key(
        file,
        given.name,
        models=given.model or [project.model.name],
        scopes=given.scope or ["predict"],
        expires=None if given.expires is None else keys.expiry(given.expires),
    )
    if given.json:
        show.as_json({**_as_json(made), "key": key})
        return
    print(key)
    show.note(
        f"key {made.id} of {made.name!r} allows {', '.join(made.scopes)} on {_models(made)}"
        f"{f' until {made.expires}' if made.expires else ''}; its digest is in {file}.\n"
        "This is the only time that it is shown. Send it as `authorization: Bearer KEY`."
    )


def _list(project: Project, given: argparse.Namespace) -> None:
    file = project.serving.keys
    known = keys.read_keys(file) if file.exists() else []
    if given.json:
        show.as_json([_as_json(key) for key in known])
    elif not known:
        print("no key is made yet\n  → charkha keys add NAME")
    else:
        rows = [
            (key.id, key.name, key.state, _models(key), ", ".join(key.scopes), key.created)
            + (key.revoked or key.expires,)
            for key in known
        ]
        show.table(("id", "name", "state", "models", "scopes", "made", "ends"), rows)


def _revoke(project: Project, given: argparse.Namespace) -> None:
    revoked = keys.revoke_key(project.serving.keys, given.key)
    if given.json:
        show.as_json(_as_json(revoked))
    else:
        print(f"key {revoked.id} of {revoked.name!r} is revoked")


def _models(key: keys.Key) -> str:
    return "all models" if keys.ALL_MODELS in key.models else ", ".join(key.models)


def _as_json(key: keys.Key) -> dict[str, object]:
    return {**asdict(key), "state": key.state}


_ACTIONS = {"add": _add, "list": _list, "revoke": _revoke}
