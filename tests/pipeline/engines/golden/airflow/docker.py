"""Pipeline forest of houses as a DAG: every task is one command of Charkha's."""
# Written by `charkha render airflow`, which leaves it alone once somebody has changed it. sha256:8dc68bdb26cb5c512aa22740417c6bdfa4f6cbfce2f4e06d0e7f11408adc14b1

import json
from datetime import timedelta

from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk import DAG, CronTriggerTimetable, Param

CHARKHA = ["charkha"]
# What the run is called at Charkha's: as here where `charkha run --on airflow` began it.
RUN = (
    "{{ run_id if run_id[0].isdigit() else dag_run.run_after.strftime('%Y%m%d-%H%M%S-') ~ run_id }}"
)
ATTEMPT = "{{ ti.try_number }}"
TASK = {
    "image": "registry.example.org/houses:1",
    "environment": {"AWS_ENDPOINT_URL": "http://10.0.0.7:9000"},
    "working_dir": "/srv/houses",
    "mounts": [
        {"source": "/srv/blobs", "target": "/srv/blobs", "type": "bind"},
        {"source": "secrets", "target": "/run/secrets", "type": "volume", "read_only": True},
    ],
    "network_mode": "backend",
    "mount_tmp_dir": False,
    "auto_remove": "force",
    "do_xcom_push": False,  # bytes go through Charkha's blobs
    "retries": 0,
}
OURS = {**TASK, "retries": 1, "retry_delay": timedelta(seconds=5)}  # can be done twice


def run(name, *steps, after, **how):
    """Return a task of these steps; one before it may have been empty, but none may have failed."""
    asked = [word for step in steps or [name] for word in ("--step", step)]
    command = [*CHARKHA, "step", "run", "--run", RUN, *asked, "--attempt", ATTEMPT]
    how = {**TASK, "trigger_rule": "none_failed", **how}
    made = DockerOperator(task_id=name, command=command, **how)
    after >> made
    return made


class Elements(DockerOperator):
    """Returns a label for each element of a step's list, by which it is told from the others."""

    def execute(self, context):
        lines = super().execute(context)  # of both its streams
        counted = json.loads(next(line for line in reversed(lines) if line.startswith("[")))
        return [{"element": str(element)} for element in counted]


def run_each(name, *, after, **how):
    """Return a task for each element of a step's list, counted when the list is there."""
    asked = [*CHARKHA, "step", "count", "--run", RUN, "--step", name]
    counting = {**OURS, "do_xcom_push": True, "trigger_rule": "none_failed"}
    counted = Elements(task_id=f"{name}.elements", command=asked, xcom_all=True, **counting)
    after >> counted
    asked = [*CHARKHA, "step", "run", "--run", RUN, "--step", name, "--attempt", ATTEMPT]
    command = [*asked, "--element", "{{ ti.map_index }}"]
    each = DockerOperator.partial(task_id=name, command=command, **{**TASK, **how})
    return each.expand(labels=counted.output)


with DAG(
    dag_id="houses-forest",
    description="Pipeline forest of houses",
    schedule=CronTriggerTimetable(
        "0 3 * * *",
        timezone="Europe/Berlin",
        run_immediately=timedelta(0),  # not at once what was due shortly before
    ),
    params={
        "year": Param(2006, type="integer"),
    },
    tags=["charkha"],
) as dag:

    def start():
        found = ["--found", "dag={{ dag.dag_id }}", "--found", "run={{ run_id }}"]
        given = ["--engine", "airflow", "--shape", "0366d4a44380"]
        given += ["--params", "{{ params | tojson }}"]
        command = [*CHARKHA, "step", "start", "--run", RUN, *found, *given]
        return DockerOperator(task_id="charkha.start", command=command, **OURS)

    def finish():  # fails where a step has failed, and the DAG's run with it
        command = [*CHARKHA, "step", "finish", "--run", RUN]
        how = {**TASK, "trigger_rule": "all_done"}
        return DockerOperator(task_id="charkha.finish", command=command, **how)

    begun = start()
    rows = run("rows", after=[begun], retries=2, retry_delay=timedelta(seconds=30))
    grown = run_each(
        "grown",
        after=[rows],
        retries=1,
        retry_delay=timedelta(seconds=0),
        cpus=2,
        mem_limit=4000000000,
        device_requests=[{"count": 1, "capabilities": [["gpu"]]}],
    )
    chosen = run("chosen", after=[grown], cpus=0.5)

    list(dag.tasks) >> finish()  # all of them: beside a step that fails others still go on
