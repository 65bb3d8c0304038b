"""The contract's pipeline as somebody would write it in Kubeflow's own language."""

from kfp import dsl

IMAGE = "registry.example.org/parity:1"
JOB = dsl.PIPELINE_JOB_ID_PLACEHOLDER


def charkha(action, run, job, *words):
    words = ["step", action, "--run", run, "--run", job, *words]
    return dsl.ContainerSpec(image=IMAGE, command=["charkha"], args=words)


@dsl.container_component
def start(run: str, job: str, count: int, plus: float, fails: int, seconds: float):
    words = ["--engine", "kubeflow", "--shape", "SHAPE"]
    for given in (f"count={count}", f"plus={plus}", f"fails={fails}", f"seconds={seconds}"):
        words += ["--param", given]
    return charkha("start", run, job, *words)


@dsl.container_component
def one(run: str, job: str, step: str):
    return charkha("run", run, job, "--step", step)


@dsl.container_component
def repeated(run: str, job: str, step: str):
    return charkha("run", run, job, "--step", step, "--attempt", "next")


@dsl.container_component
def together(run: str, job: str):
    return charkha("run", run, job, "--step", "halved", "--step", "bounds")


@dsl.container_component
def element(run: str, job: str, step: str, element: int):
    return charkha("run", run, job, "--step", step, "--element", element)


@dsl.container_component
def counted(run: str, job: str, step: str, elements: dsl.OutputPath(list)):
    line = 'mkdir -p "$(dirname "$0")" && "$@" > "$0"'
    words = ["charkha", "step", "count", "--run", run, "--run", job, "--step", step]
    return dsl.ContainerSpec(image=IMAGE, command=["sh"], args=["-c", line, elements, *words])


@dsl.container_component
def finish(
    run: str,
    job: str,
    status: dsl.PipelineTaskFinalStatus,
    metrics: dsl.Output[dsl.Metrics],
):
    given = dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER
    return charkha("finish", run, job, "--kubeflow", given)


def quiet(task, title):
    """Name a task for people, and have Kubeflow not cache it."""
    task.set_caching_options(False)
    return task.set_display_name(title)


@dsl.pipeline(name="parity-parity")
def parity(
    charkha_run: str = "",
    count: int = 3,
    plus: float = 0.5,
    fails: int = 1,
    seconds: float = 0.0,
):
    known = {"run": charkha_run, "job": JOB}
    with dsl.ExitHandler(quiet(finish(**known), "finish"), name="steps"):
        given = {"count": count, "plus": plus, "fails": fails, "seconds": seconds}
        first = quiet(start(**known, **given), "start")
        numbers = quiet(one(**known, step="numbers"), "numbers").after(first)
        counting = quiet(counted(**known, step="squared"), "count squared").after(numbers)
        with dsl.ParallelFor(counting.outputs["elements"], name="each squared") as item:
            squared = quiet(element(**known, step="squared", element=item), "squared")
        shaky = quiet(repeated(**known, step="shaky"), "shaky").after(squared)
        shaky.set_retry(2, backoff_duration="0s", backoff_factor=1.0)
        end = quiet(together(**known), "end").after(shaky, squared)
        quiet(one(**known, step="slow"), "slow").after(end)
