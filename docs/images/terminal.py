#!/usr/bin/env python3
"""Draws captured terminals as one SVG.

usage: terminal.py TITLE=FILE [TITLE=FILE ...] > picture.svg

Each FILE is what `tmux capture-pane -e -p` printed; trailing empty lines are left out. How the pictures came about is
told in CONTRIBUTING.md.
"""

import re
import sys
import unicodedata
from html import escape

FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
SIZE, WIDTH, HEIGHT = 14, 8.43, 20  # of a character, in pixels
MARGIN, BAR, GAP = 18, 34, 16
BACK, FRAME, TEXT, DIM = "#0d1117", "#30363d", "#d1d7de", "#7d8590"
COLOURS = {31: "#ff7b72", 32: "#56d364", 33: "#e3b341", 34: "#79c0ff", 35: "#d2a8ff", 36: "#56d4dd"}
WIDE = r"[\u2e80-\uffff\U0001f000-\U0003ffff]+|[^\u2e80-\uffff\U0001f000-\U0003ffff]+"


def columns(text):
    """How many cells a terminal gives a text: two for Chinese and most pictures."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


class Style:
    """What the escape sequences so far have asked for; it goes on from line to line."""

    def __init__(self):
        self.bold = self.dim = self.reverse = False
        self.colour = None

    def take(self, codes):
        codes = [int(code or 0) for code in codes.split(";")]
        # One of the 16 usual colours, written the long way.
        if codes[:2] == [38, 5]:
            codes = [30 + codes[2] % 8]
        for code in codes:
            self.take_one(code)

    def take_one(self, code):
        if code == 0:
            self.__init__()
        elif code == 1:
            self.bold = True
        elif code == 7:
            self.reverse = True
        elif code == 2:
            self.dim = True
        elif code == 22:
            self.bold = self.dim = False
        elif code == 39:
            self.colour = None
        elif code in COLOURS:
            self.colour = COLOURS[code]

    def attributes(self):
        fill = BACK if self.reverse else self.colour or (DIM if self.dim else TEXT)
        return f'fill="{fill}"' + (' font-weight="bold"' if self.bold else "")


def runs(line, style):
    """The parts of a line that look alike, each with its column."""
    column = 0
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b"):
            style.take(part[2:-1])
            continue
        if style.reverse:
            yield column, part, style.attributes(), True
            column += columns(part)
            continue
        # A wide gap ends a run, so that no renderer's idea of a space can move what follows.
        for piece in re.finditer(r"\S+(?: \S+)*", part):
            # What is wide stands apart, so that a font without it can't stretch what isn't.
            for even in re.finditer(WIDE, piece.group()):
                before = columns(part[: piece.start() + even.start()])
                yield column + before, even.group(), style.attributes(), False
        column += columns(part)


def terminal(title, lines, top, width):
    height = BAR + len(lines) * HEIGHT + MARGIN
    yield f'<rect x="0.5" y="{top + 0.5}" width="{width - 1}" height="{height - 1}" rx="9" fill="{BACK}" stroke="{FRAME}"/>'
    for place, colour in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        yield f'<circle cx="{MARGIN + 2 + place * 18}" cy="{top + 17}" r="5.5" fill="{colour}"/>'
    yield f'<text x="{width / 2}" y="{top + 22}" text-anchor="middle" fill="{DIM}" font-size="13">{escape(title)}</text>'
    style = Style()
    for number, line in enumerate(lines):
        y = top + BAR + number * HEIGHT + 14
        for column, text, attributes, is_reverse in runs(line, style):
            x, length = MARGIN + column * WIDTH, columns(text) * WIDTH
            if is_reverse:
                yield f'<rect x="{x:.2f}" y="{y - 14}" width="{length:.2f}" height="{HEIGHT - 2}" fill="{TEXT}"/>'
            yield (
                f'<text x="{x:.2f}" y="{y}" textLength="{length:.2f}" lengthAdjust="spacingAndGlyphs" {attributes}>'
                f"{escape(text)}</text>"
            )


def main():
    shown = []
    for argument in sys.argv[1:]:
        title, _, file = argument.partition("=")
        with open(file, encoding="utf-8") as captured:
            lines = captured.read().split("\n")
        plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in lines]
        # A prompt that waits for the next command says nothing.
        while plain and plain[-1] in ("", "$"):
            plain.pop()
        shown.append((title, lines[: len(plain)]))
    widest = max(columns(re.sub(r"\x1b\[[0-9;]*m", "", line)) for _, lines in shown for line in lines)
    width = round(2 * MARGIN + widest * WIDTH)
    body, top = [], 0
    for title, lines in shown:
        body += terminal(title, lines, top, width)
        top += BAR + len(lines) * HEIGHT + MARGIN + GAP
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top - GAP}" width="{width}" height="{top - GAP}" '
        f'font-family="{FONT}" font-size="{SIZE}" xml:space="preserve">'
    )
    print("\n".join(body))
    print("</svg>")


if __name__ == "__main__":
    main()
