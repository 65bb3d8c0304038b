"""The first turn of the wheel, as `make demo` shows it: python examples/first_turn.py FOLDER.

Types the commands that a person would, and ends with the price of a real house over HTTP. With
a folder that is a project already it starts at `charkha run`, which then reuses every step.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

MODEL = "house-prices"
SOLD_FOR = 210_000  # the first house of houses.jsonl, in 2010
PATIENCE_S = 60


def main(folder: Path) -> None:
    """Make the project where there is none, run it, and ask its model."""
    if not (folder / "charkha.toml").exists():
        charkha("init", os.path.relpath(folder))
    os.chdir(folder)
    charkha("run")
    charkha("predict", MODEL, "houses.jsonl")
    house = json.loads(Path("houses.jsonl").read_text().splitlines()[0])
    with served() as address:
        answer = post(f"{address}/predict", house)
    conclude(house, answer)


def charkha(*arguments: str) -> None:
    """Type a command and show what it prints; a failure ends the demo with its exit code."""
    print(f"$ charkha {shlex.join(arguments)}", flush=True)
    done = subprocess.run(["charkha", *arguments])
    if done.returncode:
        sys.exit(done.returncode)
    print(flush=True)


def told(*arguments: str) -> dict:
    """Return what a command says with --json."""
    done = subprocess.run(["charkha", *arguments, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


@contextmanager
def served():
    """Serve the model on a free port for a while; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    print(f"$ charkha serve {MODEL} --port {port} &", flush=True)
    server = subprocess.Popen(
        ["charkha", "serve", MODEL, "--port", str(port)], stderr=subprocess.PIPE, text=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/healthz", server)
        yield address
    finally:
        server.terminate()
        server.communicate()


def wait_for(address: str, server: subprocess.Popen) -> None:
    """Return as soon as the address answers."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and server.poll() is None:
        try:
            urlopen(address, timeout=5).close()
        except (URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    server.terminate()
    sys.exit(f"charkha serve does not answer:\n{server.communicate()[1]}")


def post(address: str, body: dict) -> dict:
    """Send JSON, show it as curl would be typed, return the JSON that comes back."""
    print(f'$ curl {address} --data "$(head -n 1 houses.jsonl)"')
    request = Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=PATIENCE_S) as response:
        answer = json.load(response)
    print(json.dumps(answer), end="\n\n")
    return answer


def conclude(house: dict, answer: dict) -> None:
    """Say what was asked, what came back, and what stands behind it."""
    shown = told("models", "show", MODEL)
    version, data = shown["version"], shown["data"]["ames"].removeprefix("md5:")
    price = answer["prediction"]
    print(
        f"A house of {house['Gr_Liv_Area']:,} square feet in {house['Neighborhood']}, sold in 2010"
    )
    print(f"  it went for   {SOLD_FOR:>9,} dollars")
    print(f"  the model says{price:>9,.0f} dollars")
    print(f"  model         {MODEL}@{version['version']}, {' and '.join(version['aliases'])}")
    print(f"  data          ames@{data[:7]}")
    reasons = version["tags"]["charkha.because"].split("; ")
    print(f"  gate          {version['tags']['charkha.gate']}: {reasons[0]}")
    for reason in reasons[1:]:
        print(f"                {reason}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
