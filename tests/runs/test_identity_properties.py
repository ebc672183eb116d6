"""Section 4 of the design, stated once: every leaf of every option of every group is changed, and counts or does not."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
from composing import composed
from every_option import RUN, TRAIN, compositions, options

from runner.core.config import resolved
from runner.runs import identity as ids

PLACES = {"root", "folder", "archive", "download", "workers", "in_memory", "cache"}
"""Where a dataset is found, and how it is read: paths, workers and the like."""

TOP = {
    "seed": "train_id run_id",
    **dict.fromkeys(("attack_seed", "examples"), "run_id group_id"),
    **dict.fromkeys(
        ("job", "seeds", "device", "threads", "outputs", "rerun", "sweep", "report", "tracking", "profile"), ""
    ),
}
"""What the keys outside the groups change."""

PINNED = {
    "dataset=digits attack=topk": ("f3053c2200d9", "efbe60b8aec5", "31996329d096"),
    "dataset=image_folder dataset.name=mine dataset.classes=3 attack=topk": (
        "67df8a8ff72a",
        "06d08c7a3d4b",
        "90028928a240",
    ),
    "defense=madry_l2 attack=topk": ("822f41047d4a", "c1756a8bbd66", "8824136b7764"),
    "defense=ssr attack=topk": ("e3c9fc453e4c", "1faa609353be", "da453ae09d50"),
    "attribution=boundary_ig attack=topk": ("7d4252f4e50e", "4a898d9302d4", "af6078981931"),
    "attack=manipulate": ("7d4252f4e50e", "a53c95cee699", "8f4c94c092dd"),
    "attack=transfer_model": ("7d4252f4e50e", "bbb461eec283", "f9e144217d7d"),
    "certificate=levine_topk attack=topk": ("7d4252f4e50e", "4055c5a5eff1", "52e0764576cc"),
    "epsilon=linf_255 attack=topk": ("7d4252f4e50e", "26a17354acc8", "d30d5f1b951a"),
}
"""train_id, run_id and group_id of runs that users have stored."""

Place = tuple[Any, ...]


def changes(place: Place) -> str:
    """Which ids a key changes."""
    group, key = place[0], place[-1]
    if group in TOP:
        return TOP[group]
    if group == "attack" and place[1:2] == ("source",):  # the run that images are taken from, a config of its own
        return "run_id group_id" if place[2] == "seed" or changes(place[2:]) else ""
    label = key == "name" and place != ("dataset", "name")
    machine = (group == "dataset" and place[1] in PLACES) or key == "chunk" or place[:2] == ("attack", "save_images")
    if label or machine or place == ("epsilon", "_target_"):
        return ""
    return "train_id run_id group_id" if group in TRAIN else "run_id group_id"


def identities(config: ids.Config) -> dict[str, str]:
    parts = {"train_id": ids.train_identity, "run_id": ids.attack_identity, "group_id": ids.group_identity}
    return {name: ids.digest(part(config)) for name, part in parts.items()}


def leaves(node: Any, place: Place) -> Iterator[Place]:
    if isinstance(node, dict | list) and node:
        for key, item in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(item, (*place, key))
    else:
        yield place


def value_at(config: ids.Config, place: Place) -> Any:
    node: Any = config
    for key in place:
        node = node[key]
    return node


def other(value: Any, place: Place, config: ids.Config) -> Any:
    if place == ("epsilon", "norm"):
        return "linf" if value == "l2" else "l2"
    if place[:2] == ("epsilon", "values"):
        return 7
    if place == ("epsilon", "start") and config["epsilon"]["step"] is not None:
        return 2 * config["epsilon"]["step"]  # one step would be the same grid: 0 is always in it
    if place[0] == "epsilon" and isinstance(value, float | int):
        return value / 2
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 1.5 + 1e-7
    return 7 if value is None else [7] if value == [] else f"{value}x"


def changed(config: ids.Config, place: Place) -> ids.Config:
    result = copy.deepcopy(config)
    listed = place == ("epsilon", "values") and value_at(config, place) is None
    value_at(result, place[:-1])[place[-1]] = [0.5] if listed else other(value_at(config, place), place, config)
    return result


def test_every_key_changes_exactly_the_ids_that_it_should() -> None:
    seen: set[tuple[str, str]] = set()
    for config in compositions():
        before = identities(config)
        for group in config:
            if (group, repr(config[group])) in seen:
                continue
            seen.add((group, repr(config[group])))
            for place in leaves(config[group], (group,)):
                after = identities(changed(config, place))
                found = [name for name in before if after[name] != before[name]]
                listed = group == "epsilon" and config[group]["values"] is not None
                unread = listed and place[1] in ("start", "stop", "step")  # a list of budgets counts instead
                assert found == ([] if unread else changes(place).split()), ".".join(map(str, place))
    assert {group for group, _ in seen} == {*TOP, *TRAIN, *RUN}


def test_every_option_of_every_group_was_looked_at() -> None:
    for group in (*TRAIN, *RUN):
        chosen = [config.get(group) or {} for config in compositions()]
        labels = [
            label for part in chosen for label in (part["measured"] if group == "metrics" else [part.get("name", "")])
        ]
        for option in set(options(group)) - {"image_folder"}:
            assert any(label.startswith(option) for label in labels), option


def shuffled(node: Any, draw: random.Random) -> Any:
    if isinstance(node, list):
        return [shuffled(item, draw) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: shuffled(node[key], draw) for key in draw.sample(list(node), len(node))}


def noisy(node: Any, draw: random.Random) -> Any:
    """Every number as another computation might give it: a last bit wrong, or a whole number as a float."""
    if isinstance(node, dict):
        return {key: noisy(item, draw) for key, item in node.items()}
    if isinstance(node, list):
        return [noisy(item, draw) for item in node]
    if isinstance(node, bool) or not isinstance(node, int | float):
        return node
    return float(node) * (1 + draw.choice((-4, -1, 0, 1, 4)) * 2.0**-52)


def test_neither_the_order_of_keys_nor_float_noise_counts() -> None:
    draw = random.Random(0)
    for config in compositions():
        science = {key: config[key] for key in (*TRAIN, *RUN) if key in config}
        assert identities({**config, **shuffled(science, draw)}) == identities(config)
        assert identities({**config, **noisy(science, draw)}) == identities(config)
        assert identities(shuffled(config, draw)) == identities(config)


@pytest.mark.parametrize(
    "overrides",
    [
        ("job=train", "device=cpu", "threads=3", "seeds=[5,6]", "sweep=mine", "report.name=x", "outputs=elsewhere"),
        ("tracking=wandb", "tracking.project=p", "tracking.entity=e", "tracking.tags=[a]", "tracking.dir=null"),
        ("hydra/launcher=slurm", "attack.chunk=3", "attack.save_images=true", "attribution.chunk=5"),
        ("defense=none", "attack.steps=25", "training.epochs=8", "epsilon.step=1/10", "epsilon.stop=1", "seed=0"),
    ],
)
def test_machine_settings_tracking_and_stated_defaults_change_nothing(overrides: tuple[str, ...]) -> None:
    assert identities(resolved(composed(*overrides))) == identities(resolved(composed()))


def test_ids_of_finished_runs_stay() -> None:
    """Whoever changes one of these makes every store start over: see `ADDED` for how a key comes in without that."""
    chosen = {row: tuple(identities(resolved(composed(*row.split(), "outputs=o"))).values()) for row in PINNED}
    assert chosen == PINNED
