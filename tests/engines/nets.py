"""Small networks whose every parameter and statistic is random, so that no engine's answer is right by accident."""

import torch
from torch import Tensor

import convatlas
from convatlas.data.normalise import Normalizer
from convatlas.layers import ConvNet
from convatlas.preprocess import Preprocess
from convatlas.weights.model import Model


def randomised(net: ConvNet) -> ConvNet:
    generator = torch.Generator().manual_seed(0)
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if tensor.ndim < 2 and tensor.is_floating_point():
            low = 0.5 if name.endswith(("bn.weight", "running_var")) else -0.5
            tensor.data.uniform_(low, low + 1, generator=generator)
    return net.eval()


def model(name: str, *, trained: bool = True, **options: object) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = randomised(convatlas.build(name, **options))
    assert net.input is not None
    c = net.input[0]
    classes = tuple(f"class {i}" for i in range(net(torch.zeros(1, *net.input)).shape[1]))
    return Model(
        net, Normalizer(Preprocess(net.input, (0.5,) * c, (0.25,) * c)), classes, name, "random", trained=trained
    )


def images(of: Model, n: int, seed: int = 1) -> Tensor:
    return torch.randn(n, *of.preprocess.input, generator=torch.Generator().manual_seed(seed))


def error(found: Tensor, expected: Tensor) -> float:
    """The largest difference of logits, in standard deviations of the expected ones."""
    return float((found - expected).abs().max() / expected.std())
