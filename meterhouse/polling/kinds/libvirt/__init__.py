"""Pollsters of the virtual machines on a host: what libvirt tells of those that Nova made.

`hypervisor` asks libvirt, `domains` reads what it tells of each, `instances` reads Nova's metadata, and `meters`
has the meters with Ceilometer's names, types, units and ids.

libvirt's Python package is an extra: PyPI has its sources only, which need libvirt's headers and a C compiler.
"""
