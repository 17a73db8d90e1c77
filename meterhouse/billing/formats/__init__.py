"""A bill as a file: HTML, CSV, Parquet, JSON, FOCUS."""

from meterhouse.billing.bill import Bill


def write(bill: Bill, form: str, issuer: str, region: str, *, in_parquet: bool = False) -> bytes:
    """A bill in a format.

    Args:
        bill: the bill.
        form: `html`, `csv`, `parquet`, `json` or `focus`.
        issuer: who issues the bill and provides the cloud.
        region: the cloud's region; empty if it has none.
        in_parquet: FOCUS in Parquet instead of CSV.
    """
    from meterhouse.billing.formats import focus, html, json_document, tables

    if form == "parquet":
        return tables.as_parquet(bill)
    if form == "focus" and in_parquet:
        return focus.as_parquet(bill, issuer, region)
    if form == "focus":
        return focus.as_csv(bill, issuer, region).encode()
    if form == "html":
        return html.as_html(bill, issuer).encode()
    return (tables.as_csv(bill) if form == "csv" else json_document.as_json(bill)).encode()
