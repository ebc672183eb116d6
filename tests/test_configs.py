"""Every file of conf/ composes, says how it is run, and passes the checks that come before any work."""

import ast
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

import hydra
import pytest
from composing import OWN, ROOT, composed
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import OmegaConf
from running import parts_of

from runner.core.config import resolved
from runner.core.errors import ConfigError
from runner.core.types import ContextualMetric
from runner.runs.run import Run

GROUPS = (
    *("job", "dataset", "model", "training", "defense", "attribution", "attack", "epsilon", "metrics", "certificate"),
    "tracking",
)
YAMLS = sorted((ROOT / "conf").rglob("*.yaml"))
PLUGINS = ("datasets", "models", "attributions", "attacks", "defenses", "metrics", "certificates")
NEEDS = {
    **OWN,
    "dataset=image_folder": ["dataset.name=mine", "dataset.classes=3"],
    "model=efficientnet_lite0": ["dataset=imagenet_sample"],
    "epsilon=unbounded": ["attack=manipulate_free"],
    "epsilon=l0_pixels": ["attack=sparse"],
    "epsilon=spatial": ["attack=spatial"],
    "attribution=occlusion": ["attack=random_sign"],
    "attribution=kernel_shap": ["attack=random_sign"],
    "attack=sparse": ["epsilon=l0_pixels"],
    "attack=spatial": ["epsilon=spatial"],
    "certificate=levine_topk": ["attribution=sparsified_smoothgrad"],
    "certificate=pixel": ["attribution=sparsified_smoothgrad"],
    "certificate=smoothgrad_lipschitz": ["attribution=smoothgrad", "attribution.output=probability"],
    "certificate=uniform_cosine": ["attribution=uniform_gradient", "attribution.multiply_by_input=false"],
    "model=resnet18": ["dataset=flower17"],
    "model=resnet50": ["dataset=imagenet"],
    "model=resnet20": ["dataset=cifar10"],
}
METRIC_NEEDS = {"infidelity": ["metrics.reduction=sum"]}


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


ALONE = [f"{group}={option}" for group in GROUPS if group not in ("metrics", "job") for option in options(group)]


SAMPLE = [
    [],
    ["job=train", "dataset=flower17", "model=resnet18", "defense=ig_sum_norm", "training=cifar", "seed=3"],
    ["attack=suite", "metrics=[pearson,topk_intersection]", "+new=1", "~tracking.tags"],
    ["attack=transfer_model", "+defense@attack.source=feature_smoothing", "certificate=first_order"],
    ["experiment=smoothed_geometry_cifar10", "defense=composite", "tracking=none"],
    ["+sweeps=all_defenses", "+debug=tiny", "hydra/launcher=slurm"],
]


@pytest.mark.parametrize("overrides", SAMPLE, ids=" ".join)
def test_tests_compose_as_hydra_does(overrides: list[str]) -> None:
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        stock = hydra.compose("config", overrides, return_hydra_config=True)
    for _ in range(2):  # the second time it is a copy of what was kept
        ours = composed(*overrides, hydra_node=True)
        assert ours == stock
        assert OmegaConf.is_struct(ours)
        ours.seed, ours.hydra.job.name = 1_000, "changed"
    del stock.hydra
    assert composed(*overrides) == stock


def test_every_group_of_the_contract_is_there() -> None:
    assert {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} >= {*GROUPS, "hydra"}
    assert len(ALONE) > 35


@pytest.mark.parametrize("name", options("hydra/launcher"))
def test_every_option_of_a_launcher_stands_in_its_yaml(name: str) -> None:
    stated = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "hydra" / "launcher" / f"{name}.yaml"))
    composition = OmegaConf.to_container(composed(f"hydra/launcher={name}", hydra_node=True), resolve=False)
    launcher = composition["hydra"]["launcher"]
    del stated["defaults"], launcher["_target_"]
    assert stated == launcher


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_yaml_opens_with_a_comment(path: Path) -> None:
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("choice", ALONE)
def test_every_option_composes_and_passes_the_checks(choice: str, tmp_path: Path) -> None:
    if choice.endswith("efficientnet_lite0") and find_spec("efficientnet_lite_pytorch") is None:
        pytest.skip("the extra `imagenet` is not installed")
    rest = [] if choice.startswith("tracking") else ["tracking=none"]
    rest += ["model.weights=random"] if choice == "training=none" else []
    config = resolved(composed(choice, *NEEDS.get(choice, []), *rest, f"outputs={tmp_path}", "device=cpu"))
    Run.of(config)
    group, option = choice.split("=")
    assert config[group]["name"].startswith("mine" if option == "image_folder" else option)


@pytest.mark.parametrize("name", options("metrics"))
def test_every_metric_by_itself(name: str, tmp_path: Path) -> None:
    overrides = [f"metrics=[{name}]", f"attack.measure={name}", *METRIC_NEEDS.get(name, [])]
    config = resolved(composed(*overrides, f"outputs={tmp_path}", "device=cpu"))
    if not isinstance(parts_of(config).metrics[name], ContextualMetric):
        Run.of(config)
    else:
        with pytest.raises(ConfigError, match=rf"attack\.measure={name}: allowed are objective"):
            Run.of(config)
        Run.of({**config, "attack": {**config["attack"], "measure": "objective"}})
    assert list(parts_of(config).metrics) == [name]


@pytest.mark.parametrize(
    "others",
    [
        [],
        ["job=train", "defense=ssr"],
        ["job=attack", "attack=sparse", "epsilon=l0_pixels"],
        ["attack=manipulate_free", "epsilon=unbounded"],
        ["attack=spatial", "epsilon=spatial", "epsilon.step=0.5"],
        ["attack=random_ball", "dataset=mnist5k", "model=small_cnn"],
    ],
    ids=" ".join,
)
def test_debugging_sizes_fit_whatever_is_chosen(others: list[str], tmp_path: Path) -> None:
    config = resolved(composed("+debug=tiny", *others, f"outputs={tmp_path}"))
    Run.of(config)
    assert (config["tracking"]["name"], config["examples"], config["training"]["epochs"]) == ("none", 4, 1)


def test_debugging_sizes_win_over_those_of_a_sweep_and_have_a_store_of_their_own(monkeypatch) -> None:
    monkeypatch.setenv("OUTPUTS", "/elsewhere")
    config = composed("+sweeps=quickstart", "+debug=tiny")
    assert (config.sweep, config.examples, config.dataset.name, config.model.name) == (
        "quickstart",
        4,
        "digits",
        "small_cnn",
    )
    assert config.outputs == "/elsewhere/debug"
    assert set(config) == set(composed())  # no key of its own, so no part of an identity


def test_what_options_share_is_no_option() -> None:
    shared = sorted(path for path in YAMLS if path.parent.name == "base")
    assert len(shared) >= 10
    for path in shared:
        group = path.parents[1].name
        assert path.stem not in options(group)
    with pytest.raises(HydraException) as refused:
        composed("dataset=nope")
    listed = str(refused.value.__cause__ or refused.value).split("Config search path")[0]
    assert all(name in listed for name in options("dataset"))
    assert "base" not in listed


@pytest.mark.parametrize("name", options("job"))
def test_every_job_names_a_function(name: str) -> None:
    node = OmegaConf.load(ROOT / "conf" / "job" / f"{name}.yaml")
    assert node.name == name
    assert callable(get_object(node._target_))


def test_all_pairs_of_defenses_attributions_and_attacks_pass(tmp_path: Path) -> None:
    rows = zip(*(islice(cycle(options(group)), 6) for group in ("defense", "attribution", "attack")), strict=True)
    for defense, attribution, attack in rows:
        needed = NEEDS.get(f"attack={attack}", []) + NEEDS.get(f"attribution={attribution}", [])
        overrides = (f"defense={defense}", f"attribution={attribution}", f"attack={attack}", "dataset=digits", *needed)
        Run.of(resolved(composed(*overrides, f"outputs={tmp_path}", "device=cpu")))


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_plug_in_packages_import_what_is_below_and_nothing_beside_them() -> None:
    for package in PLUGINS:
        files = list((ROOT / "runner" / package).glob("*.py"))
        assert files
        for path in files:
            ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("runner.")}
            assert ours <= {"core", "store", package}, path


def test_only_tracking_imports_wandb() -> None:
    files = (ROOT / "runner").rglob("*.py")
    users = [path for path in files if any(name.split(".")[0] == "wandb" for name in imports_of(path))]
    assert users
    assert {path.relative_to(ROOT / "runner").parts[0].removesuffix(".py") for path in users} == {"tracking"}


def test_there_is_one_call_of_instantiate() -> None:
    users = [path.name for path in (ROOT / "runner").rglob("*.py") if "hydra.utils.instantiate" in imports_of(path)]
    assert users == ["build.py"]


def test_the_import_contracts_hold() -> None:
    tool = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert tool is not None
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert "4 kept, 0 broken" in done.stdout
