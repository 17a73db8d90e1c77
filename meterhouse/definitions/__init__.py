"""Ceilometer's definition files: what to make of a notification, as data.

`loading` reads meters.yaml and event_definitions.yaml; `meters` and `events` say what they mean; `values`,
`expressions` and `plugins` are the expression language that both share.
"""
