"""Weights from files: every accepted form, and one line for everything else."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from runner.core.errors import ConfigError
from runner.core.vision import torchvision
from runner.models.mlp import mlp
from runner.models.resnet import resnet18
from runner.models.resnet20 import resnet20
from runner.models.weights import load_weights


def make(seed: int, **keys: Any) -> nn.Module:
    torch.manual_seed(seed)
    return mlp(shape=(1, 8, 8), classes=10, widths=[6], **keys)


def same(one: nn.Module, other: nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def bare(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.network.state_dict())


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


NESTS = ("state_dict", "model", "model_state_dict", "net", "ema", "state_dict_ema", "params", "any_other_name")
WRAPPED = (
    "module.",
    "model.",
    "_orig_mod.",
    "net.",
    "network.",
    "backbone.",
    "module._orig_mod.",
    "model.net.backbone.",
)


@pytest.mark.parametrize("form", ["whole", "bare", "twice", "both", *NESTS, *WRAPPED])
def test_torch_files_load_in_every_common_form(tmp_path: Path, form: str) -> None:
    source, other = make(1), bare(make(3))
    optimiser = {"optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]}, "epoch": 3}
    content: dict[str, Any] = {
        "whole": source.state_dict(),
        "bare": bare(source),
        "twice": {"model": {"state_dict": bare(source)}, **optimiser},
        "both": {"model_ema": other, "model": prefixed("module.", bare(source)), **optimiser},
        **{nest: {nest: bare(source), **optimiser} for nest in NESTS},
        **{prefix: prefixed(prefix, bare(source)) for prefix in WRAPPED},
    }[form]
    torch.save(content, tmp_path / "w.pt")
    target = make(2)
    assert not same(target, source)
    assert load_weights(target, tmp_path / "w.pt") is target
    assert same(target, source)


def test_safetensors_load_through_the_yaml_key(tmp_path: Path) -> None:
    source = make(1)
    save_file(dict(source.state_dict()), tmp_path / "w.safetensors")
    assert same(make(2, weights=str(tmp_path / "w.safetensors")), source)


def test_batch_counters_may_be_missing(tmp_path: Path) -> None:
    source, target = resnet20(shape=(1, 8, 8), classes=3), resnet20(shape=(1, 8, 8), classes=3)
    state = {name: tensor for name, tensor in bare(source).items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pth")
    assert same(load_weights(target, tmp_path / "w.pth"), source)


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("sprung"),))


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Trap()}, "trap.pt")
    Path("plain.pkl").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.pt", "plain.pkl"):
        with pytest.raises(
            ConfigError, match=rf"model.weights={name}: cannot be loaded \(it is damaged, or would run"
        ) as caught:
            load_weights(make(0), name)
        assert "\n" not in str(caught.value)
    assert not Path("sprung").exists()


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    torch.save(bare(make(0)), tmp_path / "torn.pt")
    (tmp_path / "torn.pt").write_bytes((tmp_path / "torn.pt").read_bytes()[:300])
    (tmp_path / "empty.pt").touch()
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    torch.save({"epoch": 3}, tmp_path / "numbers.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    for name in ("torn.pt", "empty.pt", "torn.safetensors", "numbers.pt", "list.pt"):
        with pytest.raises(ConfigError, match=rf"model.weights=.*{name}: .*must be a safetensors file") as caught:
            load_weights(make(0), tmp_path / name)
        assert "\n" not in str(caught.value)


def test_names_and_shapes_that_differ_are_listed(tmp_path: Path) -> None:
    torch.save(bare(make(0)), tmp_path / "w.pt")
    torch.manual_seed(0)
    with pytest.raises(ConfigError, match=r"does not fit this model: 3.weight is \[10, 6\], not \[4, 6\], 3.bias"):
        mlp(shape=(1, 8, 8), classes=4, widths=[6], weights=str(tmp_path / "w.pt"))
    with pytest.raises(
        ConfigError, match=r"lacks 0.weight, 1.bias, 1.running_mean and \d+ more; has unknown 1.w|lacks .*has unknown 3"
    ):
        resnet20(shape=(1, 8, 8), classes=10, weights=str(tmp_path / "w.pt"))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"model.weights=nowhere.pt: must be the path of an existing file"):
        make(0, weights="nowhere.pt")


def test_a_refused_file_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    torch.save(bare(mlp(shape=(1, 8, 8), classes=4, widths=[6])), tmp_path / "w.pt")
    target = make(5)
    with pytest.raises(ConfigError):
        load_weights(target, tmp_path / "w.pt")
    assert same(target, make(5))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("IMAGENET1K_V9", r"model.weights=IMAGENET1K_V9: allowed are DEFAULT, IMAGENET1K_V1, a path \(did you mean"),
        ("some/where.pt", r"model.weights=some/where.pt: must be the path of an existing file"),
        ("where.safetensors", r"model.weights=where.safetensors: must be the path of an existing file"),
    ],
)
def test_torchvision_names_are_listed(weights: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resnet18(shape=(3, 32, 32), classes=1000, weights=weights)


def test_a_torchvision_name_fetches_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    state = torchvision().models.resnet18().state_dict()
    entry = torchvision().models.ResNet18_Weights
    monkeypatch.setattr(entry, "get_state_dict", lambda self, **_: state)
    model = resnet18(shape=(3, 32, 32), classes=1000, weights="IMAGENET1K_V1")
    assert all(torch.equal(tensor, state[name]) for name, tensor in bare(model).items())
    with pytest.raises(
        ConfigError, match=r"model.weights=IMAGENET1K_V1: .*fc.weight is \[1000, 512\], not \[10, 512\]"
    ):
        resnet18(shape=(3, 32, 32), classes=10, weights="IMAGENET1K_V1")


def test_a_failed_download_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, **_: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision().models.ResNet18_Weights, "get_state_dict", refuse)
    with pytest.raises(
        ConfigError, match=r"cannot be fetched \(no route to host\); put https://.*resnet18.*\.pth on this"
    ):
        resnet18(shape=(3, 32, 32), classes=1000, weights="IMAGENET1K_V1")


def test_a_stripped_prefix_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(prefixed("module._orig_mod.", bare(make(1))), tmp_path / "w.pt")
    with caplog.at_level("INFO"):
        make(2, weights=str(tmp_path / "w.pt"))
        make(2, weights=str(tmp_path / "w.pt"))
    told = [record.message for record in caplog.records]
    assert told == [f"model.weights={tmp_path}/w.pt: fits this model without the prefix 'module._orig_mod.'"]


def test_names_are_left_out_only_where_nothing_is_lost(tmp_path: Path) -> None:
    """The checkpoints of the library `robustness`: the network twice, and layers of normalisation."""
    state = bare(make(1))
    both = prefixed("module.model.", state) | prefixed("module.attacker.model.", state)
    scale = {"module.normalizer.new_mean": torch.full((1, 1, 1), 0.5), "module.normalizer.new_std": torch.tensor([0.5])}
    torch.save(both | scale, tmp_path / "w.pt")
    assert same(load_weights(make(2), tmp_path / "w.pt"), make(1))
    torch.save(both | scale | {"module.normalizer.new_mean": torch.tensor([0.4])}, tmp_path / "w.pt")
    with pytest.raises(
        ConfigError, match=r"has unknown module.normalizer.new_mean; it normalises by model.mean=\[0.4\]$"
    ):
        load_weights(make(2), tmp_path / "w.pt")
    different = {"module.attacker.model.3.bias": both["module.attacker.model.3.bias"] + 1}
    torch.save(both | scale | different, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"does not fit this model: has unknown module.attacker.model.3.bias$"):
        load_weights(make(2), tmp_path / "w.pt")


def test_of_a_prefixed_state_the_names_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    state = prefixed("module.", bare(make(1)))
    state["module.extra.weight"] = state.pop("module.3.bias")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"does not fit this model: lacks 3.bias; has unknown extra.weight$"):
        load_weights(make(2), tmp_path / "w.pt")
