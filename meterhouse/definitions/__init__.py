"""Ceilometer's definition files, which say as data what a notification yields.

`loading` reads meters.yaml and event_definitions.yaml. `meters` and `events` compile their entries. `values`,
`expressions` and `plugins` are the expression language that both use.
"""
