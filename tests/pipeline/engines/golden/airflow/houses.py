"""Pipeline prices of houses as a DAG: every task is one command of Charkha's."""
# Written by `charkha render airflow`, which leaves it alone once somebody has changed it. sha256:3b2f1ae2ff527ee914c01c9b1277156b6e8e5cabbfd1173c06def3878be0b6b1

import json
from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param, task

FOLDER = "/srv/houses"  # the project's, on every worker
CHARKHA = "/srv/houses/.venv/bin/python -m charkha"
# What the run is called at Charkha's: as here where `charkha run --on airflow` began it.
RUN = (
    "'{{ run_id if run_id[0].isdigit()"
    " else dag_run.run_after.strftime('%Y%m%d-%H%M%S-') ~ run_id }}'"
)
ATTEMPT = "{{ ti.try_number }}"
TASK = {
    "cwd": FOLDER,
    "env": {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"},
    "append_env": True,
    "do_xcom_push": False,  # bytes go through Charkha's blobs
    "retries": 0,
}
OURS = {**TASK, "retries": 1, "retry_delay": timedelta(seconds=5)}  # can be done twice


def run(name, *steps, after, **how):
    """Return a task of these steps; one before it may have been empty, but none may have failed."""

    @task.bash(task_id=name, trigger_rule="none_failed", **{**TASK, **how})
    def charkha():
        asked = " ".join(f"--step {step}" for step in steps or [name])
        return f"{CHARKHA} step run --run {RUN} {asked} --attempt {ATTEMPT}"

    made = charkha()
    after >> made
    return made


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


with DAG(
    dag_id="houses-prices",
    description="Pipeline prices of houses",
    schedule=CronTriggerTimetable(
        "0 3 * * *",
        timezone="Europe/Berlin",
        run_immediately=timedelta(0),  # not at once what was due shortly before
    ),
    params={
        "year": Param(2006, type="integer"),
        "alphas": Param([0.1, 1.0], type="array"),
        "region": Param("north", type="string"),
        "dry": Param(False, type="boolean"),
        "since": Param(None, type=["null", "string"]),
        "limits": Param({"north": 3}, type="object"),
        "twice": Param(False, type="boolean"),
    },
    tags=["charkha"],
) as dag:

    @task.bash(task_id="charkha.start", **OURS)
    def start():  # tojson writes a ' as \u0027, so that none ends the shell's text
        found = "--found dag={{ dag.dag_id }} --found run='{{ run_id }}'"
        given = "--engine airflow --shape 07069608b1a0 --params '{{ params | tojson }}'"
        return f"{CHARKHA} step start --run {RUN} {found} {given}"

    @task.bash(task_id="charkha.finish", trigger_rule="all_done", **TASK)
    def finish():  # fails where a step has failed, and the DAG's run with it
        return f"{CHARKHA} step finish --run {RUN}"

    begun = start()
    rows = run("rows", after=[begun], retries=2, retry_delay=timedelta(seconds=30))
    fit = run_each("fit", after=[rows], execution_timeout=timedelta(seconds=900))
    judged = run("judged", "scores", "best", after=[fit], execution_timeout=timedelta(seconds=420))
    class_ = run("class", after=[judged])

    list(dag.tasks) >> finish()  # all of them: beside a step that fails others still go on
