"""Lets overrides add keys to a node called `args` without a plus: `model.args.width=64`. Its keys are for the user's own code.

Hydra knows such keys only in the form `++model.args.width=64`, so that is what an override of that kind is read as.
"""

import re
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType

FREE = re.compile(r"(.+\.)?args(\..+)?")


def _free_keys_may_be_new() -> None:
    stock = OverridesParser.parse_rule
    if hasattr(stock, "stock"):  # Hydra imports each plug-in module twice
        return

    def parse_rule(self: OverridesParser, s: str, rule_name: str) -> Any:
        parsed = stock(self, s, rule_name)
        if isinstance(parsed, Override) and parsed.type is OverrideType.CHANGE and FREE.fullmatch(parsed.key_or_group):
            parsed.type = OverrideType.FORCE_ADD
        return parsed

    parse_rule.stock = stock  # type: ignore[attr-defined]
    OverridesParser.parse_rule = parse_rule  # type: ignore[method-assign]


_free_keys_may_be_new()
