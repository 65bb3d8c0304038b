"""`charkha why`: the story behind a prediction, run, version, release, alert or turn of the loop."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator

from charkha.cli import show
from charkha.cli.arguments import parser
from charkha.clock import to_second
from charkha.console.stories.asking import tell
from charkha.console.stories.story import Story, said
from charkha.errors import DONE
from charkha.project import open_project

_WIDEST, _PIPED = 110, 100  # columns
_BRANCH, _LAST, _ALONG, _BELOW = "├ ", "└ ", "│ ", "  "
_BETWEEN = " · "
_CAN_BE = """\
charkha why …

  PREDICTION   the id of an answer: what it was asked, which version said so and why that one
  RUN          `last`, an id or how it begins: why each step ran, and what it made
  RUN/STEP     one step: what changed, and how to get at what it made
  VERSION      NAME@3, NAME@champion, NAME: its gate, data, run, releases
  RELEASE      as `charkha release history` has it: what was decided, with the numbers
  ALERT, TURN  an alert, or a turn of the loop: what it was about, and what followed
  DECISION     the first 12 characters of a verdict's id, as other stories name it

Every story ends with what to ask next. With `run:`, `release:` … in front where an id could be several."""


def main(arguments: list[str]) -> int:
    """Tell one story; without a reference, what can be asked for."""
    options = parser("why", example="charkha why last/fit")
    options.add_argument(
        "what",
        metavar="PREDICTION|RUN|RUN/STEP|VERSION|RELEASE|ALERT",
        nargs="?",
        help="an id, how it begins, `last`, or NAME@VERSION; without it: what it can be",
    )
    given = options.parse_args(arguments)
    if given.what is None:
        print(_CAN_BE)
        return DONE
    story = tell(open_project(environment=given.env), given.what)
    if given.json:
        show.as_json(story.as_json())
        return DONE
    wide = shutil.get_terminal_size((_PIPED, 24)).columns if sys.stdout.isatty() else _PIPED
    print("\n".join(lines(story, min(max(wide, 40), _WIDEST))))
    return DONE


def lines(story: Story, width: int) -> Iterator[str]:
    """Yield a story as a tree of lines, each at most `width` long where its words allow it."""
    yield from map(show.bold, _wrapped(story.title, width))
    yield from _body(story, width)
    if story.next:
        yield "go on with"
        longest = max(len(each.reference) for each in story.next)
        for each in story.next:
            yield f"  charkha why {each.reference:<{longest}}  {each.what}".rstrip()


def _body(story: Story, width: int) -> Iterator[str]:
    """Yield what stands below a title: sentences and facts, then the parts as branches."""
    inner = width - len(_BRANCH)
    bar = _ALONG if story.parts else _BELOW
    for text in story.because:
        yield from (f"{bar}{line}" for line in _wrapped(text, inner))
    yield from (f"{bar}{line}" for line in _packed(story, inner))
    for number, part in enumerate(story.parts, 1):
        last = number == len(story.parts)
        when = f"  {to_second(part.at)}" if part.at and part.kind == "event" else ""
        first, *more = _wrapped(part.title + when, inner)
        yield f"{_LAST if last else _BRANCH}{show.bold(first)}"
        below = _BELOW if last else _ALONG
        yield from (f"{below}{show.bold(line)}" for line in more)
        yield from (f"{below}{line}" for line in _body(part, inner))


def _packed(story: Story, width: int) -> Iterator[str]:
    """Yield facts side by side, as many as fit; those that sentences say are left out."""
    line = ""
    for text in (f"{fact.name}: {said(fact)}" for fact in story.facts if fact.text != ""):
        if line and len(line) + len(_BETWEEN) + len(text) <= width:
            line += f"{_BETWEEN}{text}"
            continue
        yield from _wrapped(line, width)
        line = text
    yield from _wrapped(line, width)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
