"""The state of a training is read back as it was saved, and the next epoch is the same from both."""

from pathlib import Path
from typing import Any

import pytest
import torch
from equality import same
from running import train_run

from runner.store.saved_state import read_state, write_state
from runner.training.trainer import Trainer


@pytest.mark.parametrize("overrides", [("training.ema=0.9",), ("training.optimizer=sgd", "defense=free_at")])
def test_the_state_of_a_training(compose, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    config = compose(*overrides)

    def trainer(seed: int) -> Trainer:
        torch.manual_seed(seed)
        return Trainer.of(train_run(config), tmp_path / "culprit")

    one, two = trainer(0), trainer(1)
    history = [one.epoch(0)]
    state = one.state() | {"history": history}
    write_state(tmp_path / "state.pt", state)
    read = read_state(tmp_path / "state.pt")
    assert read is not None
    assert same({**read, "model": dict(read["model"])}, {**state, "model": dict(state["model"])})
    two.restore(read)
    assert same(_plain(two.state()), _plain(one.state()))
    seconds = {"seconds": 0.0}
    assert one.epoch(1) | seconds == two.epoch(1) | seconds


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {name: dict(value) for name, value in state.items()}
