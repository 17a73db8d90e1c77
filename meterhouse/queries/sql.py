"""Ad-hoc SQL on the lake or the warehouse."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from meterhouse.errors import MeterhouseError
from meterhouse.site import Site
from meterhouse.stores.lake_faults import file_of, retried

if TYPE_CHECKING:
    import pyarrow as pa


@retried
def sql_on_lake(site: Site, query: str) -> "pa.Table":
    """Any SQL of DuckDB on the lake; its tables are views of their names.

    Raises:
        MeterhouseError: DuckDB does not take the query.
    """
    import duckdb

    from meterhouse.stores.lake_tables import TABLES

    with site.lake.connect() as duck:
        for name in TABLES:
            site.lake.view(duck, name, site.lake.files(name))
        try:
            found = duck.sql(query)
            if found is None:
                raise MeterhouseError("the query gives no rows", where="SQL on the lake", hint="Write a SELECT")
            return found.to_arrow_table()
        except duckdb.Error as error:
            if file_of(error) is not None:  # not the query's fault
                raise
            raise _refused(error, "lake") from None


def sql_on_warehouse(site: Site, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Any reading SQL on the warehouse.

    Raises:
        MeterhouseError: the database does not take the query.
    """
    with site.warehouse.read() as connection:
        try:
            connection.execute(
                text("PRAGMA query_only = ON" if site.warehouse.is_sqlite else "SET TRANSACTION READ ONLY")
            )
            found = connection.execute(text(query.replace(":", "\\:")))
            if not found.returns_rows:
                raise MeterhouseError("the query gives no rows", where="SQL on the warehouse", hint="Write a SELECT")
            return list(found.keys()), [tuple(row) for row in found.all()]
        except DBAPIError as error:
            raise _refused(error.orig or error, "warehouse") from None
        finally:
            if site.warehouse.is_sqlite:
                connection.execute(text("PRAGMA query_only = OFF"))


def _refused(error: BaseException, store: str) -> MeterhouseError:
    said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return MeterhouseError(
        said.strip().rstrip("."), where=f"SQL on the {store}", hint="`meterhouse sql --help` lists the tables"
    )
