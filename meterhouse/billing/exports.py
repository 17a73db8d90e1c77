"""Bills, put beside the lake's tables as files."""

from dataclasses import dataclass
from typing import Final

from meterhouse import times
from meterhouse.billing import closing
from meterhouse.billing.bill import Bill
from meterhouse.billing.formats import write
from meterhouse.site import Site

FILES: Final = {
    "html": ("html", False),
    "csv": ("csv", False),
    "json": ("json", False),
    "parquet": ("parquet", False),
    "focus.csv": ("focus", False),
    "focus.parquet": ("focus", True),
}
"""How the name of a file ends → the format, and whether FOCUS is in Parquet."""


@dataclass(frozen=True)
class Export:
    """A bill that was put into files.

    Attributes:
        uris: the files.
        bill: the bill.
    """

    uris: list[str]
    bill: Bill


def export(site: Site, month: str) -> Export:
    """Put the bill of a month beside the lake's tables, as `exports/bills/MONTH.…`; a second run replaces it.

    Raises:
        DefinitionError: the prices as a whole cannot be used.
        UsageError: it is not a month.
        Damaged: a file of a closed month is missing or changed.
    """
    started, given = times.now(), site.settings
    made = closing.make(site, month)
    uris = [
        site.lake.put(
            f"exports/bills/{made.month}.{ending}",
            write(made, form, given.bill_issuer, given.bill_region, in_parquet=in_parquet),
        )
        for ending, (form, in_parquet) in FILES.items()
    ]
    site.warehouse.record_run("bill", started, {"month": made.month, "lines": made.lines.num_rows})
    return Export(uris, made)
