"""A plan as the text of a DAG: one file that a scheduler reads without the project's own code."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from charkha.errors import ProjectError
from charkha.pipeline.engines.airflow_assets import address, datasets_of
from charkha.pipeline.engines.airflow_tasks import (
    ELEMENTS,
    FINISH,
    OPENING,
    START,
    check_settings,
    definitions,
    ends,
    imports,
    is_taken_for_a_file,
    resources,
    timetable,
)
from charkha.pipeline.engines.literals import literal, quoted

if TYPE_CHECKING:
    from charkha.engine_settings import AirflowSettings
    from charkha.pipeline.plans import Parameter, Plan, Task
    from charkha.project import Project

# Charkha stops a step that takes too long, and says so; Airflow would only kill it, and does where
# Charkha itself hangs. Starting Python on a busy worker is part of what it counts.
_LATER_S = 300.0
_WIDTH = 100
_TYPES = {
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "str": "string",
    "list": "array",
    "dict": "object",
}
_OURS = frozenset(  # names that the file has already
    ("Asset", "AssetAny", "AssetOrTimeSchedule")
    + ("DAG", "CronTriggerTimetable", "Param", "task", "json", "timedelta", "dag")
    + ("start", "begun", "finish", "run", "run_each", "FOLDER", "CHARKHA", "RUN", "ATTEMPT")
    + ("TASK", "OURS", "DockerOperator", "KubernetesPodOperator", "Elements", "TO_XCOM")
)

_BODY = """\
with DAG(
    dag_id={dag},
    description={description},
    schedule={schedule},
    params={params},
    tags=["charkha"],
) as dag:

{ends}    begun = start()
{tasks}

    list(dag.tasks) >> finish()  # all of them: beside a step that fails others still go on
"""


def dag_id(plan: Plan, settings: AirflowSettings) -> str:
    """Return the id of a plan's DAG; one for parameters that give other steps is another DAG."""
    named = settings.dag or "-".join(
        re.sub(r"[^\w.-]+", "-", word)
        for word in (plan.project, plan.pipeline, plan.environment)
        if word != "local"
    )
    return named if plan.shape == plan.usual_shape else f"{named}-{plan.shape}"


def text_of(plan: Plan, project: Project) -> str:
    """Return the text of a plan's DAG.

    Raises:
        ProjectError: a step has a name that no task of Airflow can have, or settings do not fit.
    """
    settings = project.airflow
    check_settings(settings)
    _check_names(plan, settings)
    schedule, names = _schedule(plan, project)
    fans_out = any(task.fan_out for task in plan.tasks.values())
    names |= {"Param"} if plan.parameters else set()
    title = f"Pipeline {plan.pipeline} of {plan.project} as a DAG: every task is one command of Charkha's."
    return (
        OPENING.format(title=title)
        + imports(settings, names, fans_out=fans_out)
        + definitions(plan, project, fans_out=fans_out)
        + _BODY.format(
            dag=quoted(dag_id(plan, settings)),
            description=quoted(f"Pipeline {plan.pipeline} of {plan.project}"),
            schedule=schedule,
            params=_params(plan.parameters),
            ends=ends(plan, settings),
            tasks=textwrap.indent("\n".join(_tasks(plan, settings)), "    "),
        )
    )


def _schedule(plan: Plan, project: Project) -> tuple[str, set[str]]:
    """Return when Airflow starts a run by itself, and what of its SDK that takes.

    Raises:
        ProjectError: new data is to start runs of a pipeline that reads no dataset.
    """
    if plan.shape != plan.usual_shape:
        return "None", set()
    cron = timetable(plan.schedule or "", plan.timezone)
    named = {"CronTriggerTimetable"} if plan.schedule else set()
    if not project.airflow.on_data:
        return cron if plan.schedule else "None", named
    found = [f"Asset({quoted(address(project, name))})" for name in datasets_of(plan.graph)]
    if not found:
        raise ProjectError(
            "new data is to start a run, and the pipeline reads no dataset",
            where="charkha.toml, [airflow]",
            fix='take on_data out, or give a step dataset("NAME")',
        )
    lines = ["AssetAny(", *(f"    {asset}," for asset in found), ")"]
    names = {"Asset", "AssetAny", *named}
    if plan.schedule:
        lines[0], lines[-1] = "assets=AssetAny(", "),"
        both = (f"timetable={cron},", *lines)
        lines = ["AssetOrTimeSchedule(", *(f"    {line}" for line in both), ")"]
        names.add("AssetOrTimeSchedule")
    return textwrap.indent("\n".join(lines), "    ").strip(), names


def _tasks(plan: Plan, settings: AirflowSettings) -> Iterable[str]:
    variables = _variables(plan.tasks)
    for task in plan.tasks.values():
        after = ", ".join(variables[need] for need in task.needs) or "begun"
        steps = [] if task.steps == (task.name,) else [quoted(step) for step in task.steps]
        given = [quoted(task.name), *steps, f"after=[{after}]", *_how(task, plan, settings)]
        call = f"{variables[task.name]} = run{'_each' if task.fan_out else ''}"
        line = f"{call}({', '.join(given)})"
        if len(line) + 4 <= _WIDTH:
            yield line
        else:
            yield "\n".join([f"{call}(", *(f"    {word}," for word in given), ")"])


def _how(task: Task, plan: Plan, settings: AirflowSettings) -> Iterable[str]:
    """Yield what Airflow has to know of a task: when to try again or to give it up, what it needs."""
    if task.retries:
        yield f"retries={task.retries}"
        yield f"retry_delay={_delta(task.retry_wait_s)}"
    several = len(task.steps) > 1 and any(plan.graph.nodes[step].each for step in task.steps)
    if task.timeout_s is not None and not several:  # of elements nobody knows how many there are
        yield f"execution_timeout={_delta(task.timeout_s + _LATER_S)}"
    yield from resources(task, settings)


def _delta(seconds: float) -> str:
    return f"timedelta(seconds={seconds:g})"


def _params(parameters: Iterable[Parameter]) -> str:
    lines = []
    for parameter in parameters:
        kind = _TYPES.get(parameter.type)
        given = [literal(parameter.default)]
        if kind is not None and parameter.default is None:
            given.append(f'type=["null", {quoted(kind)}]')
        elif kind is not None:
            given.append(f"type={quoted(kind)}")
        lines.append(f"        {quoted(parameter.name)}: Param({', '.join(given)}),")
    return "\n".join(["{", *lines, "    }"]) if lines else "{}"


def _variables(tasks: Mapping[str, Task]) -> dict[str, str]:
    """Return a name in Python for each task."""
    taken = set(_OURS)
    made = {}
    for task in tasks:
        name = re.sub(r"\W", "_", task)
        name = f"_{name}" if name[0].isdigit() else name
        while name in taken or keyword.iskeyword(name):
            name += "_"
        taken.add(name)
        made[task] = name
    return made


def _check_names(plan: Plan, settings: AirflowSettings) -> None:
    own = {START, FINISH, *(f"{name}.{ELEMENTS}" for name, t in plan.tasks.items() if t.fan_out)}
    for name in {*plan.graph.nodes, *plan.tasks}:
        if not re.fullmatch(r"[\w.-]{1,200}", name) or name.startswith("-"):
            what = "has a name of other signs than letters, digits, - _ and ., or too long a one"
        elif name in own:
            what = "is called like a task that Charkha adds for Airflow"
        elif is_taken_for_a_file(name, settings):
            what = "ends like the name of a file, and Airflow's DockerOperator would read that file"
        else:
            continue
        raise ProjectError(what, where=f"step {name!r}", fix='@step(name="another-one")')
