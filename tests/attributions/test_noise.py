"""The noise of SmoothGrad and UniGrad is a matter of the example and of the number of the draw alone, to the bit."""

import pytest
import torch

from runner.attributions.smoothgrad import SmoothGrad
from runner.attributions.uniform_gradient import UniformGradient

METHODS = {
    "smoothgrad": SmoothGrad(),
    "smoothgrad_image": SmoothGrad(relative_to="image"),
    "uniform_gradient": UniformGradient(relative_to="image"),
    "uniform_gradient_ball": UniformGradient(shape="ball", radius=0.5),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 7, 9), (2, 5, 7)])
def test_noise_is_the_same_to_the_bit_whatever_the_batch_order_and_slice(name, dtype, shape, keys):
    method = METHODS[name]
    images = torch.rand(5, *shape, generator=torch.Generator().manual_seed(6)).to(dtype)
    whole = method.points(images, keys, 0, 11)
    assert whole.dtype == dtype
    assert whole.shape == (5, 11, *shape)
    order = torch.tensor([4, 2, 0, 1, 3])
    assert torch.equal(method.points(images[order], keys[order], 0, 11), whole[order])
    for first, count in ((0, 1), (1, 1), (3, 5), (10, 1)):
        for row in range(5):
            part = method.points(images[row : row + 1], keys[row : row + 1], first, count)
            assert torch.equal(part[0], whole[row, first : first + count])
