"""A whole MCP conversation in one box: an example server, a client that drives it, and what the proxy saw of it."""
