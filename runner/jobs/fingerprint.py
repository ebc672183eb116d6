"""The fingerprint of a run: the code that its numbers come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.core.identity import Config, digest
from runner.core.modules import hashes, module_of

NAMED = 3
"""Changed modules that `difference` names."""

GROUPS: dict[str, tuple[str, ...]] = {
    "train": ("dataset", "model", "training", "defense"),
    "attack": ("dataset", "model", "attribution", "attack", "epsilon", "metrics", "certificate"),
    "evaluate": ("metrics", "certificate"),
}
"""The groups whose plug-ins a job uses itself. Those of its inputs count as its inputs do: by their own fingerprint."""

UNCOUNTED = frozenset(
    [f"runner.core.{name}" for name in ("board", "cli", "errors", "identity", "kinds", "modules")]
    + [f"runner.core.{name}" for name in ("progress", "provenance", "renewal", "secrets", "stopping")]
    + [f"runner.jobs.{name}" for name in ("cells", "checks", "fingerprint", "gallery", "inputs", "once", "report")]
    + ["runner.jobs", "runner.report.*", "runner.tracking", "runner.tracking_settings"]
)
"""What no number depends on, though the jobs import it: messages, refusals, names, logs, pictures, pages."""


def code_of(job: str, config: Config) -> dict[str, str]:
    """The hash of each module that a run's own numbers depend on: its job's, its plug-ins' and what those import."""
    nodes = [config.get(group) for group in GROUPS[job]]
    targets = {target for node in nodes for target in _targets(node)}
    roots = {name for target in targets if (name := module_of(target)) is not None}
    return dict(hashes(frozenset({f"runner.jobs.{job}", *roots}), UNCOUNTED))


def seal(result: Mapping[str, Any]) -> str | None:
    """The fingerprint of a finished run in one word; None where it has none, being older than fingerprints."""
    fingerprint = result.get("fingerprint")
    return None if fingerprint is None else digest(fingerprint)


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Which modules differ, in a few words; None where none does."""
    names = changed(before, now)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"changed: {', '.join(names[:NAMED])}{more}" if names else None


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The modules that differ, that came or that went."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def _targets(node: Any) -> Iterator[str]:
    """Every `_target_` in a part of the config, save for those of an attack's source, which is a run of its own."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        for name, item in node.items():
            if name != "source":
                yield from _targets(item)
    elif isinstance(node, list):
        for item in node:
            yield from _targets(item)
