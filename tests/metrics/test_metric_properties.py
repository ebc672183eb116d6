"""Which metrics see where a pixel is, and how several of them make one node."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from runner.core.build import build

FOLDER = Path(__file__).parents[2] / "conf" / "metrics"
ALL = sorted(file.stem for file in FOLDER.glob("*.yaml"))


PERMUTABLE = ("topk_intersection", "spearman", "kendall", "cosine_distance", "pearson", "mse", "l2_ratio")
"""Of what a map looks like, these see only the multiset of (value, other value)."""
PLACED = ("mass_center_shift", "ssim", "topk_diversity", "lens_recall", "lens_precision")
"""These see where a pixel is."""


@pytest.fixture
def metric(name):
    config = OmegaConf.create({"metrics": {"measured": {}, "k": 10}})
    config.metrics.measured.merge_with(OmegaConf.load(FOLDER / f"{name}.yaml"))
    return build(config.metrics.measured[name], f"metrics.measured.{name}")


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(8)
    first, second = torch.randn(2, 40, 6, 8, generator=generator).mul(4).round().div(4)
    second[::4] += first[::4]
    second[1::4] -= first[1::4]
    return first.abs(), second.abs()


@pytest.mark.parametrize("name", [*PERMUTABLE, *PLACED])
def test_pixels_may_be_permuted(name, metric, pairs):
    order = torch.randperm(48, generator=torch.Generator().manual_seed(9))
    noise = torch.rand(2, 40, 6, 8, generator=torch.Generator().manual_seed(10)).mul(1e-3)
    first, second = pairs[0] + noise[0], pairs[1] + noise[1]
    permuted = [maps.flatten(1)[:, order].reshape_as(maps) for maps in (first, second)]
    same = torch.allclose(metric(*permuted), metric(first, second), rtol=0, atol=1e-12)
    assert same is (name in PERMUTABLE)


def test_several_metrics_merge_into_one_node(tmp_path):
    (tmp_path / "metrics").symlink_to(FOLDER)
    chosen = "\n".join(f"    - {name}" for name in ALL)
    (tmp_path / "config.yaml").write_text(
        f"defaults:\n  - metrics:\n{chosen}\n  - _self_\nmetrics:\n  k: 7\n  reduction: abs_sum\n"
    )
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("config", overrides=["metrics.k=9"])
        assert (set(config.metrics.measured), config.metrics.k) == ({*ALL}, 9)
        assert build(config.metrics.measured.topk_intersection, "metrics.measured.topk_intersection").k == 9
        fewer = compose("config", overrides=["metrics=[kendall,spearman]"])
        assert set(fewer.metrics.measured) == {"kendall", "spearman"}


@pytest.mark.parametrize("name", ALL)
def test_each_yaml_opens_with_its_command_and_holds_its_own_name(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    first, second = text.splitlines()[:2]
    assert first == "# @package metrics.measured"
    assert second.startswith("# python run.py ")
    assert name in second
    assert list(OmegaConf.create(text)) == [name]
