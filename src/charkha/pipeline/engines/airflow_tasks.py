"""What a DAG's file has before its tasks: how each becomes a process, a container or a pod."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from charkha.errors import ProjectError
from charkha.pipeline.engines.literals import literal, quoted

if TYPE_CHECKING:
    from charkha.engine_settings import AirflowSettings
    from charkha.pipeline.plans import Plan, Task
    from charkha.project import Project

START, FINISH, ELEMENTS = "charkha.start", "charkha.finish", "elements"
_FILES = (".sh", ".bash", ".env")  # DockerOperator takes a word that ends so for a template's file

OPENING = '''\
"""{title}"""
# Written by `charkha render airflow`, which leaves it alone once somebody has changed it. sha256:

'''
_PROCESS = """\
FOLDER = {folder}  # the project's, on every worker
CHARKHA = {charkha}
"""
_RUN = """\
# What the run is called at Charkha's: as here where `charkha run --on airflow` began it.
RUN = {run}
ATTEMPT = "{{{{ ti.try_number }}}}"
"""
_NAME = (
    "{{ run_id if run_id[0].isdigit() else dag_run.run_after.strftime('%Y%m%d-%H%M%S-') ~ run_id }}"
)
_SHELLS_NAME = """\
(
    "'{{ run_id if run_id[0].isdigit()"
    " else dag_run.run_after.strftime('%Y%m%d-%H%M%S-') ~ run_id }}'"
)"""
_TASK = """\
TASK = {{
{lines}
}}
"""
_OURS = """\
OURS = {**TASK, "retries": 1, "retry_delay": timedelta(seconds=5)}  # can be done twice


"""
_TIMETABLE = """\
CronTriggerTimetable(
    {cron},
    timezone={timezone},
    run_immediately=timedelta(0),  # not at once what was due shortly before
)"""
_LOOP = """\


with DAG(
    dag_id={dag},
    description={description},
    schedule={schedule},
    catchup=False,  # a look that was missed is none that has to be made up for
    max_active_runs=1,
    tags=["charkha"],
) as dag:
"""
_LOOP_PROCESS = """\

    @task.bash(task_id="loop", **TASK)
    def loop():
        return f"{CHARKHA} loop"

    loop()
"""
_LOOP_ELSEWHERE = """\
    {operator}(task_id="loop", {words}=[*CHARKHA, "loop"], **TASK)
"""
_RUN_PROCESS = '''\
def run(name, *steps, after, **how):
    """Return a task of these steps; one before it may have been empty, but none may have failed."""

    @task.bash(task_id=name, trigger_rule="none_failed", **{**TASK, **how})
    def charkha():
        asked = " ".join(f"--step {step}" for step in steps or [name])
        return f"{CHARKHA} step run --run {RUN} {asked} --attempt {ATTEMPT}"

    made = charkha()
    after >> made
    return made


'''
_EACH_PROCESS = '''\
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
_ENDS_PROCESS = """\
    @task.bash(task_id="charkha.start", **OURS)
    def start():  # tojson writes a ' as \\u0027, so that none ends the shell's text
        found = "--found dag={{{{ dag.dag_id }}}} --found run='{{{{ run_id }}}}'"
        given = "--engine airflow --shape {shape} --params '{{{{ params | tojson }}}}'"
        return f"{{CHARKHA}} step start --run {{RUN}} {{found}} {{given}}"

    @task.bash(task_id="charkha.finish", trigger_rule="all_done", **TASK)
    def finish():  # fails where a step has failed, and the DAG's run with it
        return f"{{CHARKHA}} step finish --run {{RUN}}"

"""
_RUN_ELSEWHERE = '''\
def run(name, *steps, after, **how):
    """Return a task of these steps; one before it may have been empty, but none may have failed."""
    asked = [word for step in steps or [name] for word in ("--step", step)]
    command = [*CHARKHA, "step", "run", "--run", RUN, *asked, "--attempt", ATTEMPT]
    how = {{**TASK, "trigger_rule": "none_failed", **how}}
    made = {operator}(task_id=name, {words}=command, **how)
    after >> made
    return made


'''
_EACH_ELSEWHERE = '''\
class Elements({operator}):
    """Returns a label for each element of a step's list, by which it is told from the others."""

    def execute(self, context):
        {counted}
        return [{{"element": str(element)}} for element in counted]


def run_each(name, *, after, **how):
    """Return a task for each element of a step's list, counted when the list is there."""
    asked = [*CHARKHA, "step", "count", "--run", RUN, "--step", name]
    counting = {{**OURS, "do_xcom_push": True, "trigger_rule": "none_failed"{more}}}
    counted = Elements(task_id=f"{{name}}.elements", {counting}, **counting)
    after >> counted
    asked = [*CHARKHA, "step", "run", "--run", RUN, "--step", name, "--attempt", ATTEMPT]
    command = [*asked, "--element", "{{{{ ti.map_index }}}}"]
    each = {operator}.partial(task_id=name, {words}=command, **{{**TASK, **how}})
    return each.expand(labels=counted.output)


'''
_ENDS_ELSEWHERE = """\
    def start():
        found = ["--found", "dag={{{{ dag.dag_id }}}}", "--found", "run={{{{ run_id }}}}"]
        given = ["--engine", "airflow", "--shape", "{shape}"]
        given += ["--params", "{{{{ params | tojson }}}}"]
        command = [*CHARKHA, "step", "start", "--run", RUN, *found, *given]
        return {operator}(task_id="charkha.start", {words}=command, **OURS)

    def finish():  # fails where a step has failed, and the DAG's run with it
        command = [*CHARKHA, "step", "finish", "--run", RUN]
        how = {{**TASK, "trigger_rule": "all_done"}}
        return {operator}(task_id="charkha.finish", {words}=command, **how)

"""
_DOCKER = {
    "operator": "DockerOperator",
    "words": "command",
    "module": "airflow.providers.docker.operators.docker",
    "counted": "lines = super().execute(context)  # of both its streams\n        "
    'counted = json.loads(next(line for line in reversed(lines) if line.startswith("[")))',
    "counting": "command=asked, xcom_all=True",
    "more": "",
}
_KUBERNETES = {
    "operator": "KubernetesPodOperator",
    "words": "cmds",
    "module": "airflow.providers.cncf.kubernetes.operators.pod",
    "counted": "counted = super().execute(context)",
    "counting": "cmds=[*TO_XCOM, *asked]",
    "more": ', "deferrable": False',
}
_TO_XCOM = """\
# A container beside it, which the provider adds, hands this file on.
TO_XCOM = ["sh", "-c", '"$@" > /airflow/xcom/return.json', "sh"]
"""


def imports(settings: AirflowSettings, names: Iterable[str], *, fans_out: bool = False) -> str:
    """Return the imports of a file with these names of `airflow.sdk`."""
    parsed = fans_out and settings.tasks != "kubernetes"
    lines = [
        *(["import json"] if parsed else []),
        *("from datetime import timedelta", ""),
    ]
    known = sorted({"DAG", *names} | ({"task"} if settings.tasks == "process" else set()))
    known.sort(key=lambda name: (name != name.upper(), not name[0].isupper(), name))
    if settings.tasks != "process":
        kind = _kind(settings)
        lines.append(f"from {kind['module']} import {kind['operator']}")
    return "\n".join([*lines, f"from airflow.sdk import {', '.join(known)}", "", ""])


def definitions(plan: Plan, project: Project, *, fans_out: bool) -> str:
    """Return what stands before the tasks of a pipeline's DAG."""
    settings = project.airflow
    kind = _kind(settings)
    if settings.tasks == "process":
        return (
            values(plan, project)
            + _RUN.format(run=_SHELLS_NAME)
            + task(project)
            + _OURS
            + _RUN_PROCESS
            + (_EACH_PROCESS if fans_out else "")
        )
    to_xcom = _TO_XCOM if fans_out and settings.tasks == "kubernetes" else ""
    return (
        values(plan, project)
        + _RUN.format(run=f"(\n    {quoted(_NAME)}\n)")
        + to_xcom
        + task(project)
        + _OURS
        + _RUN_ELSEWHERE.format(**kind)
        + (_EACH_ELSEWHERE.format(**kind) if fans_out else "")
    )


def ends(plan: Plan, settings: AirflowSettings) -> str:
    """Return the functions of a DAG that make its first and its last task."""
    if settings.tasks == "process":
        return _ENDS_PROCESS.format(shape=plan.shape)
    return _ENDS_ELSEWHERE.format(shape=plan.shape, **_kind(settings))


def values(plan: Plan, project: Project) -> str:
    """Return the constants that say where tasks run, and what Charkha is called there."""
    settings = project.airflow
    command = [settings.python, "-m", "charkha"] if settings.python else ["charkha"]
    if plan.environment != "local":
        command += ["--env", plan.environment]
    if settings.tasks == "process":
        folder = settings.folder or str(project.root)
        return _PROCESS.format(folder=quoted(folder), charkha=quoted(shlex.join(command)))
    return f"CHARKHA = {literal(command)}\n"


def timetable(cron: str, timezone: str) -> str:
    """Return when a DAG runs by itself, as an argument of it on lines of its own."""
    text = _TIMETABLE.format(cron=quoted(cron), timezone=quoted(timezone))
    return textwrap.indent(text, "    ").strip()


def loop_text(plan: Plan, project: Project, dag: str) -> str:
    """Return the text of a DAG in which the loop looks, one at a time."""
    settings = project.airflow
    elsewhere = settings.tasks != "process"
    title = f"The loop of {plan.project} as a DAG: it looks whether to train again."
    return (
        OPENING.format(title=title)
        + imports(settings, ["CronTriggerTimetable"])
        + values(plan, project)
        + task(project)
        + _LOOP.format(
            dag=quoted(dag),
            description=quoted(f"The loop of {plan.project}"),
            schedule=timetable(settings.loop or "", plan.timezone),
        )
        + (_LOOP_ELSEWHERE.format(**_kind(settings)) if elsewhere else _LOOP_PROCESS)
    )


def resources(asking: Task, settings: AirflowSettings) -> Iterator[str]:
    """Yield what a container or a pod has to have, as arguments of its operator.

    Raises:
        ProjectError: a part of a GPU is asked for.
    """
    if asking.gpu and asking.gpu != int(asking.gpu):
        raise ProjectError(
            f"asks for gpu={asking.gpu:g}, and {settings.tasks} gives whole ones",
            where=f"step {asking.steps[0]!r}",
            fix="gpu=1, or use an engine that shares them, such as ray",
        )
    if settings.tasks == "docker":
        if asking.cpu is not None:
            yield f"cpus={asking.cpu:g}"
        if asking.memory_bytes is not None:
            yield f"mem_limit={asking.memory_bytes}"
        if asking.gpu:
            asked = {"count": int(asking.gpu), "capabilities": [["gpu"]]}
            yield f"device_requests=[{literal(asked)}]"
    elif settings.tasks == "kubernetes":
        asked = {
            "cpu": None if asking.cpu is None else f"{asking.cpu:g}",
            "memory": None if asking.memory_bytes is None else str(asking.memory_bytes),
            settings.accelerator: str(int(asking.gpu)) if asking.gpu else None,
        }
        given = {name: amount for name, amount in asked.items() if amount is not None}
        if given:
            yield f"container_resources={literal({'limits': given})}"  # and so requests


def check_settings(settings: AirflowSettings) -> None:
    """See that the settings are those of what a task is.

    Raises:
        ProjectError: one is missing, or is for something else.
    """
    others = {
        "docker": ("mounts", "network"),
        "kubernetes": ("namespace", "service_account", "pod_template"),
    }
    for tasks, names in others.items():
        for name in names if tasks != settings.tasks else ():
            if getattr(settings, name):
                raise ProjectError(
                    f"{name} is for tasks that are {_PLURALS[tasks]}",
                    where="charkha.toml, [airflow]",
                    fix=f'tasks = "{tasks}", or take {name} out',
                )
    if settings.tasks != "process" and settings.image is None:
        raise ProjectError(
            f"which image holds the project, is not said, and tasks are {_PLURALS[settings.tasks]}",
            where="charkha.toml",
            fix='[airflow] image = "registry.example.org/houses:1"',
        )
    if settings.tasks == "kubernetes" and settings.folder is not None:
        raise ProjectError(
            "a pod starts in the working folder of its image, and in no other folder",
            where="charkha.toml, [airflow]",
            fix="take folder out, and have the image end with WORKDIR",
        )


def is_taken_for_a_file(name: str, settings: AirflowSettings) -> bool:
    """Whether an operator reads a word of a command from a file of that name."""
    return settings.tasks == "docker" and name.endswith(_FILES)


def task(project: Project) -> str:
    """Return the arguments that all tasks have."""
    settings = project.airflow
    if settings.tasks == "process":
        lines = {"cwd": "FOLDER", "env": literal(settings.variables), "append_env": "True"}
    elif settings.tasks == "docker":
        lines = {"image": quoted(settings.image or ""), "environment": literal(settings.variables)}
        if settings.folder is not None:
            lines["working_dir"] = quoted(settings.folder)
        if settings.mounts:
            mounts = "".join(f"        {literal(_mount(text))},\n" for text in settings.mounts)
            lines["mounts"] = f"[\n{mounts}    ]"
        if settings.network is not None:
            lines["network_mode"] = quoted(settings.network)
        lines |= {"mount_tmp_dir": "False", "auto_remove": quoted("force")}
    else:
        lines = {"image": quoted(settings.image or ""), "env_vars": literal(settings.variables)}
        named = {
            "namespace": settings.namespace,
            "service_account_name": settings.service_account,
            "pod_template_file": settings.pod_template,
        }
        lines |= {name: quoted(value) for name, value in named.items() if value is not None}
        lines["startup_timeout_seconds"] = "600"  # a node may have to come up first
    written = [f'    "{name}": {value},' for name, value in lines.items()]
    written.append('    "do_xcom_push": False,  # bytes go through Charkha\'s blobs')
    written.append('    "retries": 0,')
    return _TASK.format(lines="\n".join(written))


def _mount(text: str) -> dict[str, object]:
    source, target, *rest = text.split(":")
    kind = "bind" if source.startswith("/") else "volume"
    read_only = {"read_only": True} if rest else {}
    return {"source": source, "target": target, "type": kind, **read_only}


def _kind(settings: AirflowSettings) -> dict[str, str]:
    return _KUBERNETES if settings.tasks == "kubernetes" else _DOCKER


_PLURALS = {"docker": "containers", "kubernetes": "pods"}
