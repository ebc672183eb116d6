"""Fixtures for all tests: configs that train and attack in a fraction of a second, and `run.py` inside this process."""

import contextlib
import copy
import io
import logging
import os
import runpy
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from composing import ROOT, composed
from hydra.core.global_hydra import GlobalHydra

from runner.core.identity import Config
from runner.jobs import resolved

SMALL = (
    *("job=attack", "dataset=digits", "model=mlp", "tracking=none", "threads=1"),
    *("dataset.train_size=200", "dataset.test_size=60", "training.epochs=2"),
    *("examples=6", "attack.chunk=4"),
)
GRID = ("epsilon.stop=0.6", "epsilon.step=0.2")
STEPS = {
    *("topk", "mass_center", "manipulate", "manipulate_free", "target_region", "cosine", "spearman_surrogate"),
    *("sens_max", "sparse", "spatial", "label_pgd", "suite"),
}
_OUTPUTS = "/the/outputs"

Compose = Callable[..., Config]


@cache
def _small(overrides: tuple[str, ...]) -> Config:
    attacks = [text.split("=")[1] for text in overrides if text.startswith("attack=")] or ["topk"]
    steps = ["attack.steps=3"] if attacks[-1] in STEPS else []
    groups = {text.split("=")[0] for text in overrides}
    sizes = [] if "model" in groups else ["model.widths=[16]"]
    sizes += [] if "epsilon" in groups else GRID
    return resolved(composed(*SMALL, *steps, *sizes, f"outputs={_OUTPUTS}", *overrides))


def _moved(node: Any, outputs: str) -> Any:
    if isinstance(node, dict):
        return {key: _moved(item, outputs) for key, item in node.items()}
    return node.replace(_OUTPUTS, outputs) if isinstance(node, str) else node


@pytest.fixture
def compose(tmp_path: Path) -> Compose:
    """(*overrides) -> a small resolved config whose outputs lie in the test's own folder."""
    return lambda *overrides: _moved(copy.deepcopy(_small(overrides)), str(tmp_path / "outputs"))


@pytest.fixture
def run_py(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """(*arguments) -> exit code, standard output and standard error of `run.py`, run inside this process."""

    def call(*arguments: str) -> tuple[int, str, str]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        monkeypatch.setattr(logging, "raiseExceptions", True)  # put back what `main` sets
        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            try:
                runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                for name in ("HYDRA_FULL_ERROR", "RUNNER_FULL_ERROR"):
                    os.environ.pop(name, None)
                root.handlers[:] = handlers
                root.setLevel(level)
        return code, out.getvalue(), err.getvalue()

    return call
