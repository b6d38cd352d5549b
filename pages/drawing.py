"""Pictures as text: boxes, arrows and words in an SVG that can be read in the light and the dark.

A colour is a class, of which the style sheet inside the picture has one set for a light page and
one for a dark page. Nothing is fetched from elsewhere, fonts neither.
"""

from __future__ import annotations

from html import escape
from typing import Final

_LIGHT: Final = {
    "text": "fill:#1f2430",
    "faint": "fill:#5b6475",
    "tick": "stroke:#ffffff;fill:none",
    "box": "fill:#f3f5fa;stroke:#aab3c5",
    "ours": "fill:#dfe8fb;stroke:#3f63b8",
    "data": "fill:#dff1e4;stroke:#3c8a55",
    "held": "fill:#fbead9;stroke:#b8752f",
    "zero": "fill:#ffffff;stroke:#aab3c5;stroke-dasharray:4 3",
    "line": "stroke:#5b6475;fill:none",
    "head": "fill:#5b6475",
    "yes": "fill:#3c8a55",
    "no": "fill:#c9cfdb",
}
_DARK: Final = {
    "text": "fill:#e8ebf2",
    "faint": "fill:#a7b0c2",
    "tick": "stroke:#14171f;fill:none",
    "box": "fill:#262b38;stroke:#5b6475",
    "ours": "fill:#26375f;stroke:#87a6ee",
    "data": "fill:#1f4230;stroke:#6fc38b",
    "held": "fill:#523a20;stroke:#e0a663",
    "zero": "fill:#1b1f29;stroke:#5b6475;stroke-dasharray:4 3",
    "line": "stroke:#a7b0c2;fill:none",
    "head": "fill:#a7b0c2",
    "yes": "fill:#6fc38b",
    "no": "fill:#454d5e",
}


def _style(dark: bool) -> str:
    light, night = _rules(_LIGHT), _rules(_DARK)
    return night if dark else f"{light}@media (prefers-color-scheme:dark){{{night}}}"


def _rules(colours: dict[str, str]) -> str:
    return "".join(f".{name}{{{value}}}" for name, value in colours.items())


class Drawing:
    """A picture of `width` by `height`, to which parts are added. `title` is what is read out."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._size = (width, height)
        self._title = title
        self._parts: list[str] = []

    def svg(self, *, dark: bool = False) -> str:
        """The picture's text. `dark`: only as it is on a dark page, for what knows no media."""
        width, height = self._size
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            f' width="{width}" height="{height}" role="img"'
            ' font-family="system-ui,DejaVu Sans,sans-serif" font-size="14">\n'
            f"<title>{escape(self._title)}</title>\n<style>{_style(dark)}</style>\n"
            + "".join(f"{part}\n" for part in self._parts)
            + "</svg>\n"
        )

    def box(
        self, x: int, y: int, width: int, height: int, colour: str, *lines: str, top: bool = False
    ) -> None:
        """A box with lines of text: the first in bold, in the middle or at the `top`."""
        self._parts.append(
            f'<rect class="{colour}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'
        )
        at = y + 24 if top else y + height // 2 - 9 * (len(lines) - 1) + 5
        for number, line in enumerate(lines):
            self.text(x + width // 2, at + 18 * number, line, bold=not number, faint=number > 0)

    def text(
        self,
        x: int,
        y: int,
        words: str,
        *,
        bold: bool = False,
        faint: bool = False,
        anchor: str = "middle",
        code: bool = False,
    ) -> None:
        weight = ' font-weight="600"' if bold else ' font-size="12.5"'
        family = ' font-family="DejaVu Sans Mono,monospace"' if code else ""
        self._parts.append(
            f'<text class="{"faint" if faint else "text"}" x="{x}" y="{y}"{weight}{family}'
            f' text-anchor="{anchor}">{escape(words)}</text>'
        )

    def arrow(self, *points: tuple[int, int]) -> None:
        """A line through points with a head at the last, which is reached straight."""
        (bx, by), (x, y) = points[-2], points[-1]
        dx, dy = (x > bx) - (x < bx), (y > by) - (y < by)
        self.line(*points[:-1], (x - 7 * dx, y - 7 * dy))
        foot, half = (x - 9 * dx, y - 9 * dy), (5 * dy, 5 * dx)
        sides = f"{foot[0] - half[0]} {foot[1] - half[1]}L{foot[0] + half[0]} {foot[1] + half[1]}"
        self._parts.append(f'<path class="head" d="M{x} {y}L{sides}Z"/>')

    def line(self, *points: tuple[int, int]) -> None:
        through = " ".join(f"{x},{y}" for x, y in points)
        self._parts.append(f'<polyline class="line" stroke-width="1.6" points="{through}"/>')

    def dot(self, x: int, y: int, *, yes: bool) -> None:
        """Whether something may be: a full circle with a tick, or a small one."""
        if not yes:
            self._parts.append(f'<circle class="no" cx="{x}" cy="{y}" r="4"/>')
            return
        self._parts.append(f'<circle class="yes" cx="{x}" cy="{y}" r="10"/>')
        tick = f"M{x - 5} {y}l3.5 4l6-8"
        self._parts.append(f'<path class="tick" stroke-width="2.2" d="{tick}"/>')

    def rule(self, x: int, y: int, width: int) -> None:
        self._parts.append(f'<path class="line" stroke-width="0.6" d="M{x} {y}h{width}"/>')
