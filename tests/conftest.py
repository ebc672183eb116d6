"""Fixtures for all tests: configs that train and attack in a fraction of a second, and `run.py` inside this process."""

import contextlib
import copy
import gc
import io
import logging
import os
import runpy
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

if "PYTEST_XDIST_WORKER" in os.environ:  # a core each; for the processes that tests start too
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from composing import ROOT, composed
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobRuntime

from runner.core.config import Config, resolved
from runner.sweeps.composition.loader import _ReadOnce

SMALL = (
    *("job=attack", "dataset=digits", "model=mlp", "tracking=none", "threads=1"),
    *("dataset.train_size=200", "dataset.test_size=60", "training.epochs=2"),
    *("examples=6", "attack.chunk=4"),
)
GRID = ("epsilon.stop=0.6", "epsilon.step=0.2")
STEPS = {
    *(
        "topk",
        "topk_overlap",
        "mass_center",
        "manipulate",
        "manipulate_free",
        "target_region",
        "cosine",
        "spearman_surrogate",
    ),
    *("sens_max", "sparse", "spatial", "label_pgd", "suite"),
}
_OUTPUTS = "/the/outputs"

Compose = Callable[..., Config]


def pytest_collection_finish() -> None:
    """Have the garbage collector leave alone what is imported by now: it would look at all of it again and again."""
    gc.collect()
    gc.freeze()


@cache
def _small(overrides: tuple[str, ...]) -> Config:
    attacks = [text.split("=")[1] for text in overrides if text.startswith("attack=")] or ["topk"]
    steps = ["attack.steps=3"] if attacks[-1] in STEPS else []
    steps += [] if "attack" in {text.split("=")[0] for text in overrides} else ["attack=topk"]
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


class _ReadOnceInAll(_ReadOnce):
    """Config files, each parsed once by all calls of `run.py` in this process."""

    _all: ClassVar[dict[Any, Any]] = {}

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self._parsed = self._all


@pytest.fixture
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacks draw no gallery, which takes as long as a small attack, save in tests marked `pictures`."""
    if request.node.get_closest_marker("pictures") is None:
        monkeypatch.setattr("runner.jobs.attack.draw_gallery", lambda setup, file: file.with_suffix(".png"))


@pytest.fixture
def no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations write no page, whose figures take seconds."""
    monkeypatch.setattr("runner.jobs.evaluate.build_report", lambda *arguments: None)


@pytest.fixture
def run_py(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """(*arguments) -> exit code, standard output and standard error of `run.py`, run inside this process."""
    monkeypatch.setattr("hydra._internal.config_loader_impl.ConfigRepository", _ReadOnceInAll)

    def call(*arguments: str) -> tuple[int, str, str]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        monkeypatch.setattr(logging, "raiseExceptions", True)  # put back what `main` sets
        root = logging.getLogger()
        handlers, level, name_of_job = list(root.handlers), root.level, JobRuntime.instance().get("name")
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
                JobRuntime.instance().set("name", name_of_job)  # which a later composition would state
        return code, out.getvalue(), err.getvalue()

    return call
