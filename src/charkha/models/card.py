"""The model card: what a version is, what it was made from, how well it does; in Markdown.

After Mitchell et al., Model Cards for Model Reporting (2019). The card lies in the package, so it
names content (digests of rows and model) and no time, run or commit: those belong to the run that
made it, and `provenance` writes them as a section for where that run is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charkha.models.diagnostics import Importance, LearningCurve, chosen
from charkha.models.metrics import METRICS
from charkha.models.package import Description
from charkha.models.verdict import show

_SHOWN = 10  # columns in the importance table


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the card shows besides the description."""

    importance: Importance
    learning_curve: LearningCurve | None
    no_curve_because: str | None
    plots: dict[str, str]  # file below the package -> caption


def write_card(about: Description, findings: Findings) -> str:
    """Return the card's Markdown; plots are linked relative to it."""
    parts = [
        f"# {about.name}",
        _summary(about),
        "## How well it does",
        _metrics(about),
        *(f"![{text}]({file})" for file, text in findings.plots.items()),
        "## What it looks at",
        _importance(findings.importance),
        "## Would more rows help",
        _learning(findings),
        "## What goes in, what comes out",
        _columns(about),
        "## What it was made from",
        _made_from(about),
        "## How to ask it",
        f"```\ncharkha predict {about.name} FILE\n```",
    ]
    return "\n\n".join(parts) + "\n"


def provenance(
    *,
    run: str,
    commit: str | None,
    dirty: bool,
    datasets: Mapping[str, str],
    because: Sequence[str] = (),
) -> str:
    """Return the section that only the run can write: data and code versions, and the verdict.

    Args:
        run: its id.
        commit: of the project's git; None outside git.
        dirty: the working copy differed from that commit.
        datasets: name -> version.
        because: the gate's reasons.
    """
    code = f"`{commit}`{' with uncommitted changes' if dirty else ''}" if commit else "not in git"
    lines = ["## Where it came from", "", f"- run: `{run}`", f"- code: {code}"]
    lines += [f"- data: {name} `{version}`" for name, version in sorted(datasets.items())]
    lines += [f"- gate: {reason}" for reason in because]
    return "\n".join(lines) + "\n"


def _summary(about: Description) -> str:
    what = "a number" if about.task == "regression" else "a class"
    twin = about.onnx
    if twin.file:
        agrees = (
            f"kept: on {twin.rows:,} rows its predictions differ by at most "
            f"{twin.largest_difference:.3g} ({twin.tolerance:.3g} was allowed)"
        )
    else:
        agrees = f"none: {twin.why}"
    return "\n".join(
        [
            f"Predicts **{about.target}**, {what}, from {len(about.signature.inputs)} columns.",
            "",
            f"- model: `{about.model_class}` ({about.flavour}), in `{about.model_file}`",
            f"- ONNX twin: {agrees}",
            *([f"- classes: {_listed(about.classes)}"] if about.classes else []),
        ]
    )


def _metrics(about: Description) -> str:
    test, train = about.metrics["test"], about.metrics.get("train", {})
    rows = about.data["test"]["rows"]
    header = f"| metric | {rows:,} held-out rows | training rows | better |"
    lines = [header, "|---|---:|---:|---|"]
    for name, value in test.items():
        seen = show(train[name]) if name in train else "–"
        metric = METRICS[name]
        lines.append(f"| {metric.of(about.target)} | {show(value)} | {seen} | {metric.better} |")
    lines += [f"| {name} | {show(value)} | – | – |" for name, value in about.own_scores.items()]
    return "\n".join(lines)


def _importance(measured: Importance) -> str:
    top = chosen(measured, _SHOWN)
    if not top:
        return "No column matters by itself: shuffling any of them costs nothing."
    lines = [
        f"How much worse {measured.metric} gets on {measured.rows} held-out rows when one column's "
        "values are shuffled among them. Columns that say the same share their importance.",
        "",
        f"| column | {measured.metric} |",
        "|---|---:|",
        *(f"| {name} | +{show(cost)} |" for name, cost in top),
    ]
    return "\n".join(lines)


def _learning(findings: Findings) -> str:
    curve = findings.learning_curve
    if curve is None:
        return f"No learning curve: {findings.no_curve_because}."
    lines = [
        "The same model fitted on parts of the training rows (this cost about one more fit).",
        "",
        f"| training rows | {curve.metric} on them | {curve.metric} held out |",
        "|---:|---:|---:|",
        *(f"| {rows:,} | {show(train)} | {show(test)} |" for rows, train, test in curve.points),
    ]
    return "\n".join(lines)


def _columns(about: Description) -> str:
    lines = ["| column | type | may be missing |", "|---|---|---|"]
    lines += [
        f"| {c.name} | {c.type} | {'no' if c.required else 'yes'} |" for c in about.signature.inputs
    ]
    outputs = ", ".join(f"{c.name} ({c.type})" for c in about.signature.outputs)
    return "\n".join([*lines, "", f"Out: {outputs}."])


def _made_from(about: Description) -> str:
    lines = [
        f"- {name} rows: {content['rows']:,}, sha256 `{content['sha256']}`"
        for name, content in about.data.items()
    ]
    lines.append(f"- Python {about.python}")
    lines += [f"- {requirement}" for requirement in about.requirements]
    return "\n".join(lines)


def _listed(classes: Sequence[object], most: int = 20) -> str:
    more = f" and {len(classes) - most} more" if len(classes) > most else ""
    return ", ".join(map(str, classes[:most])) + more
