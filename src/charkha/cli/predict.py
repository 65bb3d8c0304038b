"""`charkha predict`: predict the rows of a file with a registered model."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.cli import show
from charkha.cli.arguments import parser
from charkha.cli.files import write_file
from charkha.errors import DONE, DataError, UserError
from charkha.models.formats import FORMATS, format_of
from charkha.models.packaged import folder_of
from charkha.models.registry import find_version
from charkha.project import open_project

if TYPE_CHECKING:
    from charkha.models.package import ModelPackage
    from charkha.models.scoring import Scores

_EXAMPLE = "charkha predict house-prices@champion houses.csv"


def main(arguments: list[str]) -> int:
    """Run `charkha predict`."""
    made = parser("predict", example=_EXAMPLE)
    made.add_argument(
        "model", metavar="MODEL", help="NAME, NAME@champion, NAME@3, or a package folder"
    )
    made.add_argument("file", metavar="FILE", help="rows to predict; - reads standard input")
    made.add_argument("--format", choices=FORMATS, help="of FILE; by its name otherwise")
    made.add_argument("--onnx", action="store_true", help="ask the model's ONNX twin")
    made.add_argument("-o", "--output", metavar="FILE", help="write the predictions there")
    given = made.parse_args(arguments)

    _check_no_folder(given.file, "give one file of rows")
    _check_no_folder(given.output, "give the name of a file in it")
    form = format_of(given.file, given.format)
    into = format_of(given.output, None) if given.output else None
    scoring = import_module("charkha.models.scoring")  # late: it brings pandas
    package, version = open_package(given.model, given.env)
    place = "standard input" if given.file == "-" else given.file
    rows = scoring.read_rows(_read(given.file), form, place)
    scores = scoring.score_rows(package, rows, onnx=given.onnx)
    for notice in scores.notices:
        show.note(notice)
    if given.output and into:
        write_file(given.output, scoring.write_scores(scores, into))
    if given.json:
        show.as_json(_as_json(package, version, scores))
    elif given.output:
        print(f"{len(scores.predictions):,} predictions in {given.output}")
    else:
        print(scores.table().to_string(index=False))
    return DONE


def open_package(model: str, environment: str | None) -> tuple[ModelPackage, int | None]:
    """Return the package that MODEL names, with its version; None for a folder.

    Raises:
        UserError: there is no such model, version or alias, or Charkha did not make it.
        Damaged: its bytes are gone from the blobs, or are others.
        Unavailable: the registry or the blob store did not answer.
    """
    packages = import_module("charkha.models.package")  # late: it brings numpy
    if (Path(model) / packages.DESCRIPTION).is_file():
        return packages.read_package(model), None
    project = open_project(environment=environment)
    version = find_version(project, model)
    folder = folder_of(project, version)
    return packages.read_package(folder, allow_pickle=project.allow_pickle), version.version


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except FileNotFoundError as e:
        raise DataError(f"there is no file {file}", fix="give a CSV, Parquet or JSONL file") from e


def _check_no_folder(file: str | None, fix: str) -> None:
    if file and file != "-" and Path(file).is_dir():
        raise UserError(f"{file} is a folder", fix=fix)


def _as_json(package: ModelPackage, version: int | None, scores: Scores) -> dict[str, object]:
    said: dict[str, object] = {
        "model": package.about.name,
        "version": version,
        "target": scores.target,
        "predictions": scores.predictions,
        "notices": scores.notices,
    }
    if scores.probabilities is not None:
        said["probabilities"] = scores.probabilities
    return said
