"""A replay as an SVG picture: the values, the threshold, and when the alarm would have rung."""

from collections.abc import Sequence
from html import escape

from meterhouse.alarms.replay.run import Replayed
from meterhouse.plots import FONT, ticks

_WIDTH, _HEIGHT, _LEFT, _ABOVE, _BELOW = 960, 200, 64, 34, 40
_COLOURS = {"alarm": "#d33", "ok": "#3a3", "insufficient data": "#999"}
_BAND = 14


def svg(replays: Sequence[Replayed]) -> str:
    """The picture of one alarm, or of several versions below each other, on white."""
    height = (_ABOVE + _HEIGHT + _BAND + _BELOW) * len(replays)
    names = [each.alarm.name for each in replays]
    shown = [f"{name}, version {n}" if names.count(name) > 1 else name for n, name in enumerate(names, 1)]
    below = _ABOVE + _HEIGHT + _BAND + _BELOW
    drawn = [_one(each, name, n * below) for n, (each, name) in enumerate(zip(replays, shown, strict=True))]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>{"".join(drawn)}</svg>\n'
    )


def _one(of: Replayed, name: str, down: int) -> str:
    known = [value for value in of.recent if value is not None]
    threshold: float | None = getattr(of.alarm.rule, "threshold", None)
    shown = [*known, *([threshold] if threshold is not None else [])] or [0.0, 1.0]
    low, high = min(shown), max(shown)
    if low == high:
        low, high = low - 1, high + 1
    top, bottom = down + _ABOVE, down + _ABOVE + _HEIGHT
    seconds = (of.end - of.start).total_seconds()

    def across(after: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 12) * after / seconds

    def up(value: float) -> float:
        return bottom - _HEIGHT * (value - low) / (high - low)

    title = f"{name}: {sum(change.state == 'alarm' for change in of.changes)} alarms, "
    title += f"{of.seconds('alarm'):,.0f} s in alarm"
    parts = [f'<text x="{_LEFT}" y="{down + 18}" {FONT}>{escape(title)}</text>']
    for start, end, state, _ in of.spans():
        x, until = (across((each - of.start).total_seconds()) for each in (start, end))
        colour = _COLOURS[state]
        parts.append(f'<rect x="{x:.1f}" y="{bottom + 4}" width="{max(until - x, 1):.1f}" height="{_BAND - 6}" ')
        parts.append(f'fill="{colour}"><title>{escape(state)}</title></rect>')
        if state == "alarm":
            parts.append(f'<rect x="{x:.1f}" y="{top}" width="{max(until - x, 1):.1f}" height="{_HEIGHT}" ')
            parts.append(f'fill="{colour}" fill-opacity="0.12"/>')
    for value in (low, (low + high) / 2, high):
        parts.append(f'<path d="M{_LEFT} {up(value):.1f}H{_WIDTH - 12}" stroke="#ddd" fill="none"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{up(value) + 3:.1f}" text-anchor="end" {FONT}>{value:,.6g}</text>')
    line, pen = [], "M"
    for n, recent in enumerate(of.recent):
        if recent is None:
            pen = "M"
            continue
        line.append(f"{pen}{across(n * of.every):.1f} {up(recent):.1f}")
        pen = "L"
    parts.append(f'<path d="{"".join(line)}" stroke="#4f43dd" stroke-width="1.5" fill="none"/>')
    if threshold is not None:
        parts.append(f'<path d="M{_LEFT} {up(threshold):.1f}H{_WIDTH - 12}" stroke="#d33" stroke-dasharray="5 4"/>')
        y = max(up(threshold) - 4, top + 10)
        parts.append(f'<text x="{_LEFT + 6}" y="{y:.1f}" {FONT}>threshold {threshold:,.6g}</text>')
    for tick in (each for each in ticks(of.start, of.end) if each >= of.start):
        x, text = across((tick - of.start).total_seconds()), f"{tick:%m-%d}" if tick.hour == 0 else f"{tick:%H:%M}"
        anchor = "end" if x > _WIDTH - 40 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{bottom + _BAND + 12}" text-anchor="{anchor}" {FONT}>{text}</text>')
    span = f"{of.start:%Y-%m-%d %H:%M} to {of.end:%Y-%m-%d %H:%M} UTC"
    parts.append(f'<text x="{_LEFT}" y="{bottom + _BAND + 27}" {FONT}>{span}</text>')
    return "".join(parts)
