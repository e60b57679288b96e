"""Faults that know the protocol: named toxics on messages, streams and requests, the same again with the same seed.

No I/O. `docs/faults.md` is the manual.
"""

from shadowcat_core.interceptors.faults.fault_outlet import FaultOutlet, Note
from shadowcat_core.interceptors.faults.http_faults import Answer, Asked, HeaderEdit, HttpAct
from shadowcat_core.interceptors.faults.pieces import Body
from shadowcat_core.interceptors.faults.rack import Listed, Rack
from shadowcat_core.interceptors.faults.syntax import parse_toxic, toxic_text
from shadowcat_core.interceptors.faults.toxics import TOXICS, Toxic

__all__ = [
    "TOXICS",
    "Answer",
    "Asked",
    "Body",
    "FaultOutlet",
    "HeaderEdit",
    "HttpAct",
    "Listed",
    "Note",
    "Rack",
    "Toxic",
    "parse_toxic",
    "toxic_text",
]
