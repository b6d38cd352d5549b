"""The two plots, as plain SVG: the ratios against what is demanded; time and memory by size.

Written by hand, so that the same figures make the same file and no plotting library is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from bench.model import Demand, Result, demanded

_STYLE = (
    "<style>text{font:12px sans-serif;fill:#222}.bar{fill:#4a7fb5}.short{fill:#c8553d}"
    ".limit{stroke:#222;stroke-width:2}.axis{stroke:#999}.time{stroke:#4a7fb5;fill:none}"
    ".memory{stroke:#c8553d;fill:none}</style>"
)
_ROW, _LEFT, _WIDTH = 22, 470, 980
#: A bar that is longer is cut off, and its figure says how long it is.
_MOST = 3.0


def ratios(results: Sequence[Result]) -> str:
    """A bar for each demand, in units of what is demanded: at the line it is reached."""
    all_ = [(row, each) for row, each in demanded(results) if each.value is not None]
    height = _ROW * (len(all_) + 2)
    unit = (_WIDTH - _LEFT - 130) / _MOST
    line = _LEFT + unit
    parts = [
        bar for number, each in enumerate(all_) for bar in _bar(*each, _ROW * (number + 1.5), unit)
    ]
    parts.append(
        f'<line class="limit" x1="{line:.0f}" x2="{line:.0f}" y1="20" y2="{height - 10}"/>'
    )
    parts.append(f'<text x="{line:.0f}" y="14" text-anchor="middle">demanded</text>')
    return _svg(_WIDTH, height, parts)


def _bar(row: str, demand: Demand, top: float, unit: float) -> Iterator[str]:
    """How many times better than demanded; what may be at most something is turned over."""
    value = demand.value or 0.0
    better = value / demand.limit if demand.at_least else demand.limit / max(value, 1e-9)
    length = unit * min(better, _MOST)
    kind = "bar" if demand.reached else "short"
    sign = "≥" if demand.at_least else "≤"
    label = escape(f"{row}: {demand.what}")
    figure = escape(f"{value:.3g} {demand.unit} ({sign} {demand.limit:.3g})")
    yield f'<text x="{_LEFT - 8}" y="{top + 9:.0f}" text-anchor="end">{label}</text>'
    yield f'<rect class="{kind}" x="{_LEFT}" y="{top - 3:.0f}" width="{length:.1f}" height="15"/>'
    yield f'<text x="{_LEFT + length + 5:.0f}" y="{top + 9:.0f}">{figure}</text>'


def sizes(result: Result) -> str:
    """Seconds and megabytes of the largest process, against the image's size."""
    measured = [each for each in result.contenders if each.seconds is not None and each.peak]
    gib = [float(each.name.split()[0]) for each in measured]
    seconds = [each.seconds or 0.0 for each in measured]
    megabytes = [(each.peak or 0) / 1e6 for each in measured]
    return _svg(
        _WIDTH,
        280,
        [
            *_curve("time", "seconds", gib, seconds, 60),
            *_curve("memory", "MB in the largest process", gib, megabytes, 540),
        ],
    )


def _curve(
    kind: str, title: str, gib: Sequence[float], values: Sequence[float], left: int
) -> Iterator[str]:
    width, top, bottom = 400, 40, 230
    most_x, most_y = max(gib, default=1), 1.15 * max(values, default=1)
    points = [
        (left + width * x / most_x, bottom - (bottom - top) * y / most_y)
        for x, y in zip(gib, values, strict=True)
    ]
    yield f'<text x="{left}" y="24">{escape(title)}, by the size of the image in GiB</text>'
    yield f'<line class="axis" x1="{left}" x2="{left + width}" y1="{bottom}" y2="{bottom}"/>'
    yield f'<line class="axis" x1="{left}" x2="{left}" y1="{top}" y2="{bottom}"/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline class="{kind}" stroke-width="2" points="{path}"/>'
    for (x, y), size, value in zip(points, gib, values, strict=True):
        yield f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
        yield f'<text x="{x:.0f}" y="{y - 8:.0f}" text-anchor="middle">{value:.3g}</text>'
        yield f'<text x="{x:.0f}" y="{bottom + 16}" text-anchor="middle">{size:g}</text>'


def _svg(width: int, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}">'
    background = f'<rect width="{width}" height="{height:.0f}" fill="#fff"/>'
    return "\n".join((head, _STYLE, background, *parts, "</svg>\n"))
