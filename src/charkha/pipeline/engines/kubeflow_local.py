"""One run of a pipeline by `kfp.local`, as a process: FILE RUN.

Its SubprocessRunner refuses containers, because it starts none and would run something else. What
ours call is `charkha`, which is installed here too, so that refusal is taken out; all the rest,
order, loops, retries, the exit handler, is kfp's own doing, from the file that a server gets.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from kfp import components, local
from kfp.local.subprocess_task_handler import SubprocessTaskHandler


def main(arguments: list[str]) -> int:
    """Run the pipeline in FILE as our run RUN."""
    file, run = arguments
    warnings.simplefilter("ignore")  # of settings that have no effect here
    SubprocessTaskHandler.validate_not_container_component = lambda *_: None
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(Path(file).parent / "kubeflow"),
    )
    pipeline = components.load_component_from_file(file)
    try:
        pipeline(charkha_run=run)
    except RuntimeError as e:
        print(f"kfp.local: {e}", file=sys.stderr)  # noqa: T201  # it is a program, and this its log
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
