"""Shadowcat's core: everything that needs no mitmproxy. Import from its modules; `docs/architecture.md` is the map."""

__version__ = "0.1.0"
