"""Configs of cells that are put together are those that Hydra composes."""

import itertools
import logging
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra
import pytest
from composing import ROOT
from composing import sweep_cells as cells
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import OmegaConf

from runner.core.config import resolved
from runner.sweeps.axes import zipped_keys
from runner.sweeps.composition import sections
from runner.sweeps.composition.cells import COMPARED, compose_cells
from runner.sweeps.composition.changes import Compose, Composed
from runner.sweeps.composition.sections import GONE, Resolver, Section, differences, leaves, same

FILES = sorted((ROOT / "conf" / "sweeps").glob("*.yaml"))


@pytest.fixture
def loader() -> Iterator:
    """(folder of configs, *overrides) -> the composition of cells."""
    Plugins.instance()
    from runner.sweeps.composition.loader import SweepLoader

    def make(folder: Path, *overrides: str) -> SweepLoader:
        GlobalHydra.instance().clear()
        hydra.initialize_config_dir(str(folder), version_base="1.3")
        whole = GlobalHydra.instance().config_loader()
        master = whole.load_configuration("config", list(overrides), RunMode.MULTIRUN)
        return SweepLoader(whole.get_search_path(), master)

    yield make
    GlobalHydra.instance().clear()


class Counted:
    """A composition that counts."""

    def __init__(self, compose: Compose) -> None:
        self.compose, self.calls = compose, list[tuple[str, ...]]()

    def __call__(self, overrides: Sequence[str]) -> Composed:
        self.calls.append(tuple(overrides))
        return self.compose(overrides)


def plainly(loader, overrides: Sequence[str]) -> dict:
    """The cell as Hydra composes it for a job, with none of our loader's short cuts."""
    stock = GlobalHydra.instance().config_loader()
    return resolved(stock.load_sweep_config(loader._master, list(overrides)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_sweeps_of_the_project(loader, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base, own = cells(path.stem)
    batch = [[*base, *overrides] for overrides in own]
    made_by = loader(ROOT / "conf", *base)
    sweeper = made_by._master.hydra.sweeper
    zipped = zipped_keys(OmegaConf.to_container(sweeper.zipped, resolve=True), sweeper.params or {})
    counted = Counted(made_by.compose)
    made = compose_cells(counted, batch, zipped)
    assert caplog.messages == []
    if len(batch) > 60:
        assert len(counted.calls) <= len(batch) / 2
    for place in {len(batch) - 1, random.Random(1).randrange(len(batch))}:
        assert same(made[place], plainly(made_by, batch[place])), batch[place]


FILES_OF_A_PROJECT = {
    "config.yaml": """
defaults: [_self_, {model: a}, {defense: none}, {study: first}]
seed: 0
attack_seed: 0
examples: 50
sizes: {small: [1, 2], large: [3, 4]}
label: ${model.name}-${defense.name}-${seed}
metrics: {k: "${model.width}", inner: {twice: "${..k}"}}
where: ${oc.env:NOWHERE,${label}}
""",
    "model/a.yaml": "{name: a, width: 1, act: relu, deep: {rate: 0.10, depth: 2}}",
    "model/b.yaml": "{name: b, width: 2, act: relu, deep: {rate: 0.10, depth: 3}}",
    "model/soft.yaml": "{name: soft, width: 1, act: softplus, beta: 3}",
    "defense/none.yaml": "{name: none}",
    "defense/madry.yaml": "{name: 'madry-${defense.epsilon}', epsilon: 0.25, attack: {steps: 7, norm: l2}}",
    "defense/trades.yaml": "{name: trades, epsilon: 0.30, attack: {steps: 7, norm: linf}}",
    "defense/soft.yaml": "# @package _global_\n{model: {act: softplus, beta: 1}, defense: {name: 'soft-${model.beta}'}}",
    "defense/forced.yaml": "# @package _global_\n{model: {act: relu}, defense: {name: forced}}",
    "study/first.yaml": "# @package _global_\n{}",
    "study/second.yaml": "# @package _global_\ndefaults: [{override /model: b}]\nexamples: 60",
}

PRODUCTS = {
    "keys of one group that do not meet": [["defense=none", "defense=soft"], [f"model.width={n}" for n in range(9)]],
    "a file that repeats the first cell's value": [["model=a", "model=soft"], ["defense=none", "defense=forced"], "s"],
    "a file that sets what an axis sets": [["model=a", "model=b", "model=soft"], ["defense=none", "defense=soft"], "s"],
    "an override of what another axis chooses": [
        ["defense=madry", "defense=trades"],
        ["", "defense.epsilon=0.25", "defense.epsilon=0.5"],
        "s",
    ],
    "the first cell overrides, others do not": [
        ["defense=madry", "defense=trades"],
        ["defense.epsilon=0.25", ""],
        "s",
    ],
    "a study that chooses a group": [["study=first", "study=second"], ["model=a", "", "model=soft"], "s"],
    "keys that are added and taken away": [["+new.x=1", "+new.x=2", ""], ["", "~sizes.small", "+more=3"], "s"],
    "lists": [["sizes.small=[1]", "sizes.small=[5,6]"], ["sizes.large=[1]", "sizes.large=[2,3]"], "s"],
    "mappings": [["model.deep={rate:5}", "model.deep.rate=7"], ["", "model.deep.depth=9"], "s"],
    "numbers and texts": [["seed=1", "seed=1.0", "seed=true", "seed='1'"], ["examples=null", "examples=1e1"], "s"],
    "interpolations": [["model.width=${seed}", "model.width=${examples}"], ["seed=4", "seed=5"], "s"],
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of configs whose groups reach into each other."""
    for name, text in FILES_OF_A_PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("axes", PRODUCTS.values(), ids=PRODUCTS)
def test_axes_that_have_to_do_with_each_other(loader, project: Path, axes, monkeypatch, caplog) -> None:
    # one cell, the last, for which the others below could not hide
    monkeypatch.setattr("runner.sweeps.composition.cells.COMPARED", 1)
    own = "attack_seed" if any(text.startswith("seed") for axis in axes[:-1] for text in axis) else "seed"
    lists = [[f"{own}={number}" for number in range(3)] if axis == "s" else axis for axis in axes]
    batch = [[text for text in point if text] for point in itertools.product(*lists)]
    made_by = loader(project)
    counted = Counted(made_by.compose)
    made = compose_cells(counted, batch, {})
    assert caplog.messages == []
    for config, overrides in zip(made, batch, strict=True):
        assert same(config, resolved(made_by.compose(overrides).config)), overrides
    assert len(counted.calls) < len(batch)


def test_numbers_of_compositions(loader, project: Path) -> None:
    made_by = loader(project)
    batch = [
        [f"seed={seed}", f"model={model}", f"model.width={width}", f"defense={defense}"]
        for seed in range(5)
        for width in (1, 2)
        for model in ("a", "b")
        for defense in ("none", "madry", "soft")
    ]
    counted = Counted(made_by.compose)
    compose_cells(counted, batch, {})
    composed = set(counted.calls[:-COMPARED])
    rest = ("model.width=1", "defense=none")
    assert composed == {
        ("seed=0", "model=a", *rest),  # the first cell; what only sets a plain value needs none
        ("seed=0", "model=b", *rest),
        *(("seed=0", "model=a", "model.width=1", f"defense={defense}") for defense in ("madry", "soft")),
        # model=b states a width, and with defense=soft an activation: they are composed together
        ("seed=0", "model=b", "model.width=2", "defense=none"),
        ("seed=0", "model=b", "model.width=1", "defense=soft"),
        ("seed=0", "model=b", "model.width=2", "defense=soft"),
    }


def test_few_cells_are_composed_whole(loader, project: Path) -> None:
    batch = [[f"seed={seed}"] for seed in range(6)]
    counted = Counted(loader(project).compose)
    assert [config["label"] for config in compose_cells(counted, batch, {})] == [f"a-none-{seed}" for seed in range(6)]
    assert counted.calls == [tuple(cell) for cell in batch]


def test_a_hidden_dependence_is_found_and_every_cell_composed_whole(caplog: pytest.LogCaptureFixture) -> None:
    def compose(overrides: Sequence[str]) -> Composed:
        values = dict(text.split("=") for text in overrides)
        return Composed(OmegaConf.create({**values, "both": "0" not in values.values()}), {})

    batch = [[f"a={one}", f"b={two}"] for one in range(10) for two in range(10)]
    with caplog.at_level(logging.WARNING):
        made = compose_cells(compose, batch, {})
    assert [config["both"] for config in made] == [one > 0 and two > 0 for one in range(10) for two in range(10)]
    assert len(caplog.messages) == 1
    assert "composing every cell separately" in caplog.messages[0]


def test_a_zipped_point_whose_keys_cannot_stand_alone(loader, project: Path) -> None:
    points = [["defense=none"], ["defense=madry", "defense.epsilon=0.5"], ["defense=trades", "defense.attack.steps=1"]]
    batch = [[*point, f"seed={seed}"] for point in points for seed in range(4)]
    for zipped in ({"defense.epsilon": "defense", "defense.attack.steps": "defense"}, {}):
        made_by = loader(project)
        made = compose_cells(made_by.compose, batch, zipped)
        assert all(same(config, plainly(made_by, overrides)) for config, overrides in zip(made, batch, strict=True)), (
            zipped
        )


def test_an_error_is_that_of_the_first_cell_that_has_one(loader, project: Path) -> None:
    made_by = loader(project)
    batch = [
        [f"seed={seed}", f"defense={defense}", f"defense.epsilon={epsilon}"]
        for seed in range(3)
        for defense in ("madry", "none")
        for epsilon in (1, 2, 3)
    ]
    with pytest.raises(Exception) as whole:  # noqa: PT011  (compared below)
        made_by.compose(batch[3])
    with pytest.raises(type(whole.value)) as told:
        compose_cells(made_by.compose, batch, {})
    assert str(told.value) == str(whole.value)
    assert str(told.value.__cause__) == str(whole.value.__cause__)
    batch = [[f"seed={seed}", f"examples={examples}"] for seed in range(9) for examples in ("1", "${gone}")]
    with pytest.raises(Exception, match="Interpolation key 'gone' not found"):
        compose_cells(made_by.compose, batch, {})
    batch = [[f"seed={seed}", f"examples={examples}"] for seed in range(9) for examples in ("1", "???")]
    with pytest.raises(ValueError, match=r"^examples=\?\?\?: must be given"):
        compose_cells(made_by.compose, batch, {})


def test_the_loader_composes_as_hydra_does_again_and_again(loader, project: Path) -> None:
    made_by = loader(project)
    stock = GlobalHydra.instance().config_loader()
    for overrides in (["model=b", "model.width=7"], [], ["defense=soft"], ["model=b"], ["+new=1", "~sizes"]) * 2:
        assert made_by.compose(overrides).config == stock.load_sweep_config(made_by._master, overrides)


def test_what_a_file_states(loader, project: Path) -> None:
    layers = loader(project).compose(["study=second", "defense=soft"]).layers
    assert layers["study/second", ""] == {("examples",), ("model",)}
    assert layers["defense/soft", ""] == {("model", "act"), ("model", "beta"), ("defense", "name")}
    assert layers["model/b", "model"] == {
        ("model", *key) for key in (("name",), ("width",), ("act",), ("deep", "rate"), ("deep", "depth"))
    }


def test_a_section_is_resolved_once_for_all_that_share_what_it_refers_to(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    stock = sections.resolve
    monkeypatch.setattr(sections, "resolve", lambda config: seen.append(set(config)) or stock(config))
    texts = {"a": {"x": "${b.y}", "own": "${.x}"}, "b": {"y": "${c}", "a": 1}, "c": 5, "d": "${oc.env:NOWHERE,${c}}"}
    texts |= {"e": {"y": 2, "z": "${oc.select:.y,none}", "w": "${found_by:composing.count_of}"}}
    raw = {name: Section(value) for name, value in {**texts, "which": "c", "any": "${${which}}", "seed": 0}.items()}
    resolver, values = (
        Resolver(),
        {"a": {"x": 5, "own": 5}, "b": {"y": 5, "a": 1}, "c": 5, "d": "5", "e": {"y": 2, "z": 2, "w": 3}},
    )
    assert resolver.config(raw) == {**values, "which": "c", "any": 5, "seed": 0}
    assert seen == [{"a", "b", "c"}, {"b", "c"}, {"c"}, {"d", "c"}, {"e"}, {"which"}, set(raw), {"seed"}]
    seen.clear()
    assert resolver.config({**raw, "seed": Section(1)})["seed"] == 1
    assert seen == [set(raw), {"seed"}]  # `any` may mean whatever there is
    seen.clear()
    assert resolver.config({**raw, "c": Section(6)})["a"] == {"x": 6, "own": 6}
    assert {"seed"} not in seen
    assert {"which"} not in seen


def test_plain_data() -> None:
    assert not same({"a": 1}, {"a": True})
    assert not same([1], [1, 2])
    assert same({"a": [1.5, None], "b": float("nan")}, {"b": float("nan"), "a": [1.5, None]})
    old, new = {"a": {"x": 1, "y": 2}, "b": [], "c": {"d": 1}}, {"a": {"x": 1, "z": 3}, "b": [1], "c": {}}
    assert dict(differences((), old, new)) == {("a", "y"): GONE, ("a", "z"): 3, ("b",): [1], ("c",): {}}
    assert set(leaves({"a": {"b": 1, "c": {}}, "d": [1]})) == {("a", "b"), ("a", "c"), ("d",)}


def test_a_bad_cell_is_refused_as_the_same_job_by_itself(run_py, tmp_path: Path) -> None:
    base = ("job=attack", "attack=topk", "dataset=digits", "model=mlp", f"outputs={tmp_path}")
    alone = run_py(*base, "defense=none", "defense.epsilon=0.1")
    axes = ("defense=madry_l2,none", "seed=0,1,2", "defense.epsilon=0.1,0.2", "hydra.launcher.dry_run=true")
    assert run_py("-m", *base, *axes) == alone
    assert alone == (1, "", "error: defense.epsilon: no such key; allowed here are name\n")
    alone = run_py(*base, "attack.steps=0")
    assert run_py("-m", *base, "seed=0,1,2,3,4,5", "attack.steps=5,0", "hydra.launcher.dry_run=true") == alone
    assert alone[0] == 2
