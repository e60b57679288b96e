"""Rules: what shall happen to which messages, read from a file that a person writes.

`docs/rules.md` is the manual. No I/O but the reading of a file.
"""

from shadowcat_core.interceptors.rules.actions import Hold
from shadowcat_core.interceptors.rules.loading import load_rules, parse_rules
from shadowcat_core.interceptors.rules.models import Rule, RulesFile
from shadowcat_core.interceptors.rules.rule import CompiledRule
from shadowcat_core.interceptors.rules.rule_set import RuleSet, until_timeout

__all__ = ["CompiledRule", "Hold", "Rule", "RuleSet", "RulesFile", "load_rules", "parse_rules", "until_timeout"]
