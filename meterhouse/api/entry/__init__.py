"""What happens to every request before its path, and to every answer: ids, proxies, sizes, rates, faults.

Each middleware is a plain ASGI application around the next one.
"""
