"""A bill as HTML that prints well: one section a project, each on a page of its own, and nothing from elsewhere."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from html import escape
from typing import Any, Final
from zoneinfo import ZoneInfo

import pyarrow as pa

from meterhouse.billing import figures
from meterhouse.billing.bill import Bill, Total, descriptions
from meterhouse.untrusted import printable

STYLE: Final = """
@page { size: A4; margin: 18mm 15mm 20mm; }
* { box-sizing: border-box; }
html { font: 10pt/1.4 system-ui, "Liberation Sans", Arial, sans-serif; color: #1a1a1a; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; }
header { border-bottom: 2px solid #1a1a1a; margin-bottom: 1.2rem; padding-bottom: .4rem; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 1.4rem 0 .3rem; break-after: avoid; }
p { margin: .25rem 0; }
.faint, .id { color: #666; font-size: .82em; }
.id { overflow-wrap: anywhere; }
.state { border: 1px solid #b45309; color: #b45309; display: inline-block; padding: 0 .5rem; }
section.project { break-before: page; }
section.alone { break-before: auto; }
table { border-collapse: collapse; width: 100%; }
thead { display: table-header-group; }
tr { break-inside: avoid; }
th { border-bottom: 1px solid #1a1a1a; font-weight: 600; text-align: left; }
th, td { padding: .18rem .4rem; vertical-align: top; }
tbody tr:not(.sum) td { border-bottom: 1px solid #ddd; }
.n { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
.sum td { border-top: 1px solid #1a1a1a; font-weight: 600; }
@media print { body { max-width: none; padding: 0; } a { color: inherit; text-decoration: none; } }
@media screen and (prefers-color-scheme: dark) {
  html { background: #16181c; color: #e6e6e6; } header, th, .sum td { border-color: #e6e6e6; }
  .faint, .id { color: #a0a0a0; } tbody tr:not(.sum) td { border-color: #333; }
  .state { color: #f0a030; border-color: #f0a030; }
}
"""

SHOWN: Final = 200
"""How many resources without a price, or unconfirmed ones, the page lists; the other formats have all."""


def as_html(bill: Bill, issuer: str) -> str:
    """The bill as one HTML document.

    Args:
        bill: the bill.
        issuer: who issues it.
    """
    return "".join(_document(bill, issuer))


def _document(bill: Bill, issuer: str) -> Iterator[str]:
    title = f"Bill {bill.month}"
    yield f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{_text(title)}</title>\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<style>{STYLE}</style>\n</head>\n<body>\n"
    projects = bill.totals("project_id")
    is_one = len({each.of for each in projects}) == 1
    if not is_one:
        yield from _header(bill, issuer, title)
        yield from _totals("Projects", "project", [(_project(bill, each.of), each) for each in projects], bill.totals())
        yield from _totals("Services", "service", [(_text(each.of), each) for each in bill.totals("service")], [])
    rows = _rows(bill.lines, _zone(bill.time_zone))
    places: dict[str, list[int]] = {}
    for place, project in enumerate(bill.lines["project_id"].to_pylist()):
        places.setdefault(project, []).append(place)
    sums: dict[str, list[Total]] = {}
    for total in projects:
        sums.setdefault(total.of, []).append(total)
    services = bill.lines["service"].to_pylist()
    for project, own in places.items():
        yield f'<section class="project{" alone" if is_one else ""}">\n'
        yield from _header(bill, issuer, f"{title}: {bill.name(project)}")
        yield from _lines([(services[place], rows[place]) for place in own], sums[project])
        yield "</section>\n"
    yield from _remarks(bill, "alone" if is_one else "")
    yield "</body>\n</html>\n"


def _header(bill: Bill, issuer: str, title: str) -> Iterator[str]:
    zone = _zone(bill.time_zone)
    yield f"<header>\n<h1>{_text(title)}</h1>\n<p>{_text(issuer)}</p>\n"
    yield f"<p>{_moment(bill.start, zone)} to {_moment(bill.end, zone)}, {_text(bill.time_zone)}</p>\n"
    if bill.closing is None:
        held = _moment(bill.holds_until, zone)
        yield f'<p class="state">Preliminary: this month is not closed. Holds up to {held}</p>\n'
    else:
        closed = f"Closed {_moment(bill.closing.closed_at, zone)} by {_text(bill.closing.closed_by)}"
        yield f'<p class="faint">{closed}, digest {_text(bill.closing.digest[:16])}</p>\n'
    yield "</header>\n"


def _totals(heading: str, name: str, rows: Sequence[tuple[str, Total]], sums: Sequence[Total]) -> Iterator[str]:
    yield f"<h2>{heading}</h2>\n<table>\n<thead><tr><th>{name}</th>"
    yield '<th class="n">lines</th><th class="n">net</th><th class="n">tax</th><th class="n">total</th></tr></thead>\n'
    yield "<tbody>\n"
    for shown, total in rows:
        yield _total_row(shown, total, "")
    for total in sums:
        yield _total_row("all", total, ' class="sum"')
    yield "</tbody>\n</table>\n"


def _total_row(shown: str, total: Total, how: str) -> str:
    amounts = "".join(
        f'<td class="n">{_money(each, total.currency)}</td>' for each in (total.net, total.tax, total.gross)
    )
    return f'<tr{how}><td>{shown}</td><td class="n">{total.lines}</td>{amounts}</tr>\n'


def _lines(rows: Sequence[tuple[str, str]], sums: Sequence[Total]) -> Iterator[str]:
    """The lines of a project, each with its service, and the project's sums."""
    yield "<table>\n"
    yield '<thead><tr><th>item</th><th>from, to</th><th class="n">quantity</th><th class="n">price</th>'
    yield '<th class="n">amount</th></tr></thead>\n<tbody>\n'
    before = None
    for service, row in rows:
        if service != before:
            before = service
            yield f'<tr class="service"><td colspan="5"><h2>{_text(service)}</h2></td></tr>\n'
        yield row
    for total in sums:
        for label, amount in (("Net", total.net), ("Tax", total.tax), ("Total", total.gross)):
            shown = _money(amount, total.currency)
            yield f'<tr class="sum"><td colspan="4">{label}</td><td class="n">{shown}</td></tr>\n'
    yield "</tbody>\n</table>\n"


def _rows(lines: pa.Table, zone: tzinfo) -> list[str]:
    """A table row for each line."""

    lines = lines.set_column(lines.column_names.index("description"), "description", descriptions(lines))

    def cells(name: str, show: Callable[[Any], str]) -> list[str]:
        """A column as texts, each distinct value made once."""
        encoded = lines[name].combine_chunks().dictionary_encode()
        shown = [show(value) for value in encoded.dictionary.to_pylist()]
        return ["" if place is None else shown[place] for place in encoded.indices.to_pylist()]

    def moment(instant: datetime) -> str:
        return _moment(instant, zone)

    def followed(text: str) -> str:
        return f"{_text(text)} "

    resource = [cells(name, followed) for name in ("resource_type", "resource_name", "resource_id", "flavor")]
    columns = [
        cells("description", _text),
        list(map("".join, zip(*resource, strict=True))),
        cells("line_id", _text),
        cells("started_at", moment),
        cells("ended_at", moment),
        cells("quantity", _quantity),
        cells("unit", lambda text: f" {_text(text)}"),
        cells("unit_price", figures.text),
        cells("amount", figures.money),
        cells("currency", _text),
    ]
    return [
        f'<tr><td>{item}<br><span class="id">{about}line {line_id}</span></td><td class="faint">{start}<br>{end}</td>'
        f'<td class="n">{quantity}{unit}</td><td class="n">{price}</td><td class="n">{amount} {currency}</td></tr>\n'
        for item, about, line_id, start, end, quantity, unit, price, amount, currency in zip(*columns, strict=True)
    ]


def _remarks(bill: Bill, how: str) -> Iterator[str]:
    """What the reader has to know about the bill, if there is anything; not on the page of a project among others."""
    if not bill.remarks:
        return
    yield f'<section class="project {how}">\n'
    yield "<h2>Remarks</h2>\n<ul>\n"
    yield from (f"<li>{_text(each)}</li>\n" for each in bill.remarks)
    yield "</ul>\n"
    for heading, rows, names in (
        ("Not priced", bill.not_priced, ("resource_type", "resource_id", "project_id", "state", "reason")),
        (
            "Unconfirmed: known by events alone",
            bill.unconfirmed,
            ("resource_type", "resource_id", "project_id", "name"),
        ),
    ):
        if rows.num_rows == 0:
            continue
        yield f"<h2>{_text(heading)}</h2>\n<table>\n<thead><tr>"
        yield "".join(f"<th>{_text(name.replace('_', ' '))}</th>" for name in names) + "</tr></thead>\n<tbody>\n"
        for row in rows.select(names).slice(0, SHOWN).to_pylist():
            yield "<tr>" + "".join(f"<td>{_text(value or '')}</td>" for value in row.values()) + "</tr>\n"
        yield "</tbody>\n</table>\n"
        if rows.num_rows > SHOWN:
            yield f"<p>and {rows.num_rows - SHOWN} more</p>\n"
    yield "</section>\n"


def _text(text: str) -> str:
    """A text of others: it cannot become markup."""
    return escape(printable(text))


def _project(bill: Bill, project: str) -> str:
    name = bill.name(project)
    return _text(project) if name == project else f'{_text(name)}<br><span class="id">{_text(project)}</span>'


def _money(amount: Decimal, currency: str) -> str:
    return f"{figures.money(amount)} {_text(currency)}"


def _quantity(quantity: Decimal) -> str:
    """A quantity to six digits after the point; all its digits are in the other formats."""
    return figures.text(round(quantity, 6))


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


def _moment(instant: datetime, zone: tzinfo) -> str:
    """A time in the bill's time zone; to the second, and to the minute where it has no seconds."""
    local = instant.astimezone(zone).replace(tzinfo=None, microsecond=0)
    return local.isoformat(" ", "seconds" if local.second else "minutes")
