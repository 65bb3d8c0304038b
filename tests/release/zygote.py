"""Forks controllers of releases on request: what they import is imported once."""

import json
import os
import resource
import signal
import sys
import time
from multiprocessing.connection import Client
from types import SimpleNamespace

from charkha.cli import release as command
from charkha.cli.main import main
from charkha.ledger import Ledger
from charkha.release.controller import Surroundings
from charkha.states import States


class Far:
    """A thing that lives in the test's process."""

    def __init__(self, link, name):
        self._link, self._name = link, name

    def __getattr__(self, method):
        def called(*given, **named):
            self._link.send((self._name, method, given, named))
            worked, said = self._link.recv()
            if not worked:
                raise said
            return said

        return called


def in_world(order):
    """Carry out the release of a service in the test's memory, with a ledger in a file."""
    link = Client(order["address"], "AF_UNIX")
    ledger = order["ledger"]
    if "busy_s" in order:
        ledger += f"?timeout={order['busy_s']}"
    states, ledger = States(ledger), Ledger(ledger)  # the tables are there
    if "most_bytes" in order:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["most_bytes"], most))
    around = Surroundings(
        platform=Far(link, "platform"),
        aliases=Far(link, "aliases"),
        records=Far(link, "world").records,
        states=states,
        ledger=ledger,
        clock=Far(link, "world").clock,
    )
    project = SimpleNamespace(release=SimpleNamespace(every_s=0.002))
    command._carry_out(project, around, "prices", as_json=True)


def carry_out(order):
    out = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(out, stream)
    if "address" in order:
        in_world(order)
        return 0
    os.chdir(order["project"])
    return main(["release", *order["words"]])


def serve():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for name in order_of_imports:
        __import__(name)
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = 70
            try:
                code = carry_out(json.loads(line))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                time.sleep(0)
                os._exit(code)
        print(child, flush=True)


order_of_imports = sys.argv[1:]
if __name__ == "__main__":
    serve()
