"""Small plots as SVG in Markdown, for asset metadata."""

import base64
from collections.abc import Sequence


def bars(values: Sequence[float], *, title: str, width: int = 480, height: int = 80) -> str:
    """Markdown of a bar plot with its title and maximum, oldest value first; empty text if there are no values."""
    if not values:
        return ""
    top = max(values) or 1.0
    step = width / len(values)
    drawn = "".join(
        f'<rect x="{n * step:.1f}" y="{height - height * value / top:.1f}" width="{max(step * 0.8, 0.5):.1f}" '
        f'height="{height * value / top:.1f}" fill="#4f43dd"/>'
        for n, value in enumerate(values)
    )
    label = f'<text x="0" y="12" font-family="sans-serif" font-size="11" fill="#888">{title}; maximum {top:g}</text>'
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + 18}">{label}'
        f'<g transform="translate(0,18)">{drawn}</g></svg>'
    )
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


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
