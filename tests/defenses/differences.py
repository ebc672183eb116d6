"""Finite differences of a loss in the parameters of a model, beside its gradient."""

import torch


def slopes(model, loss, step=1e-5, entries=3):
    """(exact, numeric) derivatives of `loss()` in a few entries of every parameter with at least one."""
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True, materialize_grads=True)
    exact, numeric = [], []
    for parameter, gradient in zip(parameters, gradients, strict=True):
        for index in torch.linspace(0, parameter.numel() - 1, entries).long().tolist():
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.view(-1)[index] += sign * step
                values.append(loss().item())
                with torch.no_grad():
                    parameter.view(-1)[index] -= sign * step
            exact.append(gradient.reshape(-1)[index].item())
            numeric.append((values[0] - values[1]) / (2 * step))
    return torch.tensor(exact, dtype=torch.float64), torch.tensor(numeric, dtype=torch.float64)
