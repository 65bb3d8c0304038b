"""A plan as the text of a DAG: one file that a scheduler reads without the project's own code."""

from __future__ import annotations

import keyword
import re
import shlex
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from charkha.errors import ProjectError

if TYPE_CHECKING:
    from charkha.pipeline.plans import Parameter, Plan, Task
    from charkha.project import AirflowSettings, Project

START, FINISH, ELEMENTS = "charkha.start", "charkha.finish", "elements"
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
    ("DAG", "CronTriggerTimetable", "Param", "task", "json", "timedelta", "dag")
    + ("start", "begun", "finish", "run", "run_each", "FOLDER", "CHARKHA", "RUN", "ATTEMPT")
    + ("TASK", "OURS")
)

_HEAD = '''\
"""Pipeline {pipeline} of {project} as a DAG: every task is one command of Charkha's."""
# Written by `charkha render airflow`, which leaves it alone once somebody has changed it. sha256:

{json}from datetime import timedelta

from airflow.sdk import {names}

FOLDER = {folder}  # the project's, on every worker
CHARKHA = {charkha}
# What the run is called at Charkha's: as here where `charkha run --on airflow` began it.
RUN = (
    "'{{{{ run_id if run_id[0].isdigit()"
    " else dag_run.run_after.strftime('%Y%m%d-%H%M%S-') ~ run_id }}}}'"
)
ATTEMPT = "{{{{ ti.try_number }}}}"
TASK = {{
    "cwd": FOLDER,
    "env": {variables},
    "append_env": True,
    "do_xcom_push": False,  # bytes go through Charkha's blobs
    "retries": 0,
}}
OURS = {{**TASK, "retries": 1, "retry_delay": timedelta(seconds=5)}}  # can be done twice


def run(name, *steps, after, **how):
    """Return a task of these steps; one before it may have been empty, but none may have failed."""

    @task.bash(task_id=name, trigger_rule="none_failed", **{{**TASK, **how}})
    def charkha():
        asked = " ".join(f"--step {{step}}" for step in steps or [name])
        return f"{{CHARKHA}} step run --run {{RUN}} {{asked}} --attempt {{ATTEMPT}}"

    made = charkha()
    after >> made
    return made


'''
_EACH = '''\
def run_each(name, *, after, **how):
    """Return a task for each element of a step's list, counted when the list is there."""
    counting = {"do_xcom_push": True, "output_processor": json.loads}

    @task.bash(task_id=f"{name}.elements", trigger_rule="none_failed", **{**OURS, **counting})
    def elements():
        return f"{CHARKHA} step count --run {RUN} --step {name}"

    @task.bash(task_id=name, **{**TASK, **how})
    def charkha(element):
        asked = f"--step {name} --element {element}"
        return f"{CHARKHA} step run --run {RUN} {asked} --attempt {ATTEMPT}"

    counted = elements()
    after >> counted
    return charkha.expand(element=counted)


'''
_BODY = """\
with DAG(
    dag_id={dag},
    description={description},
    schedule={schedule},
    params={params},
    tags=["charkha"],
) as dag:

    @task.bash(task_id="charkha.start", **OURS)
    def start():  # tojson writes a ' as \\u0027, so that none ends the shell's text
        found = "--found dag={{{{ dag.dag_id }}}} --found run='{{{{ run_id }}}}'"
        given = "--engine airflow --shape {shape} --params '{{{{ params | tojson }}}}'"
        return f"{{CHARKHA}} step start --run {{RUN}} {{found}} {{given}}"

    @task.bash(task_id="charkha.finish", trigger_rule="all_done", **TASK)
    def finish():  # fails where a step has failed, and the DAG's run with it
        return f"{{CHARKHA}} step finish --run {{RUN}}"

    begun = start()
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
        ProjectError: a step has a name that no task of Airflow can have.
    """
    settings = project.airflow
    _check_names(plan)
    scheduled = plan.schedule is not None and plan.shape == plan.usual_shape
    fans_out = any(task.fan_out for task in plan.tasks.values())
    names = {"CronTriggerTimetable": scheduled, "Param": plan.parameters}
    used = ["DAG", *(name for name, is_used in names.items() if is_used), "task"]
    command = [settings.python, "-m", "charkha"] if settings.python else ["charkha"]
    if plan.environment != "local":
        command += ["--env", plan.environment]
    head = _HEAD.format(
        pipeline=plan.pipeline,
        project=plan.project,
        json="import json\n" if fans_out else "",
        names=", ".join(used),
        folder=_quoted(settings.folder or str(project.root)),
        charkha=_quoted(shlex.join(command)),
        variables=_literal(settings.variables),
    )
    cron = (
        f"CronTriggerTimetable({_quoted(plan.schedule or '')}, timezone={_quoted(plan.timezone)})"
    )
    return (head + _EACH if fans_out else head) + _BODY.format(
        dag=_quoted(dag_id(plan, settings)),
        description=_quoted(f"Pipeline {plan.pipeline} of {plan.project}"),
        schedule=cron if scheduled else "None",
        params=_params(plan.parameters),
        shape=plan.shape,
        tasks=textwrap.indent("\n".join(_tasks(plan)), "    "),
    )


def _tasks(plan: Plan) -> Iterable[str]:
    variables = _variables(plan.tasks)
    for task in plan.tasks.values():
        after = ", ".join(variables[need] for need in task.needs) or "begun"
        steps = [] if task.steps == (task.name,) else [_quoted(step) for step in task.steps]
        given = [_quoted(task.name), *steps, f"after=[{after}]", *_how(task, plan)]
        call = f"{variables[task.name]} = run{'_each' if task.fan_out else ''}"
        line = f"{call}({', '.join(given)})"
        if len(line) + 4 <= _WIDTH:
            yield line
        else:
            yield "\n".join([f"{call}(", *(f"    {word}," for word in given), ")"])


def _how(task: Task, plan: Plan) -> Iterable[str]:
    """Yield what Airflow has to know of a task: when to try again, and when to give it up."""
    if task.retries:
        yield f"retries={task.retries}"
        yield f"retry_delay={_delta(task.retry_wait_s)}"
    several = len(task.steps) > 1 and any(plan.graph.nodes[step].each for step in task.steps)
    if task.timeout_s is not None and not several:  # of elements nobody knows how many there are
        yield f"execution_timeout={_delta(task.timeout_s + _LATER_S)}"


def _delta(seconds: float) -> str:
    return f"timedelta(seconds={seconds:g})"


def _params(parameters: Iterable[Parameter]) -> str:
    lines = []
    for parameter in parameters:
        kind = _TYPES.get(parameter.type)
        given = [_literal(parameter.default)]
        if kind is not None and parameter.default is None:
            given.append(f'type=["null", {_quoted(kind)}]')
        elif kind is not None:
            given.append(f"type={_quoted(kind)}")
        lines.append(f"        {_quoted(parameter.name)}: Param({', '.join(given)}),")
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


def _check_names(plan: Plan) -> None:
    own = {START, FINISH, *(f"{name}.{ELEMENTS}" for name, t in plan.tasks.items() if t.fan_out)}
    for name in {*plan.graph.nodes, *plan.tasks}:
        if not re.fullmatch(r"[\w.-]{1,200}", name) or name.startswith("-"):
            what = "has a name of other signs than letters, digits, - _ and ., or too long a one"
        elif name in own:
            what = "is called like a task that Charkha adds for Airflow"
        else:
            continue
        raise ProjectError(what, where=f"step {name!r}", fix='@step(name="another-one")')


def _literal(value: Any) -> str:
    """Return a value of JSON as Python writes it."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return repr(value)


def _quoted(text: str) -> str:
    """Return a text in double quotes, as a formatter would have it."""
    written = repr(text)
    if written.startswith("'") and '"' not in text:
        return f'"{written[1:-1]}"'
    return written
