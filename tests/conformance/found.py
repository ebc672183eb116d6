"""Every plug-in of conf/ by its YAML: composed as its opening comment says, made cheap, built."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from composing import ROOT, composed

from runner.core.config import Config, resolved
from runner.core.errors import ConfigError
from runner.runs.parts import Parts

GROUPS = ("attribution", "attack", "defense", "metrics", "certificate")
SHAPE, CLASSES, K = (2, 8, 8), 4, 10
COSTS = {
    **dict.fromkeys(("steps", "search_steps", "restarts", "draws", "pairs", "iterations", "replays", "eot"), 2),
    **dict.fromkeys(("samples", "queries", "swaps", "points", "references", "bisections"), 6),
}
"""The most that a setting of this name costs here, wherever it stands in the YAML; more where the plug-in refuses so little."""
CHUNK = 12
"""What the attributions inside an attack may take at once."""
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "attack=label_pgd": [{"loss": "margin", "restarts": 2}],
    "attack=query_nes": [{"draws": "common"}],
    "attack=spatial": [{"align": True, "padding": "reflection"}],
    "attack=topk": [
        {"keep": "last", "measure": "objective"},
        {"restarts": 2, "random_start": True, "update": "halving"},
    ],
    "attribution=beta_smoothing": [{"beta": 1.5, "multiply_by_input": True}],
    "attribution=boundary_ig": [{"output": "probability"}],
    "attribution=caso": [{"lambda1": 0.1, "threshold": "relative", "relative_to": "unit", "multiply_by_input": True}],
    "attribution=deep_lift": [{"baseline": (0.1, 0.3)}],
    "attribution=expected_gradients": [{"multiply_by_input": False, "output": "probability"}],
    "attribution=grad_cam": [{"relu": False}],
    "attribution=guided_backprop": [{"multiply_by_input": True}],
    "attribution=input_x_gradient": [{"output": "probability"}],
    "attribution=integrated_gradients": [{"rule": "gausslegendre", "baseline": (0.1, 0.2)}],
    "attribution=kernel_shap": [{"grid": 2, "samples": 14, "output": "probability"}],
    "attribution=lrp": [{"first": None, "convolution": "z_plus", "dense": "gamma", "epsilon": 1e-2}],
    "attribution=occlusion": [{"window": 3, "baseline": (0.1, 0.4)}],
    "attribution=smoothgrad": [{"relative_to": "image", "output": "probability", "multiply_by_input": True}],
    "attribution=sparsified_smoothgrad": [{"features": "pixels", "relaxation": "clipped_linear"}],
    "attribution=squared_smoothgrad": [{"output": "probability"}],
    "attribution=uniform_gradient": [
        {"relative_to": "image"},
        {"shape": "ball", "radius": 0.5, "multiply_by_input": False},
    ],
    "defense=art": [{"center": False}],
    "defense=cure": [{"squared": False}],
    "defense=far": [{"mode": "aat"}, {"mode": "advaat"}, {"mode": "advaat_two"}],
    "defense=hessian_frobenius": [{"scalar": "loss"}],
    "defense=igr": [{"beta": 20.0, "search_on": "map", "clean_weight": 0.3}],
    "defense=input_gradient": [{"squared": False}],
    "defense=lga": [{"detach_source": False, "norm": "l2"}],
    "defense=spectral_norm": [{"conv": "operator"}],
    "defense=ssr": [{"method": "power"}, {"channel_reduce": "mean"}],
}
"""Options that are computed in another way than those of the YAML."""


@dataclass(frozen=True)
class Plugin:
    """One YAML of conf/."""

    group: str
    name: str
    changes: tuple[tuple[str, Any], ...] = ()
    """Other values of some keys, for a variant."""

    @property
    def label(self) -> str:
        return "-".join([f"{self.group}={self.name}", *(f"{key}={value}" for key, value in self.changes)])

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
        if self.changes:
            return None
        found = re.search(r"^# Oracle: (\S+)$", self.text, flags=re.MULTILINE)
        return found.group(1) if found else None

    @property
    def config(self) -> Config:
        """The composed config on small images, as expensive as it is for users."""
        return _config(self.group, self.name)

    @property
    def cheap(self) -> Config:
        """The same at the smallest cost at which all of it can be built."""
        return _cheap(self.group, self.name)

    def build(self, **changes: Any) -> Any:
        """The object, cheap, with other values of some keys."""
        return built(self.cheap, self.group, self.name, {**dict(self.changes), **changes})


@cache
def _config(group: str, name: str) -> Config:
    shape = (1, *SHAPE[1:]) if group == "certificate" else SHAPE
    free = ("dataset=", "training=") if group == "certificate" else ("dataset=", "training=", "model=")
    words = [word for word in Plugin(group, name).command if not word.startswith(free)]
    small = [f"dataset.shape={list(shape)}", f"dataset.classes={CLASSES}", f"metrics.k={K}", "tracking=none"]
    return resolved(composed("dataset=digits", *words, *(word.replace(" ", "") for word in small)))


@cache
def _cheap(group: str, name: str) -> Config:
    whole = _config(group, name)
    for factor in (1, 2, 4, 8, 16, 64):
        config = shrunk(whole, factor)
        try:
            build_all(config)
        except ConfigError:
            continue
        return config
    return whole


@cache
def plugins(group: str) -> tuple[Plugin, ...]:
    return tuple(Plugin(group, path.stem) for path in sorted((ROOT / "conf" / group).glob("*.yaml")))


@cache
def variants(group: str) -> tuple[Plugin, ...]:
    """The plug-ins of a group, and their variants."""
    others = [Plugin(*key.split("="), tuple(each.items())) for key, listed in VARIANTS.items() for each in listed]
    return (*plugins(group), *(plugin for plugin in others if plugin.group == group))


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
    parts = Parts(config, {})
    _ = parts.attribution, parts.attack, parts.defense, parts.metrics, parts.certificate


def built(config: Config, group: str, name: str, changes: dict[str, Any]) -> Any:
    if group == "metrics":
        node = {**config["metrics"]["measured"][name], **changes}
        return Parts({"metrics": {"measured": {name: node}}}, {}).metrics[name]
    return getattr(Parts({**config, group: {**config[group], **changes}}, {}), group)
