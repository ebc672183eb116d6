"""Every plug-in of conf/ by its YAML: composed as its opening comment says, made cheap, built."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from composing import ROOT, composed

from runner.core.errors import ConfigError
from runner.core.identity import Config
from runner.jobs import parts, resolved

GROUPS = ("attribution", "attack", "defense", "metrics", "certificate")
SHAPE, CLASSES, K = (2, 8, 8), 4, 10
COSTS = {
    **dict.fromkeys(("steps", "search_steps", "restarts", "draws", "pairs", "iterations", "replays", "eot"), 2),
    **dict.fromkeys(("samples", "queries", "swaps", "points", "references", "bisections"), 6),
}
"""The most that a setting of this name costs here, wherever it stands in the YAML; more where the plug-in refuses so little."""
CHUNK = 12
"""What the attributions inside an attack may take at once."""


@dataclass(frozen=True)
class Plugin:
    """One YAML of conf/."""

    group: str
    name: str

    @property
    def text(self) -> str:
        return (ROOT / "conf" / self.group / f"{self.name}.yaml").read_text(encoding="utf-8")

    @property
    def command(self) -> list[str]:
        """The overrides of the first command of the opening comment, which chooses all that the plug-in needs beside itself."""
        (first, *_) = re.findall(r"^# python run\.py (.*)$", self.text, flags=re.MULTILINE)
        return shlex.split(first)

    @property
    def oracle(self) -> str | None:
        """What stands in the opening comment after `Oracle:`, a dotted path to the function or class to agree with."""
        found = re.search(r"^# Oracle: (\S+)$", self.text, flags=re.MULTILINE)
        return found.group(1) if found else None

    @cached_property
    def config(self) -> Config:
        """The composed config on small images, as expensive as it is for users."""
        shape, classes = (1, *SHAPE[1:]) if self.group == "certificate" else SHAPE, CLASSES
        free = ("dataset=", "training=") if self.group == "certificate" else ("dataset=", "training=", "model=")
        words = [word for word in self.command if not word.startswith(free)]
        small = [f"dataset.shape={list(shape)}", f"dataset.classes={classes}", f"metrics.k={K}", "tracking=none"]
        return resolved(composed("dataset=digits", *words, *(word.replace(" ", "") for word in small)))

    @cached_property
    def cheap(self) -> Config:
        """The same at the smallest cost at which all of it can be built."""
        for factor in (1, 2, 4, 8, 16, 64):
            config = shrunk(self.config, factor)
            try:
                build_all(config)
            except ConfigError:
                continue
            return config
        return self.config

    def build(self, **changes: Any) -> Any:
        """The object, cheap, with other values of some keys."""
        return built(self.cheap, self.group, self.name, changes)


@cache
def plugins(group: str) -> tuple[Plugin, ...]:
    return tuple(Plugin(group, path.stem) for path in sorted((ROOT / "conf" / group).glob("*.yaml")))


def everything() -> Iterator[Plugin]:
    return (plugin for group in GROUPS for plugin in plugins(group))


def shrunk(config: Config, factor: int) -> Config:
    """The config with every cost capped, however deep it stands, and with small chunks inside the attack."""
    most = {key: value * factor for key, value in COSTS.items()}
    return capped(config, most) | {"attack": capped(config["attack"], {**most, "chunk": CHUNK})}


def capped(node: Any, most: Mapping[str, int]) -> Any:
    """The node without larger numbers than these, by their keys."""
    if isinstance(node, list):
        return [capped(item, most) for item in node]
    if not isinstance(node, dict):
        return node
    numbers = {key for key, item in node.items() if isinstance(item, int) and not isinstance(item, bool)}
    return {
        key: min(item, most[key]) if key in numbers & most.keys() else capped(item, most) for key, item in node.items()
    }


def chunks_in(node: Any) -> Iterator[int]:
    """The chunks of every part inside a node, its own left out."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for item in inner:
        if isinstance(item, dict) and isinstance(item.get("chunk"), int):
            yield item["chunk"]
        yield from chunks_in(item)


def build_all(config: Config) -> None:
    for group in ("attribution", "attack", "defense"):
        parts.part(config, group)
    parts.metrics(config)
    parts.certificate(config)


def built(config: Config, group: str, name: str, changes: dict[str, Any]) -> Any:
    if group == "metrics":
        node = {**config["metrics"][name], **changes}
        return parts.metrics({"metrics": {name: node}})[name]
    return parts.part({group: {**config[group], **changes}}, group)
