"""Passes cover everything once and are no larger than the chunk; a recomputed pass has the gradients of the plain one."""

import torch
from torch import nn

from runner.core.chunking import passes, recomputed


def test_passes_cover_every_draw_once():
    for examples, count, chunk in ((6, 11, None), (6, 11, 4), (6, 11, 13), (1, 5, 2), (3, 1, 100)):
        seen = torch.zeros(examples, count)
        for part, first, size in passes(examples, count, chunk):
            seen[part, first : first + size] += 1
            assert chunk is None or seen[part].shape[0] * size <= chunk
        assert (seen == 1).all()


def test_a_recomputed_pass_has_the_value_and_the_gradients_of_the_plain_one():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    images = torch.rand(2, 3, dtype=torch.float64).requires_grad_()
    graphs = []

    def one_pass(inputs, create_graph):
        graphs.append(create_graph)
        with torch.enable_grad():
            leaf = inputs if inputs.requires_grad else inputs.detach().requires_grad_()
            return torch.autograd.grad(model(leaf).sum(), leaf, create_graph=create_graph)[0]

    wanted = [images, *model.parameters()]
    options = {"allow_unused": True, "materialize_grads": True}
    plain, again = one_pass(images, True), recomputed(model, one_pass, images)
    assert torch.equal(plain, again)
    expected = torch.autograd.grad(plain.square().sum(), wanted, **options)
    found = torch.autograd.grad(again.square().sum(), wanted, **options)
    assert all(map(torch.equal, found, expected))
    assert graphs == [True, False, True]
