"""Limits of files that people write."""

from shadowcat_core.limits.limit import Limit, MiB

MAX_DOCUMENT_BYTES = Limit(
    4 * MiB,
    unit="bytes",
    reason="One file that a person wrote. A thousand rules take 150 KB; a larger file is an error, and a reload keeps "
    "what is there.",
)
MAX_DOCUMENT_VALUES = Limit(
    500_000,
    unit="values",
    reason="Values in one such file, aliases of YAML counted as often as they are used, so a short file cannot unfold "
    "into a large one. Beyond it the file is an error.",
)
MAX_DOCUMENT_DEPTH = Limit(
    100,
    unit="levels",
    reason="Nesting of one such file, conditions of rules and messages of their tests included. Beyond it the file is "
    "an error.",
)
