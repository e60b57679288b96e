"""Tapes: what passed on the wire, recorded as it was, read as MCP.

`recorder.Recorder` writes one, `reader.Tape` reads one, `records` are what it consists of. `docs/tape.md` describes
the format.
"""
