"""Plots of asset metadata show values at their time."""

import base64
import re
from datetime import timedelta

from builders import at

from meterhouse import plots, times


def drawn(markdown: str) -> str:
    return base64.b64decode(markdown.partition("base64,")[2].rstrip(")")).decode()


def test_a_bar_stands_at_its_hour_and_an_hour_without_data_is_a_gap() -> None:
    day = at(hours=-12)
    values = {day: 10.0, day + times.HOUR: 0.0, day + 6 * times.HOUR: 20.0}
    svg = drawn(plots.by_hour(values, day, day + times.DAY, title="t"))
    bars = [
        tuple(map(float, each))
        for each in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="[\d.]+" height="([\d.]+)"', svg)
    ]
    (first, half), (second, none), (seventh, full) = bars
    assert full == 2 * half > none > 0
    assert round((seventh - first) / (second - first)) == 6
    assert re.findall(r">(\d\d:\d\d|\d\d-\d\d)<", svg) == [
        "11-10",
        "03:00",
        "06:00",
        "09:00",
        "12:00",
        "15:00",
        "18:00",
        "21:00",
        "11-11",
    ]
    assert [each for each in (">0<", ">10<", ">20<") if each in svg] == [">0<", ">10<", ">20<"]
    assert "2026-11-10 00:00 to 2026-11-11 00:00 UTC" in svg


def test_a_plot_without_values_in_its_span_is_empty() -> None:
    assert plots.by_hour({at(): 1.0}, at(hours=1), at(hours=2), title="t") == ""


def test_a_long_span_has_few_labels() -> None:
    for days in (0.1, 2, 30, 400, 4000):
        svg = drawn(plots.by_hour({at(): 1.0}, at(), at() + timedelta(days=days), title="t"))
        assert 1 <= svg.count('text-anchor="middle"') <= 12
