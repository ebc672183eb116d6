"""The fingerprint of a run: hashes of the modules that its numbers come from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from runner.core.hashing import digest
from runner.runs.module_hashes import VERSION, hashes, module_of, versions
from runner.runs.run import Run

NAMED = 3
"""Changed modules that `difference` names."""

COUNTED = (
    *(
        f"runner.{room}.*"
        for room in ("attacks", "attributions", "certificates", "datasets", "defenses", "metrics", "models")
    ),
    *(f"runner.core.{name}" for name in ("chunking", "cosine", "frozen_layers", "frozen_passes", "grid")),
    *(f"runner.core.{name}" for name in ("interception", "norms", "rng", "shared_pass", "trace")),
    *(f"runner.training.{name}" for name in ("monitoring", "optimisation", "trainer", "training_state")),
    *(
        f"runner.attacking.{name}"
        for name in ("chunk", "convergence", "degenerate", "results", "search", "setup", "transfer_images")
    ),
    "runner.stats.*",
)
"""The modules of this project that numbers come from. A user's own modules always count; editing any other makes nothing stale."""

PACKAGES = {
    "runner.models.torchvision_network": "torchvision",
    "runner.models.resnet": "torchvision",
    "runner.models.timm_network": "timm",
}
"""Modules of this project whose networks an installed package defines: its version counts for the runs that use them."""

RULES = 2
"""Version of these rules, in each fingerprint. Version 1, which is not stated, counted all modules but a list of exceptions."""

_BEFORE = Path(__file__).with_name("fingerprints_v1.json")


def code_of(run: Run) -> dict[str, str]:
    """The hashes of the modules that a run's own numbers depend on: those of its job, its plug-ins, and what these import."""
    nodes = [run.config.get(group) for group in run.job.plug_ins]
    targets = {target for node in nodes for target in _targets(node)}
    roots = {name for target in targets if (name := module_of(target)) is not None}
    used = roots | {PACKAGES[name] for name in roots & PACKAGES.keys()}
    return {**hashes(frozenset({*run.job.code, *roots}), COUNTED), **versions(frozenset(used), COUNTED)}


def fingerprint(run: Run, code: Mapping[str, str]) -> dict[str, Any]:
    """The fingerprint for the result of a run: its own code, and the fingerprints of the finished runs that it used."""
    results = {needed.folder.name: needed.result() for needed in run.inputs}
    inputs = {name: fingerprint_hash(result) for name, result in results.items() if result is not None}
    return {"rules": RULES, "code": dict(code), "inputs": inputs}


def fingerprint_hash(result: Mapping[str, Any]) -> str | None:
    """A hash of the fingerprint in a result; None for results older than fingerprints."""
    stated = result.get("fingerprint")
    return None if stated is None else digest(stated)


def changes_since(stated: Mapping[str, Any], now: Mapping[str, str]) -> str | None:
    """The modules that have changed since a fingerprint was written, in a few words; None if none has."""
    code: Mapping[str, str] = stated["code"]
    return difference(code if stated.get("rules") == RULES else _in_new_rules(code, now), now)


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """The modules that differ, in a few words; None if none does."""
    names = changed(before, now)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"changed: {', '.join(names[:NAMED])}{more}" if names else None


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The modules that were edited, added or removed, and the packages with another version; older results state none."""
    names = {name for name in {*before, *now} if before.get(name) != now.get(name)}
    return sorted(name for name in names if not name.endswith(VERSION) or (name in before and name in now))


def _in_new_rules(code: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """A fingerprint of rules 1, converted to the current rules.

    The table holds the hash of every module at the last commit with rules 1 (`before`), and at the commit that moved the modules
    without changing a number (`after`). Hashes equal to `before` become those of `after`; all others are kept.
    """
    table = _moves()
    other = {name: text for name, text in code.items() if table["before"].get(name) != text}
    return {name: table["after"][name] for name in now if name in table["after"]} | other


@cache
def _moves() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = json.loads(_BEFORE.read_text(encoding="utf-8"))
    return table


def _targets(node: Any) -> Iterator[str]:
    """Every `_target_` in a part of the config, and every `target`, the user's code that it takes.

    Not those of an attack's source, which is a separate run.
    """
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield from (str(node[key]) for key in ("_target_", "target") if key in node)
        for name, item in node.items():
            if name != "source":
                yield from _targets(item)
    elif isinstance(node, list):
        for item in node:
            yield from _targets(item)
