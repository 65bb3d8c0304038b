"""A part of a terminal's transcript as an SVG.

make demo </dev/null | python examples/picture.py "How far" "$ charkha monitor" > docs/the-whole-wheel.svg
"""

import sys
from html import escape
from pathlib import Path
from textwrap import wrap

COLUMNS = 112
GLYPH, LINE, MARGIN = 8.4, 20, 20  # pixels; a monospace glyph is 0.6 of its font size wide
FONT = "14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def picture(transcript: str, first: str, last: str) -> str:
    """Return the SVG of the lines from one that begins with `first` to one that does with `last`."""
    lines = transcript.rstrip().replace(str(Path.cwd()), "~/charkha").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(first))
    end = next(n for n, line in enumerate(lines) if n > start and line.startswith(last))
    shown = [part for line in lines[start : end - 1] for part in folded(line)]
    width = round(2 * MARGIN + GLYPH * COLUMNS)
    height = 2 * MARGIN + LINE * len(shown)
    rows = "\n".join(row(number, line) for number, line in enumerate(shown))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
        f"<style>text {{ font: {FONT}; fill: #d8dee9; white-space: pre }} "
        f".typed {{ fill: #a3be8c }}</style>\n"
        f'<rect width="100%" height="100%" rx="8" fill="#20242c"/>\n{rows}\n</svg>\n'
    )


def folded(line: str) -> list[str]:
    """Return the line in parts that fit, later ones indented; what fits stays as it is."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    short = len(line) <= COLUMNS
    return [line] if short else wrap(line, COLUMNS, subsequent_indent=indent)


def row(number: int, line: str) -> str:
    """Return one line of text."""
    kind = ' class="typed"' if line.startswith("$ ") else ""
    y = MARGIN + LINE * number + 14
    return f'<text x="{MARGIN}" y="{y}"{kind} xml:space="preserve">{escape(line)}</text>'


if __name__ == "__main__":
    sys.stdout.write(picture(sys.stdin.read(), *sys.argv[1:3]))
