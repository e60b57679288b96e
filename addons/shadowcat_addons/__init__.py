"""Shadowcat's mitmproxy side: one addon, one file, one job; `suite` puts them together."""
