"""Guards: built-in interceptors that keep secrets, tools, hidden text and floods from passing.

Each is small and knows nothing of the others. `docs/guards.md` is the manual; `PRIORITIES` their order.
"""

from types import MappingProxyType
from typing import Final

from shadowcat_core.interceptors.guards.drift import Drift, RefuseDrifted, WatchToolLists
from shadowcat_core.interceptors.guards.hidden_text import Hidden, examine
from shadowcat_core.interceptors.guards.pins import Pin, Pins
from shadowcat_core.interceptors.guards.redaction import RedactMessages, Redactor
from shadowcat_core.interceptors.guards.scan import ScanAction, ScanTexts
from shadowcat_core.interceptors.guards.secret_patterns import WELL_KNOWN, SecretPattern, own_pattern
from shadowcat_core.interceptors.guards.size_cap import CapResults, Excess
from shadowcat_core.interceptors.guards.tool_access import HideTools, RefuseCalls, ToolPolicy

PRIORITIES: Final = MappingProxyType({
    "pins": -1000,
    "tools": -900,
    "scan": -800,
    "redact": 9000,
    "cap": 9100,
})  # fmt: skip
"""Pins see what the server wrote; what may not be called or seen is gone before anybody is asked about it.

Redaction comes behind whatever writes or edits messages (rules, people, scripts), so what they put in is masked too.
The cap comes behind it: half a secret, cut off by the cap, would be none that redaction knows.
"""

__all__ = [
    "PRIORITIES",
    "WELL_KNOWN",
    "CapResults",
    "Drift",
    "Excess",
    "Hidden",
    "HideTools",
    "Pin",
    "Pins",
    "RedactMessages",
    "Redactor",
    "RefuseCalls",
    "RefuseDrifted",
    "ScanAction",
    "ScanTexts",
    "SecretPattern",
    "ToolPolicy",
    "WatchToolLists",
    "examine",
    "own_pattern",
]
