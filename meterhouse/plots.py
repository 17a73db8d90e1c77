"""Small plots as SVG in Markdown, for asset metadata."""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime

from meterhouse import times

FONT = 'font-family="sans-serif" font-size="10" fill="#888"'
TICK_HOURS = (1, 2, 3, 4, 6, 12, 24, 48, 168, 336, 720, 2160, 8760)
"""Hours between two labels of a time axis."""


def by_hour(
    values: Mapping[datetime, float], start: datetime, end: datetime, *, title: str, width: int = 640, height: int = 90
) -> str:
    """Markdown of a bar plot over the hours of the half-open span [start, end), UTC, with axes of time and values.

    Args:
        values: hour → its value. An hour that is missing is a gap; an hour whose value is 0 has a mark on the axis.
        start: the first hour.
        end: the end of the last hour.
        title: what the values are.
        width: of the plot, in pixels.
        height: of the highest bar, in pixels.

    Returns:
        Empty text if no hour of the span has a value.
    """
    shown = {hour: value for hour, value in values.items() if start <= hour < end}
    if not shown:
        return ""
    top = max(shown.values()) or 1.0
    left, above = 56, 22
    step = (width - left) / max((end - start) / times.HOUR, 1.0)

    def place(moment: datetime) -> float:
        return left + (moment - start) / times.HOUR * step

    drawn = [f'<text x="{left}" y="12" {FONT}>{title}</text>']
    for share in (0.0, 0.5, 1.0):
        y = above + height * (1 - share)
        drawn.append(f'<path d="M{left} {y:.1f}H{width}" stroke="#8884" fill="none"/>')
        drawn.append(f'<text x="{left - 6}" y="{y + 3:.1f}" text-anchor="end" {FONT}>{top * share:,.6g}</text>')
    for hour, value in shown.items():
        tall = max(height * value / top, 1.0)
        drawn.append(
            f'<rect x="{place(hour):.1f}" y="{above + height - tall:.1f}" width="{max(step * 0.8, 0.5):.1f}" '
            f'height="{tall:.1f}" fill="#4f43dd"/>'
        )
    for tick in ticks(start, end):
        x = place(tick)
        text = f"{tick:%m-%d}" if tick.hour == 0 else f"{tick:%H:%M}"
        drawn.append(f'<path d="M{x:.1f} {above + height}v4" stroke="#888" fill="none"/>')
        drawn.append(f'<text x="{x:.1f}" y="{above + height + 15}" text-anchor="middle" {FONT}>{text}</text>')
    below = f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    drawn.append(f'<text x="{left}" y="{above + height + 30}" {FONT}>{below}</text>')
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 24}" height="{above + height + 36}">'
        f"{''.join(drawn)}</svg>"
    )
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def ticks(start: datetime, end: datetime) -> list[datetime]:
    """Times for about eight labels: whole multiples of some hours since 1970, UTC."""
    hours = (end - start) / times.HOUR
    apart = next((each for each in TICK_HOURS if hours / each <= 8), TICK_HOURS[-1]) * times.HOUR
    first = times.EPOCH - (times.EPOCH - start) // apart * apart
    return [first + n * apart for n in range(int((end - first) / apart) + 1)]


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], limit: int = 50) -> str:
    """Markdown of a table. With more than `limit` rows: the first ones, and how many there are."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows[:limit]]
    if len(rows) > limit:
        lines.append(f"\n{len(rows)} rows in all")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}"
    return "" if value is None else str(value)
