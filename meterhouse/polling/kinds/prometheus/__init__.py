"""Pollsters of Prometheus exporters: a page of metrics, mapped to meters and resources by a YAML file.

`exposition` reads the page, `mapping` says what becomes of each series, `samples` makes the samples of a page.
"""
