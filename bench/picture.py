"""Draws how seconds grow with domains, both in powers of ten: what grows as the fleet does is at 45 degrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10

_COLOURS = ("#777", "#06c", "#0a7", "#c60", "#a0c", "#c03")
_DECADE = 150  # pixels
_LEFT, _TOP, _LEGEND = 60, 20, 230

Points = Sequence[tuple[float, float]]


def draw(lines: Mapping[str, Points]) -> str:
    """Return a picture (SVG) of lines by their names; each is made of domains and seconds, all greater than 0."""
    first, last = _decades([domains for line in lines.values() for domains, _ in line])
    least, most = _decades([seconds for line in lines.values() for _, seconds in line])
    wide, high = (last - first) * _DECADE, (most - least) * _DECADE

    def place(domains: float, seconds: float) -> tuple[float, float]:
        return _LEFT + (log10(domains) - first) * _DECADE, _TOP + (most - log10(seconds)) * _DECADE

    size = f"{_LEFT + wide + _LEGEND} {_TOP + high + 45}"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="13">']
    parts.append(f'<rect width="{_LEFT + wide + _LEGEND}" height="{_TOP + high + 45}" fill="#fff"/>')
    for power in range(first, last + 1):
        x, y = place(10**power, 10**least)
        parts.append(f'<path d="M{x:.0f} {y:.0f}V{_TOP}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.0f}" y="{y + 18:.0f}" text-anchor="middle">{10**power:,}</text>')
    for power in range(least, most + 1):
        x, y = place(10**first, 10**power)
        parts.append(f'<path d="M{x:.0f} {y:.0f}H{_LEFT + wide}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6:.0f}" y="{y + 4:.0f}" text-anchor="end">{10.0**power:g} s</text>')
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        way = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points)
        parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = _LEFT + wide + 12, _TOP + 14 + 20 * number
        parts.append(f'<text x="{x}" y="{y}" fill="{colour}">{escape(name)}</text>')
    parts.append(f'<text x="{_LEFT}" y="{_TOP + high + 38}">domains; seconds of the processor</text></svg>\n')
    return "\n".join(parts)


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten that values lie between."""
    least, most = floor(log10(min(values))), ceil(log10(max(values)))
    return least, max(most, least + 1)
