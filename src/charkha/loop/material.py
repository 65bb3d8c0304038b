"""What a turn trains on: the parameters that tell the pipeline from when to when."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow.compute as compute

from charkha.definition import nearest
from charkha.errors import ProjectError, UserError
from charkha.serving.records.moments import moment_of
from charkha.serving.records.reading import read_records

if TYPE_CHECKING:
    from pathlib import Path

    from charkha.loop.triggers import Signal
    from charkha.project import Project

_ROWS = re.compile(r"\d[\d_,]*")


def parameters(project: Project, model: str, signal: Signal, now: float) -> dict[str, str]:
    """Return the parameters of a turn that `signal` begins; "" as a first moment is everything.

    Raises:
        ProjectError: the window of `[loop]` is none.
        BackendError: the records refuse.
    """
    settings = project.loop
    check_window(settings.window)
    until = datetime.fromtimestamp(now, UTC)
    given = {}
    if settings.since_param:
        since = _since(project, model, signal, until)
        given[settings.since_param] = "" if since is None else since.isoformat()
    if settings.until_param:
        given[settings.until_param] = until.isoformat()
    return given


def _since(project: Project, model: str, signal: Signal, until: datetime) -> datetime | None:
    settings = project.loop
    if settings.train_on == "everything":
        return None
    if settings.train_on == "since change":
        return None if signal.since is None else datetime.fromtimestamp(signal.since, UTC)
    text = settings.window.strip()
    rows = _rows(text)
    return moment_of(text, until) if rows is None else _newest(project, model, rows, until)


def check_window(window: str) -> None:
    """See that a window is one: before a turn needs it, perhaps in weeks.

    Raises:
        ProjectError: it is none.
    """
    text = window.strip()
    try:
        if _rows(text) is None:
            moment_of(text)
    except UserError as e:
        raise ProjectError(
            f"{text!r} is no window", where="charkha.toml, [loop]", fix='window = "1000", or "90d"'
        ) from e


def check_parameters(project: Project) -> None:
    """See that the pipeline takes what a turn tells it, as far as its file says so unimported.

    Raises:
        ProjectError: it has no such parameter.
    """
    settings = project.loop
    told = {"since_param": settings.since_param, "until_param": settings.until_param}
    if not any(told.values()):
        return
    file, _, name = project.pipeline.entry.partition(":")
    known = _parameters_in(project.root / file, name)
    for key, parameter in told.items():
        if parameter and known is not None and parameter not in known:
            meant = nearest(parameter, known)
            raise ProjectError(
                f"{key} names {parameter!r}, and the pipeline has no such parameter",
                where="charkha.toml, [loop]",
                fix=f"did you mean {meant!r}?"
                if meant
                else f"add it to the pipeline in {file}; its parameters are: "
                f"{', '.join(known) or 'none'}",
            )


def _parameters_in(file: Path, name: str) -> list[str] | None:
    """Return the parameters of a file's pipeline; None where its text alone does not tell them.

    A loop imports no code of the project: what it imported would be what it was when it began.
    """
    try:
        module = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # `charkha run` says what is wrong with it
        return None
    found = [
        node
        for node in module.body
        if isinstance(node, ast.FunctionDef)
        and (node.name == name or not name)
        and any(_is_pipeline(decorator) for decorator in node.decorator_list)
    ]
    if len(found) != 1 or found[0].args.kwarg or found[0].args.vararg:
        return None
    given = found[0].args
    return [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


def _is_pipeline(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return "pipeline" in (getattr(called, "id", ""), getattr(called, "attr", ""))


def _rows(text: str) -> int | None:
    """Return how many rows a window has; None where it is an age."""
    if not _ROWS.fullmatch(text):
        return None
    rows = int(text.replace("_", "").replace(",", ""))
    if rows == 0:
        raise UserError("a window of no rows is none", fix="1000")
    return rows


def _newest(project: Project, model: str, rows: int, until: datetime) -> datetime | None:
    """Return the moment of the oldest of the newest so many labelled rows; None where all are."""
    found = read_records(model, until=until, columns=["time", "ground_truth"], project=project)
    times = found.filter(compute.is_valid(found["ground_truth"]))["time"]
    if len(times) <= rows:
        return None
    moment: datetime = times[len(times) - rows].as_py()
    return moment
