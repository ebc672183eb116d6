"""A chunk on its way up the grid is read back as it was saved."""

from pathlib import Path

import pytest
import torch
from equality import same
from running import as_job, do, setup_of

from runner.attacking.chunk import Chunk


@pytest.mark.parametrize("overrides", [(), ("attack=query_nes", "attack.queries=40"), ("attack.save_images=true",)])
def test_a_chunk_on_its_way(compose, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    config = compose(*overrides)
    do(as_job(config, "train"))
    setup, file = setup_of(config), tmp_path / "chunk.safetensors"
    one = Chunk.open(setup, torch.arange(3), file)
    for count, epsilon in enumerate(setup.epsilons[:2], start=1):
        one.step(epsilon)
        one.save()
        two = Chunk.open(setup, torch.arange(3), file)
        assert len(two.steps) == count
        for mine, its in zip(one.steps, two.steps, strict=True):
            assert same(dict(sorted(mine.items())), dict(sorted(its.items())))
        assert one.best is not None
        assert two.best is not None
        for name in ("images", "harm", "found"):
            assert same(getattr(one.best, name), getattr(two.best, name)), name
        assert same(dict(sorted(one.best.notes.items())), dict(sorted(two.best.notes.items())))
