"""Build a model package: store the model, ask it, compare its ONNX twin, describe all of it.

What is measured is the model as it was read back from its file, for that is what will answer; a
model that answers differently after storing is refused.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

import numpy as np
import pandas as pd

from charkha.errors import DataError, UserError
from charkha.models.asked import Asked, Wish
from charkha.models.card import write_card
from charkha.models.examples import FILE as EXAMPLES
from charkha.models.examples import recorded
from charkha.models.findings import find_out
from charkha.models.flavours.choice import flavour_of
from charkha.models.flavours.port import Classes, Flavour
from charkha.models.held_out import FILE as HELD_OUT
from charkha.models.held_out import held_out
from charkha.models.metrics import SHOWN, Metric, Task, metric
from charkha.models.package import DESCRIPTION, Description, OnnxTwin, describe
from charkha.models.profiled import FILE as PROFILE
from charkha.models.profiled import profiled
from charkha.models.rows import as_table, split_target
from charkha.models.scores import score
from charkha.models.signature import Column, Signature, infer_columns, type_of
from charkha.models.twin import Twin, allowed, difference, make_twin
from charkha.pipeline.distributions import requirement
from charkha.pipeline.values import Dir
from charkha.plugins import find

REFERENCE_ROWS = 1000
EXAMPLE_ROWS = 3
_DIGITS = 12  # of a score in package.json: the last ones depend on the order of a sum


def make_package(model: object, test: object, train: object, wish: Wish) -> Dir:
    """Build a package in a folder of its own, which goes when the returned Dir does.

    Raises:
        UserError, DataError: as `build_package`.
    """
    own = Path(tempfile.mkdtemp(prefix="charkha-"))
    folder = own / "package"  # its name is part of what the artifact is, so not a random one
    folder.mkdir()
    made = Dir(folder)
    weakref.finalize(made, shutil.rmtree, own, ignore_errors=True)
    build_package(model, test=test, train=train, wish=wish, folder=folder)
    return made


def build_package(model: object, *, test: object, train: object, wish: Wish, folder: Path) -> None:
    """Write the package of `model` into `folder`, which is empty.

    Args:
        model: fitted.
        test: held-out rows with the target, a DataFrame.
        train: the rows that it was fitted on, with the target; None: the signature comes from
            `test`, and nothing is said about overfitting.
        wish: names and choices.
        folder: where to.

    Raises:
        UserError: the model cannot be stored, or is not of the wished task.
        DataError: the rows do not fit the model: a column is missing, a target is not known.
    """
    tables = {"test": as_table(test, "test")}
    if train is not None:
        tables["train"] = as_table(train, "train")
    asked, model_file = _store_and_ask(model, tables, wish, folder)
    inputs, said = asked.rows[asked.sample].inputs, asked.said[asked.sample]
    twin = make_twin(asked.flavour.name, asked.model, asked.columns, inputs, said)
    if twin.data is not None:
        (folder / "model.onnx").write_bytes(twin.data)
    about = _describe(wish, asked, model_file, twin)
    _write_samples(folder, about, asked)
    findings = find_out(model, asked, wish, tables, folder)
    (folder / DESCRIPTION).write_text(describe(about), encoding="utf-8")
    (folder / "card.md").write_text(write_card(about, findings), encoding="utf-8")


def _store_and_ask(
    model: object, tables: dict[str, pd.DataFrame], wish: Wish, folder: Path
) -> tuple[Asked, str]:
    flavour, seen = flavour_of(model), tables.get("train", tables["test"])
    if len(seen) == 0:
        raise DataError("there are no rows to register the model with", fix="check the split")
    columns = infer_columns(seen, _column_names(flavour, model, seen, wish.target))
    task, classes = _task(flavour, model, seen, wish)
    rows = {
        part: split_target(table, part, columns, wish.target, task)
        for part, table in tables.items()
    }
    file = flavour.save(model, folder, allow_pickle=wish.allow_pickle)
    stored = flavour.load(folder / file, allow_pickle=wish.allow_pickle)
    said = {part: flavour.predict(stored, r.inputs, classes) for part, r in rows.items()}
    asked = Asked(
        flavour=flavour,
        model=stored,
        classes=classes,
        task=task,
        columns=columns,
        rows=rows,
        said=said,
    )
    _check_faithful(model, asked, seen)
    return asked, file


def _column_names(flavour: Flavour, model: object, rows: pd.DataFrame, target: str) -> list[str]:
    if target not in rows.columns:
        raise DataError(
            f"the rows have no column {target!r}, which is to be predicted",
            fix=f"register(…, target=…) with one of: {', '.join(map(str, rows.columns[:8]))} …",
        )
    named = flavour.columns(model)
    return named if named is not None else [str(c) for c in rows.columns if c != target]


def _task(
    flavour: Flavour, model: object, rows: pd.DataFrame, wish: Wish
) -> tuple[Task, Classes | None]:
    """Return what the model does and between which labels it decides.

    Raises:
        UserError: that is not what was wished.
    """
    classes = flavour.classes(model)
    if wish.task == "regression" and classes is not None:
        raise UserError(
            f"{type(model).__name__} is a classifier, and task is regression",
            fix='set task = "classification", or fit a regressor',
        )
    if wish.task == "classification" and classes is None:
        if flavour.name != "pyfunc":
            raise UserError(
                f"{type(model).__name__} predicts numbers, and task is classification",
                fix='set task = "regression", or fit a classifier',
            )
        classes = tuple(sorted(set(rows[wish.target].dropna().tolist())))
    return ("regression" if classes is None else "classification"), classes


def _check_faithful(model: object, asked: Asked, seen: pd.DataFrame) -> None:
    """Compare the model as it was given, on rows as they were given, with what is in the package.

    Raises:
        UserError: they answer differently.
    """
    inputs = seen[[c.name for c in asked.columns]].reset_index(drop=True)
    given, stored = asked.flavour.predict(model, inputs, asked.classes), asked.said[asked.sample]
    gap = difference(given, stored)
    if gap > allowed(given):
        raise UserError(
            f"{type(model).__name__} answers differently once it is packaged: by up to {gap:.3g} "
            f"on {len(seen):,} rows",
            fix="give register() the rows as the model was fitted on them: the same types, and "
            "missing text as None",
        )


def _describe(wish: Wish, asked: Asked, model_file: str, twin: Twin) -> Description:
    chosen = [metric(name, asked.task) for name in wish.metrics or SHOWN[asked.task]]
    kind = type(asked.model)
    return Description(
        name=wish.name,
        flavour=asked.flavour.name,
        task=asked.task,
        target=wish.target,
        classes=asked.classes,
        signature=Signature(inputs=asked.columns, outputs=(_output(wish.target, asked.classes),)),
        requirements=_pinned(asked.flavour.packages(asked.model)),
        python=".".join(platform.python_version_tuple()[:2]),
        model_file=model_file,
        model_class=f"{kind.__module__}.{kind.__qualname__}",
        onnx=OnnxTwin(
            file="model.onnx" if twin.data is not None else None,
            why=twin.why,
            rows=twin.rows,
            largest_difference=_short(twin.largest_difference),
            tolerance=_short(twin.tolerance),
            null_text=twin.null_text,
        ),
        metrics={part: _scores(chosen, asked, part) for part in asked.rows},
        own_scores=_own_scores(wish),
        data={
            part: {"rows": len(rows.truth), "sha256": rows.sha256(wish.target)}
            for part, rows in asked.rows.items()
        },
        input_example="input_example.json",
        examples=EXAMPLES,
        profile=PROFILE,
        held_out=HELD_OUT,
        reference="reference.parquet",
    )


def _scores(metrics: Sequence[Metric], asked: Asked, part: str) -> dict[str, float]:
    """Return the scores that are defined for these rows and this model."""
    truth, said = asked.rows[part].truth, asked.said[part]
    found = {}
    for each in metrics:
        if each.needs == "probabilities" and said.probabilities is None:
            continue
        try:
            value = score(each.name, truth, said)
        except DataError:  # undefined here (one class, a constant target); the gate would say so
            continue
        found[each.name] = _rounded(value, _DIGITS)
    return found


def _own_scores(wish: Wish) -> dict[str, float]:
    """Return the project's own scores.

    Raises:
        UserError: one is no number.
    """
    for name, value in wish.own_scores.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise UserError(
                f"register(metrics=…): {name!r} is {value!r} and no number",
                fix="give {name: number}, or a list of metrics' names",
            )
    return {name: _rounded(value, _DIGITS) for name, value in wish.own_scores.items()}


def _output(target: str, classes: Classes | None) -> Column:
    kind = "double" if classes is None else type_of(pd.Series(list(classes)))
    return Column(name=target, type=kind or "string")


def _pinned(packages: Sequence[str]) -> tuple[str, ...]:
    """Return "distribution==version" of what is installed for each package, sorted."""
    return tuple(sorted({pin for package in packages if (pin := requirement(package))}))


def _write_samples(folder: Path, about: Description, asked: Asked) -> None:
    sample = asked.rows[asked.sample].table(about.target)
    kept = np.sort(np.random.default_rng(0).permutation(len(sample))[:REFERENCE_ROWS])
    reference = sample.iloc[kept].reset_index(drop=True)
    (folder / about.reference).write_bytes(find("codecs", "parquet")().encode(reference))
    example = reference.drop(columns=about.target).head(EXAMPLE_ROWS)
    records = json.loads(example.to_json(orient="records", date_format="iso"))
    text = json.dumps(records, indent=2, ensure_ascii=False)
    (folder / about.input_example).write_text(text + "\n", encoding="utf-8")
    (folder / EXAMPLES).write_text(recorded(asked), encoding="utf-8")
    (folder / PROFILE).write_bytes(profiled(asked))
    (folder / HELD_OUT).write_bytes(held_out(asked))


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _short(value: float | None) -> float | None:
    return None if value is None else _rounded(value, 3)
