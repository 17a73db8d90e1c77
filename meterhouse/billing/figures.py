"""Decimals as texts: never an exponent, no needless zeros."""

from decimal import Decimal
from typing import Final

import pyarrow as pa

MONEY_DIGITS: Final = 2
"""How many digits after the point an amount has at least."""


def text(value: Decimal, digits: int = 0) -> str:
    """A decimal as text, exact: `0.5`, `1230`; with 2 digits `0.50`, `1230.00`.

    Args:
        value: a finite decimal.
        digits: how many digits after the point it has at least.
    """
    whole, _, rest = f"{value:f}".partition(".")
    rest = rest.rstrip("0").ljust(digits, "0")
    shown = f"{whole}.{rest}" if rest else whole
    return shown.removeprefix("-") if not value else shown  # a decimal can be -0


def money(value: Decimal) -> str:
    """An amount of money: at least two digits after the point, and more where it has them."""
    return text(value, MONEY_DIGITS)


def texts(column: pa.ChunkedArray, digits: int = 0) -> pa.Array:
    """A column of decimals as texts, see `text`; nulls stay."""
    encoded = column.combine_chunks().dictionary_encode()
    shown = [text(each, digits) for each in encoded.dictionary.to_pylist()]
    return pa.array(shown, pa.string()).take(encoded.indices)
