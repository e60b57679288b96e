"""Limits of rules files and what rules keep."""

from shadowcat_core.limits.limit import Limit, MiB

MAX_RULES = Limit(
    10_000,
    unit="rules",
    reason="Rules in one file: ten times what is benched. Beyond it the file is an error.",
)
MAX_RULE_PATTERN_CHARS = Limit(
    1_000,
    unit="characters",
    reason="One regular expression of a rule. Matching takes time in proportion to pattern times text, whatever both "
    "are; a longer pattern is an error.",
)
MAX_RULE_PATH_BYTES = Limit(
    1 * MiB,
    unit="bytes",
    reason="The largest message that a JSONPath is looked for in, as a path can visit a value once for every level "
    "around it. A larger one counts as a failure of the rule; JSON pointers have no such limit.",
)
MAX_RULE_PATH_DESCENTS = Limit(
    2,
    unit="descents",
    reason="Segments `..` in one JSONPath. Each multiplies the values to visit by the depth of the message; with more "
    "the path is an error.",
)
MAX_RULE_TEXT_BYTES = Limit(
    4 * MiB,
    unit="characters",
    reason="What one template may make, and the Python SDK's limit for a request. Beyond it the rule fails.",
)
MAX_RULE_COUNTERS = Limit(
    10_000,
    unit="sessions or streams",
    reason="Counters of a rule that counts per session or stream, as many as requests may be open. The oldest is "
    "forgotten first, and counts from the start again.",
)
MAX_RULE_FINDS = Limit(
    500_000,
    unit="rules found",
    reason="What a set of rules keeps in mind of which of them may concern a method and a target, over all of these: a "
    "few MB. A peer that invents names makes it forget and find out again, which costs time and no memory.",
)
MAX_RULE_WAIT_S = Limit(
    3_600,
    unit="s",
    reason="Longest delay or pause of a rule. Clients give up after a minute, and a held stream keeps its connections "
    "open; a longer one is an error.",
)
