"""`charkha why RUN/STEP`: why a step ran or was reused, and how to get at what it made."""

from __future__ import annotations

from charkha.cli import show
from charkha.cli.arguments import parser
from charkha.cli.stories import explained, run_as_json, step_as_json
from charkha.definition import nearest
from charkha.errors import DONE, UserError
from charkha.pipeline.runs import Run, StepStory, read_run
from charkha.project import Project, open_project


def main(arguments: list[str]) -> int:
    """Explain one step of a run, or all of them."""
    options = parser("why", example="charkha why last/fit")
    options.add_argument("what", metavar="RUN[/STEP]", help="a run, how it begins, or `last`")
    given = options.parse_args(arguments)
    project = open_project(environment=given.env)
    name, _, wanted = given.what.partition("/")
    run = read_run(name, project)
    steps = [_step(run, wanted)] if wanted else list(run.steps.values())
    if given.json:
        told = [{**step_as_json(s), "because": explained(s, project)} for s in steps]
        show.as_json(told[0] if wanted else {**run_as_json(run), "steps": told})
        return DONE
    print(f"run {run.id}: {run.status}{f' ({run.error})' if run.error else ''}")
    for step in steps:
        _tell(step, run, project)
    return DONE


def _step(run: Run, wanted: str) -> StepStory:
    if wanted not in run.steps:
        meant = nearest(wanted, run.steps)
        raise UserError(
            f"run {run.id} has no step {wanted!r}",
            fix=f"did you mean {meant!r}?" if meant else f"its steps are: {', '.join(run.steps)}",
        )
    return run.steps[wanted]


def _tell(step: StepStory, run: Run, project: Project) -> None:
    took = f" in {show.duration(step.seconds)}" if step.how == "ran" else ""
    print(f"{show.bold(step.name)}: {step.how}{took}")
    for text in explained(step, project):
        print(f"  {text}")
    for name, artifact in step.outputs.items():
        print(
            f"  made {name}: {artifact.type.rpartition(':')[2]}, {show.size(artifact.size)} "
            f"({artifact.codec} {artifact.digest[:12]})"
        )
    if step.error:
        print(f"  {step.error}")
    if step.log:
        print(f"  its log: {step.log}")
    if step.outputs:
        print(f'  in Python: charkha.read_run("{run.id}").output("{step.name}")')
