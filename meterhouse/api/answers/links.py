"""Links in answers: absolute, as the client reached the API, with the prefix at which it is mounted."""

from urllib.parse import quote

from fastapi import Request


def base_of(request: Request) -> str:
    """The URL of the API, without a slash at its end."""
    return str(request.base_url).rstrip("/")


def link(rel: str, base: str, *path: str, query: str = "") -> dict[str, str]:
    """A link.

    Args:
        rel: what it is.
        base: from `base_of`.
        path: the parts of its path, which are quoted.
        query: its query string.
    """
    href = "/".join([base, *(quote(part, safe="") for part in path)])
    return {"href": f"{href}?{query}" if query else href, "rel": rel}
