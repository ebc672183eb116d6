"""No number that flatters: what is not finite ends a run, maps that show nothing are counted, an untrained network is told."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from running import attack_run, do, run_of, train_run
from safetensors.torch import load_file, save_file

from runner.attacking.chunk import Chunk
from runner.core.errors import ConfigError, NotFiniteError
from runner.store.folder import Folder
from runner.training.trainer import Trainer

WEIGHT = "network.1.weight"


def ruin(file: Path, value: float) -> None:
    """One entry of one tensor of a weights file."""
    state = load_file(file)
    state[WEIGHT].view(-1)[3] = value
    save_file(state, file)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused_before_work(compose, value: float) -> None:
    trained = compose("job=train")
    do(trained)
    file = train_run(trained).folder / "model.safetensors"
    ruin(file, value)
    given = compose("job=train", f"model.weights={file}", "training.epochs=1")
    with pytest.raises(ConfigError, match=rf"^model\.weights={file}: {WEIGHT} has 1 of \d+ entries") as caught:
        do(given)
    assert "\n" not in str(caught.value)
    assert not train_run(given).folder.exists()
    attacked = compose()
    with pytest.raises(NotFiniteError, match=WEIGHT):
        do(attacked)
    failed = Folder(attack_run(attacked).folder).result() or {}
    assert (
        failed["status"],
        failed["error"].startswith(f"NotFiniteError: weights of {file.parent.name}: {WEIGHT}"),
    ) == (
        "failed",
        True,
    )


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_last_step_that_ruins_the_weights_fails_the_training(compose, monkeypatch, ema: float | None) -> None:
    """Also that of a short trial, and with a moving average of the weights."""
    config = compose("job=train")
    config["training"]["ema"] = ema
    made = Trainer.of.__func__

    def spoilt(cls: type[Trainer], *arguments: object) -> Trainer:
        trainer: Trainer = made(cls, *arguments)
        steps: list[int] = []

        def after(*_: object) -> None:
            steps.append(0)
            if len(steps) == 8:  # two epochs of four batches
                with torch.no_grad():
                    trainer.model.get_parameter(WEIGHT)[0, 0] = math.nan

        trainer.optimizer.register_step_post_hook(after)
        return trainer

    monkeypatch.setattr(Trainer, "of", classmethod(spoilt))
    with pytest.raises(NotFiniteError, match=rf"^after epoch 1: {WEIGHT} has 1 of"):
        do(config)
    assert (Folder(train_run(config).folder).result() or {})["status"] == "failed"


@pytest.mark.parametrize("what", ["map", "logits"])
def test_a_clean_image_whose_map_or_logits_are_not_finite_ends_the_run(compose, monkeypatch, what: str) -> None:
    name = {"map": "maps", "logits": "_logits"}[what]
    real = getattr(Chunk, name)

    def spoilt(chunk: Chunk, *arguments: object, **options: object) -> torch.Tensor:
        values = real(chunk, *arguments, **options).clone()
        values[1] = torch.nan
        return values

    monkeypatch.setattr(Chunk, name, spoilt)
    config = compose()
    with pytest.raises(NotFiniteError, match=rf"^{what} of test image \d+: nan or inf$"):
        do(config)
    assert (Folder(attack_run(config).folder).result() or {})["error"].startswith(
        f"NotFiniteError: {what} of test image"
    )


def test_zero_maps_are_counted_flagged_and_without_a_value(compose) -> None:
    """A saturated probability has a gradient of zero: no metric says that its maps are robust."""
    trained = compose("job=train")
    do(trained)
    file = train_run(trained).folder / "model.safetensors"
    state = load_file(file)
    last = max(name for name in state if name.endswith("weight"))
    for name in (last, last.replace("weight", "bias")):
        state[name] *= 1e4
    save_file(state, file)
    config = compose("attribution.output=probability")
    result = do(config)
    rows = pd.read_parquet(attack_run(config).folder / "rows.parquet")
    measured = list(result["metrics"])
    assert result["degenerate_maps"]["zero"] == 6
    assert result["degenerate_maps"]["perturbed"]["0.6"] == {"zero": 6, "constant": 0}
    assert rows[measured].isna().all().all()
    assert result["undefined"] == dict.fromkeys(measured, len(rows))
    assert result["unharmed"]["0.6"] == 1.0
    raised = {name for name, flag in result["flags"].items() if flag["tripped"]}
    assert {"degenerate_maps", "undefined_values"} <= raised


def test_ordinary_maps_raise_neither_flag(compose) -> None:
    result = do(compose())
    assert (result["degenerate_maps"]["zero"], result["degenerate_maps"]["constant"]) == (0, 0)
    assert set(result["undefined"].values()) == {0}
    for name in ("degenerate_maps", "undefined_values", "untrained_network"):
        assert result["flags"][name]["tripped"] is False


def test_a_network_without_weights_or_training_is_refused_unless_random_is_wanted(compose) -> None:
    with pytest.raises(ConfigError, match=r"^model\.weights=null: must be the weights to attack, .* or random"):
        run_of(compose("training.epochs=0"))
    config = compose("training.epochs=0", "model.weights=random")
    assert do(config)["flags"]["untrained_network"]["tripped"] is True
    trained = Folder(train_run(config).folder).result() or {}
    assert trained["flags"]["untrained_network"]["tripped"] is True


def test_random_is_the_same_start_and_the_same_run_as_null(compose) -> None:
    null, random = compose("job=train"), compose("job=train", "model.weights=random")
    assert train_run(null).identity == train_run(random).identity
    assert do(random)["flags"]["untrained_network"]["tripped"] is False
