"""Forks processes of Charkha on request: what they import is imported once."""

import fcntl
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import sys
import time
import traceback
import warnings
from multiprocessing.connection import Client
from pathlib import Path
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
    return main(order["words"])


class Started:
    """A process that another one of ours has started: with its files, its folder, its environment."""

    def __init__(self, link):
        self._link = link
        said, files, _, _ = socket.recv_fds(link, 1 << 18, 64)
        self._files, self._order = files, json.loads(said or b"null")

    def fork(self, pids):
        """Return once there is a child that carries it out."""
        if self._order is not None and not os.fork():
            code = 70
            telling = self._become()
            try:
                (pids / str(os.getpid())).write_text(" ".join(self._order["words"]))
                code = self._run()
            except Exception:  # noqa: BLE001  # the last place that can say it
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os.write(telling, str(code).encode())
                os._exit(code)
        for file in (*self._files, self._link.detach()):
            os.close(file)

    def _become(self):
        """Take over the files of who started it; return where its end is told."""
        apart = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 200) for file in self._files]
        telling = fcntl.fcntl(self._link.detach(), fcntl.F_DUPFD_CLOEXEC, 200)
        os.closerange(0, 200)
        for number, file in zip(self._order["files"], apart, strict=True):
            os.dup2(file, number)
            os.close(file)
        return telling

    def _run(self):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(self._order["environ"])
        os.chdir(self._order["folder"])
        option, module, *words = self._order["words"]
        assert option == "-m", self._order
        sys.argv = [module, *words]
        warnings.simplefilter("ignore", RuntimeWarning)  # it is imported already
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as e:
            return e.code or 0
        return 0


def serve(launcher):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    watching = selectors.DefaultSelector()
    watching.register(sys.stdin, selectors.EVENT_READ)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if launcher:
        sys.executable = launcher  # of everybody here
        listening.bind(f"{launcher}.link")
        listening.listen(16)
        watching.register(listening, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in watching.select():
            if key.fileobj is listening:
                Started(listening.accept()[0]).fork(Path(f"{launcher}.pids"))
            elif line := sys.stdin.readline():
                fork(json.loads(line))
            else:
                return


def fork(order):
    child = os.fork()
    if not child:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = 70
        try:
            code = carry_out(order)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            time.sleep(0)
            os._exit(code)
    print(child, flush=True)


if __name__ == "__main__":
    _, launcher, *imports = sys.argv
    for name in imports:
        __import__(name)
    serve(launcher)
