"""Ceilometer's dynamic pollsters: an entry says what to ask, and how samples are made of the answer.

`definition` compiles an entry. `gathering` asks: an API of OpenStack, another one, or a command of the host. `handlers`
reads an answer, `answers` finds its entries and the next page, `extraction` the value, ids and metadata of an entry,
`samples` makes samples of them, `extra_metadata` looks more metadata up. `pollster` puts them together.

The form is that of `ceilometer/polling/dynamic_pollster.py` of Ceilometer 27; docs/polling.md has what is different.
"""

from meterhouse.polling.kinds.dynamic.pollster import compile_poll

__all__ = ["compile_poll"]
