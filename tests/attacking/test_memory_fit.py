"""Chunks and passes fit the memory of the machine, and rows do not depend on it."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from running import as_job, attack_run, do, setup_of

from runner.attacking import memory_fit
from runner.attacking.memory_fit import Fit, fitted, images_at_once
from runner.core.chunking import held

SMOOTHED = ("attribution=smoothgrad", "attribution.samples=6")


@pytest.fixture
def room(monkeypatch):
    """Sets the bytes for tensors."""
    return lambda size: monkeypatch.setattr(memory_fit, "_room", lambda device: float(size))


@pytest.fixture
def setup(compose):
    config = compose(*SMOOTHED)
    do(as_job(config, "train"))
    return setup_of(config)


def test_images_grow_with_the_memory(setup, room) -> None:
    sizes = []
    for size in (0, 10**8, 2 * 10**8):
        room(size)
        sizes.append(images_at_once(setup))
    assert sizes[0] == 1
    assert sizes[1] > 6
    assert sizes[2] == pytest.approx(2 * sizes[1], rel=0.05)


@pytest.mark.parametrize(("images", "chunk"), [(1, 1), (5, 4), (6, 1), (17, 2), (24, 4), (1000, 4)])
def test_all_samples_of_a_chunk_fit_where_those_of_an_example_do(setup, monkeypatch, caplog, images, chunk) -> None:
    monkeypatch.setattr(memory_fit, "images_at_once", lambda _: images)
    with caplog.at_level("INFO"):
        assert fitted(setup, 4) == Fit(chunk, images)
    assert bool(caplog.text) == (images < setup.attribution.chunk)  # 128


def test_a_users_own_map_is_measured_itself(setup, room) -> None:
    def own(copies):
        def explain(model, images, targets, keys):
            leaf = images.repeat(copies, 1, 1, 1)
            (slope,) = torch.autograd.grad(model(leaf).sum(), leaf, create_graph=torch.is_grad_enabled())
            return slope.reshape(copies, *images.shape).sum(dim=(0, 2))

        return replace(setup, attribution=explain, explain=explain)

    room(10**8)
    one, ten = images_at_once(own(1)), images_at_once(own(10))
    assert 7 < one / ten < 11
    assert fitted(own(10), 10**6) == Fit(ten, ten)


def test_a_network_without_second_derivatives_is_left_to_the_attack(setup) -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, images):
            return images.flatten(1)

        @staticmethod
        def backward(ctx, upstream):
            if torch.is_grad_enabled():
                raise NotImplementedError("no second derivative")
            return upstream

    class Network(torch.nn.Module):
        def forward(self, images):
            return Once.apply(images)

    assert fitted(replace(setup, model=Network(), attack=replace(setup.attack, beta=None)), 7) == Fit(7)


def test_graphs_are_kept_where_they_fit_and_passes_bounded_where_not(setup) -> None:
    seen = []

    class Watched(torch.nn.Module):
        def forward(self, images):
            seen.append(len(images))
            return setup.model(images)

    images, _, ids = setup.test.batch(torch.arange(3), setup.device)
    targets, keys, slopes = torch.zeros(3, dtype=torch.int64), setup.keys(ids, "attack"), []
    for at_once, expected in ((18, [18]), (17, [15, 3] * 2), (4, [3] * 12)):
        seen.clear()
        leaf = images.clone().requires_grad_()
        explain = Fit(3, at_once).applied(setup).explain
        assert not held(1)
        maps = explain(Watched(), leaf, targets, keys)
        slopes.append(torch.autograd.grad(maps.square().sum(), leaf)[0])
        assert sorted(seen) == sorted(expected)
    for slope in slopes[1:]:
        torch.testing.assert_close(slope, slopes[0], rtol=1e-4, atol=1e-5 * float(slopes[0].abs().max()))


def test_rows_do_not_depend_on_the_memory(compose, room, caplog, tmp_path) -> None:
    frames = []
    for size in (0, 10**12):
        room(size)
        config = {**compose(*SMOOTHED, "threads=1"), "outputs": str(tmp_path / str(size))}
        with caplog.at_level("INFO"):
            do(config)
        frames.append(pd.read_parquet(attack_run(config).folder / "rows.parquet"))
    assert caplog.text.count("attack.chunk=4: 1 at a time, in passes of at most 1 images, fit the memory") == 1
    pd.testing.assert_frame_equal(*frames, rtol=1e-4, atol=1e-5)
