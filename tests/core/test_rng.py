"""The stream is pinned: results on disk are reproduced only as long as these numbers stay."""

import math
import zlib
from itertools import pairwise

import pytest
import torch
from scipy import stats

from runner.core import rng

MASK = (1 << 64) - 1
GAMMA, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mix(value):
    value = ((value ^ (value >> 30)) * MIX1) & MASK
    value = ((value ^ (value >> 27)) * MIX2) & MASK
    return value ^ (value >> 31)


def splitmix64(state, count):
    """Steele, Lea and Flood (2014): add the golden gamma, mix, repeat."""
    draws = []
    for _ in range(count):
        state = (state + GAMMA) & MASK
        draws.append(mix(state))
    return draws


def unsigned(values):
    return [int(value) & MASK for value in values]


def keys_of(count, seed=0, stream=""):
    return rng.example_keys(seed, range(count), stream)


# ---- the generator itself


def test_published_splitmix64_values():
    # The first outputs for seed 1234567, as published with the reference implementations.
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert unsigned(rng.bits(torch.tensor([1234567]), 5)[0]) == expected


@pytest.mark.parametrize("key", [0, 1, -1, 2**63 - 1, -(2**63), 0x0123456789ABCDEF])
def test_bits_are_splitmix64(key):
    assert unsigned(rng.bits(torch.tensor([key]), 100)[0]) == splitmix64(key & MASK, 100)


def test_keys_are_as_defined():
    seed, stream = 3, "attack"
    start = (seed * 1_000_003 + zlib.crc32(stream.encode())) & (MASK >> 1)
    expected = [mix(mix(start) ^ mix((number * GAMMA) & MASK)) for number in (0, 1, 49_999)]
    assert unsigned(rng.example_keys(seed, [0, 1, 49_999], stream)) == expected


def test_fold_is_as_defined():
    key = 987654321
    for number in (-1, 0, 1, 17, 10_000):
        salt = ((number + 1) * 0x632BE59BD9B4E019) & (MASK >> 1)
        assert unsigned(rng.fold(torch.tensor([key]), number)) == [mix(key ^ mix(salt))]


# ---- golden values

GOLDEN_KEYS = [8069676955046469789, 478130100620156100, 654546878857278133]
GOLDEN_BITS = [
    [-4156223306725365975, 1939812022990066815],
    [2186840539743652164, -5613125858162107197],
    [-5043837663117002354, 2117084750272890680],
]
GOLDEN_FOLD = [722590375875947277, 8750041934758621023, -2155867462967401083]
GOLDEN_UNIFORM = [12997152, 1764248, 14866818, 15383041]
GOLDEN_NORMAL = [-0.3280687, 0.63478643, 1.5498302, -1.4500415]


def test_golden_keys_and_bits():
    keys = rng.example_keys(0, [0, 1, 2], "attack")
    assert keys.tolist() == GOLDEN_KEYS
    assert rng.bits(keys, 2).tolist() == GOLDEN_BITS
    assert rng.fold(keys, 5).tolist() == GOLDEN_FOLD


def test_golden_uniform():
    assert (rng.uniform(rng.example_keys(0, [0], "attack"), (4,)) * 2**24).tolist() == [GOLDEN_UNIFORM]


def test_golden_normal():
    drawn = rng.normal(rng.example_keys(0, [0], "attack"), (4,))
    torch.testing.assert_close(drawn, torch.tensor([GOLDEN_NORMAL]), rtol=1e-6, atol=1e-7)


def test_normal_is_box_muller_on_the_two_halves():
    key = rng.example_keys(1, [7])
    expected = []
    for word in splitmix64(int(key) & MASK, 3):
        radius = math.sqrt(-2 * math.log(((word >> 32) + 0.5) / 2**32))
        angle = 2 * math.pi * (word & 0xFFFFFFFF) / 2**32
        expected += [radius * math.cos(angle), radius * math.sin(angle)]
    torch.testing.assert_close(rng.normal(key, (6,))[0], torch.tensor(expected), rtol=1e-5, atol=2e-6)


# ---- what the numbers depend on


@pytest.mark.parametrize("draw", [rng.uniform, rng.normal])
@pytest.mark.parametrize("cuts", [(0, 12), (0, 2, 12), (0, 4, 6, 10, 12)])
def test_slices_equal_the_whole(draw, cuts):
    keys = keys_of(5)
    parts = [draw(keys, (stop - start,), start) for start, stop in pairwise(cuts)]
    assert torch.equal(torch.cat(parts, 1), draw(keys, (12,)))


def test_slices_of_bits_may_begin_anywhere():
    keys = keys_of(5)
    assert torch.equal(torch.cat([rng.bits(keys, 3), rng.bits(keys, 4, 3)], 1), rng.bits(keys, 7))


@pytest.mark.parametrize("draw", [rng.uniform, rng.normal])
def test_shape_is_only_a_view(draw):
    keys = keys_of(3)
    drawn = draw(keys, (2, 3, 5))
    assert (drawn.shape, drawn.dtype, drawn.device.type) == ((3, 2, 3, 5), torch.float32, "cpu")
    assert torch.equal(drawn.flatten(1), draw(keys, (30,)))


def test_an_odd_number_of_normals_is_a_prefix():
    keys = keys_of(3)
    assert torch.equal(rng.normal(keys, (7,)), rng.normal(keys, (8,))[:, :7])


def test_a_normal_slice_at_an_odd_position_is_refused():
    with pytest.raises(ValueError, match="start=3: slices of a normal sequence begin at even positions"):
        rng.normal(keys_of(1), (2,), 3)


@pytest.mark.parametrize("draw", [rng.uniform, rng.normal])
def test_independent_of_batch_and_order(draw):
    whole = draw(keys_of(64, seed=2), (3, 4))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(rng.example_keys(2, order), (3, 4)), whole[order])
    for number in (0, 31, 63):
        assert torch.equal(draw(rng.example_keys(2, [number]), (3, 4))[0], whole[number])


def test_drawing_changes_neither_keys_nor_global_state():
    keys, state = keys_of(4), torch.get_rng_state()
    before = keys.clone()
    for act in (lambda: rng.normal(keys, (5,)), lambda: rng.uniform(keys, (5,)), lambda: rng.fold(keys, 3)):
        act()
    assert torch.equal(keys, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_two_keys_are_equal():
    streams = [keys_of(1000, seed, stream) for seed in range(5) for stream in ("", "attack", "noise")]
    streams += [rng.fold(keys_of(1000), number) for number in range(20)]
    everything = torch.cat(streams)
    assert len(everything.unique()) == len(everything)


# ---- statistics, on fixed seeds


@pytest.fixture(scope="module")
def gaussians():
    return rng.normal(keys_of(200, seed=11, stream="test"), (2000,)).double()


def test_uniform_range_and_distribution():
    drawn = rng.uniform(keys_of(100, seed=5), (2000,)).double().flatten()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert drawn.mean().item() == pytest.approx(0.5, abs=4 / math.sqrt(12 * drawn.numel()))
    assert stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-3


def test_normal_moments(gaussians):
    n = gaussians.numel()
    assert gaussians.mean().item() == pytest.approx(0, abs=4 / math.sqrt(n))
    assert gaussians.pow(2).mean().item() == pytest.approx(1, abs=4 * math.sqrt(2 / n))
    assert gaussians.pow(3).mean().item() == pytest.approx(0, abs=4 * math.sqrt(15 / n))
    assert gaussians.pow(4).mean().item() == pytest.approx(3, abs=4 * math.sqrt(96 / n))


def test_normal_distribution(gaussians):
    assert stats.kstest(gaussians.flatten().numpy(), "norm").pvalue > 1e-3


def test_normals_stay_finite_for_extreme_bits(monkeypatch):
    extremes = torch.tensor([[0, -1, 0xFFFFFFFF, -(1 << 32), 1 << 63 - 1]])
    monkeypatch.setattr(rng, "bits", lambda keys, count, start=0: extremes[:, :count].clone())
    drawn = rng.normal(torch.tensor([0]), (10,))
    assert drawn.isfinite().all()
    assert drawn.abs().max().item() == pytest.approx(math.sqrt(66 * math.log(2)), rel=1e-5)


def correlation(left, right):
    left, right = left - left.mean(), right - right.mean()
    return abs((left * right).mean() / (left.std() * right.std())).item()


def test_neighbours_are_uncorrelated(gaussians):
    limit = 4 / math.sqrt(gaussians.numel() * 0.99)
    assert correlation(gaussians[:-1], gaussians[1:]) < limit  # neighbouring examples
    assert correlation(gaussians[:, :-1], gaussians[:, 1:]) < limit  # neighbouring numbers
    assert correlation(gaussians[:, 0::2].square(), gaussians[:, 1::2].square()) < limit * math.sqrt(
        2
    )  # Box-Muller pairs


@pytest.mark.parametrize(
    "others",
    [
        lambda: keys_of(200, seed=12, stream="test"),
        lambda: keys_of(200, seed=11, stream="tess"),
        lambda: rng.fold(keys_of(200, seed=11, stream="test"), 0),
        lambda: rng.fold(keys_of(200, seed=11, stream="test"), 1),
    ],
    ids=["next seed", "other stream", "fold 0", "fold 1"],
)
def test_streams_are_uncorrelated(gaussians, others):
    drawn = rng.normal(others(), (2000,)).double()
    assert correlation(gaussians, drawn) < 4 / math.sqrt(gaussians.numel())


def test_folds_are_uncorrelated():
    keys = keys_of(200)
    drawn = [rng.normal(rng.fold(keys, number), (500,)).double() for number in range(4)]
    for left in range(4):
        for right in range(left):
            assert correlation(drawn[left], drawn[right]) < 4 / math.sqrt(100_000)
