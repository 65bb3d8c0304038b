"""A worker without HTTP, as a process: `python worker_process.py ROOT COUNTS NUMBER`."""

import asyncio
import sys
from pathlib import Path

from charkha.project import default_project
from charkha.serving.control import Control
from charkha.serving.lanes import Lane
from charkha.serving.metrics import Meters
from charkha.serving.variants import Switch, Variant


async def main(root, counts, number):
    meters, switch = Meters(counts, number), Switch()

    def make(name, role, model):
        meter = meters.variant(model.name, model.version, name, role)
        return Variant(name, model, Lane(model.predictor), meter)

    project = default_project(root)
    control = Control(project, "prices", switch, make_variant=make, worker=number)
    await control.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
