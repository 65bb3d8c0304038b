"""The `charkha` command: finds the command, and turns what goes wrong into a message and a code.

The overview is printed without argparse, because that costs more than starting Python itself.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module

from charkha import __version__
from charkha.errors import DONE, USAGE, WE, CharkhaError, Unavailable, UserError

COMMANDS = {  # name, which is also the module's, and what `--help` says about it
    "init": "write a new project from a template",
    "run": "run the pipeline; steps whose inputs did not change are reused",
    "runs": "list runs, or show one",
    "why": "tell why: of a prediction, a run or step, a version, a release, an alert",
    "data": "add, check, compare and restore versions of datasets",
    "models": "list, compare, promote and roll back versions of models",
    "serve": "answer requests with a model",
    "release": "move traffic to another version, and judge it all the way",
    "keys": "make, list and revoke the API keys of a server",
    "predict": "predict the rows of a file with a model",
    "records": "show what a model predicted, and what turned out to be true",
    "feedback": "keep what turned out to be true of predictions, from a file",
    "monitor": "say whether what a model is asked still looks like what it was trained on",
    "loop": "train again when there is a reason, and release what is better",
    "up": "run the whole platform here: model server, loop and MLflow, until Ctrl-C",
    "render": "write the pipeline for an engine, rules for Prometheus, dashboards for Grafana",
    "step": "what the tasks of an engine call: start a run, run its steps, finish it",
    "doctor": "say what is missing here, and the line that repairs it",
}
INTERRUPTED, PIPE_CLOSED = 130, 141  # 128 + SIGINT, 128 + SIGPIPE: what a shell expects


def main(arguments: list[str] | None = None) -> int:
    """Run one command line; return the exit code.

    0 done, 1 you can mend it, 2 the command line is wrong, 3 another system refused, 70 our bug.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _see_to_streams()
    debug = "--debug" in arguments
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()  # here, so that a closed pipe is found while it can be handled
    except CharkhaError as e:
        code = _fail(e, e.exit_code, debug=debug)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        code = INTERRUPTED
    except BrokenPipeError:  # `charkha runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = PIPE_CLOSED
    except SystemExit as e:  # argparse's way to say that it has said everything
        code = e.code if isinstance(e.code, int) else DONE
    except Exception as e:  # noqa: BLE001  # the last place that can keep the cause
        known = _of_this_machine(e)
        code = _fail(known, known.exit_code, debug=debug) if known else _confess(e, debug=debug)
    return code


def _see_to_streams() -> None:
    """Have a stdout and a stderr that take any text: also closed ones, and those of an old locale."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # `>&-`, as some daemons start what they run
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif (stream.encoding or "utf-8").lower() != "utf-8" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _dispatch(arguments: list[str]) -> int:
    ahead: list[str] = []  # options of every command, given before its name
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("-h", "--help"):
            sys.stdout.write(overview())
            return DONE
        if option == "--version":
            sys.stdout.write(f"charkha {__version__}\n")
            return DONE
        if option == "--env" and rest:
            ahead += [option, rest.pop(0)]
        elif option == "--debug" or option.startswith("--env="):
            ahead.append(option)
        else:
            return _usage(f"there is no option {option}", "charkha --help")
    if not rest:
        sys.stdout.write(overview())
        return DONE
    command, *own = rest
    if command not in COMMANDS:
        meant = import_module("charkha.definition").nearest(command, COMMANDS)
        return _usage(
            f"there is no command {command!r}",
            f"did you mean 'charkha {meant}'?" if meant else "charkha --help",
        )
    code: int = import_module(f"charkha.cli.{command}").main([*ahead, *own])
    return code


def overview() -> str:
    """Return what `charkha --help` prints."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    return f"""\
usage: charkha [--env NAME] [--debug] COMMAND …

Carries a model from data to production and keeps it right there.

commands:
{commands}

options:
  --env NAME  the environment of charkha.toml, instead of CHARKHA_ENV or local
  --debug     show tracebacks
  --version   show the version
  --help      show this, or after a command its own help

example:
  charkha init houses --template house-prices
"""


def _usage(what: str, fix: str) -> int:
    return _fail(UserError(what, fix=fix), USAGE, debug=False)


def _fail(error: CharkhaError, code: int, *, debug: bool) -> int:
    if debug:
        import_module("traceback").print_exception(error)
    sys.stderr.write(f"error: {error}\n")
    return code


def _of_this_machine(error: Exception) -> CharkhaError | None:
    """Return what a person can do about an error that no code of ours could have foreseen."""
    failed: CharkhaError | None = None
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("charkha"):
        fix = import_module("charkha.pipeline.distributions").install_line(error.name or "")
        failed = UserError(f"{error.name} is not installed", fix=fix)
    elif isinstance(error, OSError) and error.errno in _REMEDIES:
        where = f" ({error.filename})" if error.filename else ""
        kind = Unavailable if error.errno in _FULL else UserError  # it may be tried again as it is
        failed = kind(f"{error.strerror}{where}", fix=_REMEDIES[error.errno])
    if failed:
        failed.__cause__ = error
    return failed


_FULL = (errno.ENOSPC, errno.EDQUOT)
_REMEDIES = {
    errno.ENOSPC: "free some space; what was half written is gone, so start it again",
    errno.EDQUOT: "free some of your quota, then start it again",
    errno.EROFS: "take a folder that can be written to",
    errno.EACCES: "change the permissions, or take another folder",
    errno.EPERM: "change the permissions, or take another folder",
}


def _confess(error: Exception, *, debug: bool) -> int:
    """Keep the traceback of an error that nobody expected, and ask for it."""
    text = "".join(import_module("traceback").format_exception(error))
    tempfile = import_module("tempfile")
    with tempfile.NamedTemporaryFile(
        "w", prefix="charkha-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(f"charkha {__version__}, Python {sys.version}\n{sys.argv[1:]}\n\n{text}")
    if debug:
        sys.stderr.write(text)
    sys.stderr.write(
        f"error: this is a bug of Charkha: {type(error).__name__}: {error}\n"
        f"  → please report it with {file.name}\n"
    )
    return WE
