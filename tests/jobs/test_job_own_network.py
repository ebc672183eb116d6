"""A transformer from training to attack, and two checkpoints of one network side by side."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from composing import composed
from my_package import MyNet
from running import attack_run, do, train_run

from runner.core.config import resolved
from runner.report.load import load
from runner.runs.run import Run

SMALL = (
    *(
        "job=attack",
        "attack=topk",
        "dataset=digits",
        "dataset.train_size=100",
        "dataset.test_size=40",
        "examples=4",
        "tracking=none",
    ),
    *("attack.steps=2", "epsilon.stop=0.2", "epsilon.step=0.2", "device=cpu"),
)
VIT = (
    *("model=own", "model.target=timm.models.VisionTransformer", "model.args.img_size=8", "model.args.patch_size=4"),
    *("model.args.in_chans=1", "model.args.embed_dim=8", "model.args.depth=1", "model.args.num_heads=2"),
    *("model.args.num_classes=10", "training.epochs=1"),
)


@pytest.mark.skipif(find_spec("timm") is None, reason="the extra `timm` is not installed")
def test_a_transformer_is_trained_and_attacked(tmp_path: Path, no_pictures) -> None:
    """The gradient of its map is a second derivative, which the fused kernels of attention lack."""
    result = do(resolved(composed(*SMALL, *VIT, f"outputs={tmp_path}", "seed=1")))
    assert result["status"] == "ok"
    assert result["model"] == "own_VisionTransformer"
    assert result["unharmed"]["0.2"] < 1.0
    assert torch.backends.mha.get_fastpath_enabled(), "the setting is that of the job alone"


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "files" / name for name in ("robust_a.pt", "plain_b.pt", "run7/best.pt")]
    for seed, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        torch.save({"state_dict": MyNet().state_dict()}, path)
    return paths


def _config(tmp_path: Path, weights: Path | None):
    chosen = ["model=own", "model.target=my_package.MyNet", "training=none"]
    given = [] if weights is None else [f"model.weights={weights}"]
    return resolved(composed(*SMALL, *chosen, *given, f"outputs={tmp_path}/o"))


def test_checkpoints_are_named_after_their_files(tmp_path: Path, checkpoints: list[Path], no_pictures) -> None:
    runs = [Run.of(_config(tmp_path, path)) for path in checkpoints]
    assert [run.columns["weights"] for run in runs] == ["robust_a", "plain_b", "run7/best"]
    assert [run.folder.name.removesuffix(f"-{run.identity}") for run in runs] == [
        f"digits-own_MyNet_{name}-none-saliency-topk-s0" for name in ("robust_a", "plain_b", "run7_best")
    ]
    for path in checkpoints[:2]:
        do(_config(tmp_path, path))
    data = load([run.folder for run in runs[:2]], tmp_path / "o" / "models")
    assert sorted(data.names.values()) == ["none (plain_b)", "none (robust_a)"]


def test_a_run_from_before_files_were_part_of_the_name_keeps_its_folder(
    tmp_path: Path, checkpoints: list[Path]
) -> None:
    config = _config(tmp_path, checkpoints[0])
    for run in (train_run(config), attack_run(config)):
        old = run.folder.with_name(run.folder.name.replace("_robust_a", ""))
        assert old != run.folder
        old.mkdir(parents=True)
        (old / "result.json").write_text(json.dumps({"status": "ok", "job": "other"}))
        again = Run(run.job, run.config)
        assert again.folder == old
        assert again.result() == {"status": "ok", "job": "other"}


def test_a_run_without_a_weights_file_has_no_such_column(tmp_path: Path) -> None:
    run = attack_run(_config(tmp_path, None))
    assert "weights" not in run.columns
    assert run.folder.name.startswith("digits-own_MyNet-none-saliency-topk-s0-")
