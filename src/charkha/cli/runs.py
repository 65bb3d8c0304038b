"""`charkha runs`: the newest runs, one run in full, or the ones that MLflow still waits for."""

from __future__ import annotations

from charkha.cli import show
from charkha.cli.arguments import count, parser
from charkha.cli.stories import as_lines, run_as_json
from charkha.clock import to_second
from charkha.errors import DONE, THEY
from charkha.models import tracker
from charkha.models.recording import shown
from charkha.pipeline.runs import Run, list_runs, read_run
from charkha.project import Project, open_project


def main(arguments: list[str]) -> int:
    """List runs, show one, or have MLflow catch up."""
    options = parser("runs", example="charkha runs last")
    options.add_argument(
        "run", nargs="?", help="a run (or how it begins, or `last`); `sync` fills MLflow"
    )
    options.add_argument("--limit", type=count, default=20, metavar="N", help="how many (20)")
    given = options.parse_args(arguments)
    project = open_project(environment=given.env)
    if given.run == "sync":
        return _sync(project, as_json=given.json)
    if given.run:
        _show(read_run(given.run, project), as_json=given.json)
        return DONE
    found = list_runs(project, given.limit)
    if given.json:
        show.as_json([run_as_json(run) for run in found])
    elif not found:
        print("no run yet\n  → charkha run")
    else:
        _table(found, project)
    return DONE


def _table(runs: list[Run], project: Project) -> None:
    rows = [
        (
            run.id,
            run.status,
            to_second(run.started_at),
            show.duration(run.seconds),
            f"{run.cached}/{len(run.steps)}",
            tracker.read_state(project, run.id).run_id,
        )
        for run in runs
    ]
    show.table(("run", "status", "started", "took", "cached", "MLflow run"), rows)


def _show(run: Run, *, as_json: bool) -> None:
    if as_json:
        show.as_json(run_as_json(run))
        return
    print(f"{show.bold(run.id)}  {run.status} in {show.duration(run.seconds)}")
    if run.started:
        print(f"  pipeline  {run.started.pipeline}  ({run.started.environment})")
        params = (f"{name}={shown(value)}" for name, value in run.started.params.items())
        print(f"  params    {', '.join(params) or 'none'}")
        for name, version in run.started.datasets.items():
            print(f"  data      {name}@{version}")
        print(f"  commit    {run.started.commit or 'not in git'}")
    width = max((len(name) for name in run.steps), default=0)
    for step in run.steps.values():
        for line in as_lines(step, run.project, width, explain=False):
            print(line)
    for text in (*run.notices, *([f"error: {run.error}"] if run.error else [])):
        print(f"  {text}")


def _sync(project: Project, *, as_json: bool) -> int:
    waiting = tracker.pending(project)
    reached = {}
    for run in waiting:
        tracker.start(project, run)
        with show.working(f"MLflow is being filled with {run}"):
            reached[run] = tracker.wait(project, run)
    if as_json:
        show.as_json({run: state._asdict() for run, state in reached.items()})
    else:
        for run, state in reached.items():
            print(f"{run}  {state.state}{f': {state.error}' if state.error else ''}")
        if not waiting:
            print("MLflow has every run")
    return DONE if all(state.state == "done" for state in reached.values()) else THEY
