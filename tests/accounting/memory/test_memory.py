"""memory(): held against the same passes really run on the CPU, watched by other means, and against numbers by hand."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint_sequential

from convatlas.accounting import account
from convatlas.accounting.memory.figures import OPTIMIZERS, Affine, Memory
from convatlas.accounting.memory.predict import checkpointed, memory, sequence
from convatlas.accounting.memory.watch import FACTORIES, measure_memory
from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.muon import Muon
from tests.oracles import timm

SMALL = {
    "lenet5": (1, 32, 32),
    "lenet5_tanh": (1, 32, 32),
    "googlenet": (3, 64, 64),
    "resnet20": (3, 32, 32),
    "mobilenet_v1": (3, 64, 64),
    "mobilenet_v2": (3, 96, 96),
    "densenet_40_12": (3, 32, 32),
    "squeezenet1_1": (3, 96, 96),
    "wrn16_4_dropout": (3, 32, 32),
    "se_resnet20": (3, 32, 32),
    "nin_cifar": (3, 32, 32),
}
MORE = {
    "nasnet_a_6_768": (3, 32, 32),
    "efficientnet_b0": (3, 64, 64),
    "resnet50": (3, 64, 64),
    "alexnet": (3, 96, 96),
    "vgg16": (3, 64, 64),
    "vgg11_lrn": (3, 64, 64),
    "zfnet": (3, 224, 224),
    "bn_inception": (3, 96, 96),
    "bn_inception_slim": (3, 96, 96),
    "inception_v3": (3, 139, 139),
    "inception_v4": (3, 139, 139),
    "inception_resnet_v2": (3, 139, 139),
    "preact_resnet110": (3, 32, 32),
    "preact_resnet50": (3, 64, 64),
    "resnext50_32x4d": (3, 64, 64),
    "densenet121": (3, 64, 64),
    "fractalnet_20": (3, 32, 32),
    "stochastic_depth_resnet110": (3, 32, 32),
    "nasnet_a_mobile": (3, 96, 96),
    "nas_v1": (3, 32, 32),
    "enet_encoder": (3, 64, 64),
    "se_resnet50": (3, 64, 64),
    "mobilenet_v1_slim": (3, 96, 96),
    "resnet152": (3, 64, 64),
}
OTHERS = [
    "vit_tiny_patch16_224",
    "convnext_atto",
    "regnetx_002",
    "ghostnet_100",
    "mobilenetv3_small_050",
    "resnest14d",
    "mixer_s32_224",
    "levit_128s",
    "skresnet18",
    "swin_tiny_patch4_window7_224",
    "hrnet_w18_small",
    "nfnet_f0",
    "cspresnet50",
    "xcit_nano_12_p16_224",
]
N = 5  # images really run; the predictions are made from other batches


@pytest.fixture(autouse=True)
def _uncollected() -> Iterator[None]:
    """What hangs in a reference cycle is freed at any time, or never: here never."""
    gc.disable()
    yield
    gc.enable()


# The oracle: the plain module on the CPU, hooks on each of its modules, and no code of the atlas.


class Live(TorchDispatchMode):
    """The most bytes of live storages after any operator: all ever seen are asked whether they still live, whenever
    they would make a new peak if none had been freed."""

    def __init__(self, *there: Any):
        super().__init__()
        self.seen: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = self.at_most = 0
        self.note(there)

    def note(self, values: Any) -> None:
        for t in tree_leaves(values):
            if isinstance(t, Tensor):
                storage = t.untyped_storage()
                self.seen[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
                self.at_most += storage.nbytes()
        if self.at_most > self.peak:
            self.seen = {k: v for k, v in self.seen.items() if not v[0].expired()}
            self.at_most = sum(size for _, size in self.seen.values())
            self.peak = max(self.peak, self.at_most)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.note(out)
        return out


def saved_on_cpu(net: Any, x: Tensor, y: Tensor, amp: bool = False, aux: bool = False) -> dict[str, int]:
    """Bytes that autograd saves, by the module that saves a storage first."""
    apart = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers(), x, y)}
    running = ["loss"]
    kept: list[Tensor] = []
    bytes_of: Counter[str] = Counter()

    def pack(t: Tensor) -> Tensor:
        place = t.untyped_storage().data_ptr()
        if place not in apart and t.untyped_storage().nbytes():
            apart.add(place)
            kept.append(t.detach())
            bytes_of[running[-1]] += t.untyped_storage().nbytes()
        return t

    def leave(*_: Any) -> None:
        running.pop()

    hooks = []
    for name, module in net.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
        hooks.append(module.register_forward_hook(leave))
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
        torch.autocast("cpu", torch.bfloat16, enabled=amp),
    ):
        logits, others = net.forward_aux(x) if aux else (net(x), {})
        loss = sum(F.cross_entropy(out.float(), y) for out in (logits, *others.values()))
    assert isinstance(loss, Tensor)
    for hook in hooks:
        hook.remove()
    return dict(bytes_of)


def training_on_cpu(net: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer, forward: Any = None) -> int:
    """The peak of the second step."""
    for _ in range(2):
        optimizer.zero_grad()
        torch.manual_seed(0)
        state = list(optimizer.state.values())
        with Live(list(net.parameters()), list(net.buffers()), x, y, state) as live:
            loss = F.cross_entropy((forward or net)(x), y)
            loss.backward()
            optimizer.step()
    return live.peak


def autocast(net: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return net(x).float()


def inference_on_cpu(net: nn.Module, x: Tensor, amp: bool = False) -> int:
    net.eval()
    with (
        Live(list(net.parameters()), list(net.buffers()), x) as live,
        torch.no_grad(),
        torch.autocast("cpu", torch.bfloat16, enabled=amp),
    ):
        net(x)
    return live.peak


def images(input: tuple[int, ...], n: int = N) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(n, *input), torch.zeros(n, dtype=torch.long)


def by_path(m: Memory, batch: int = N) -> dict[str, int]:
    return {s.path: s.bytes.of(batch) for s in m.saved if s.bytes.of(batch)}


def check(name: str, input: tuple[int, ...]) -> None:
    options = {"aux": False} if "aux" in find(name).options else {}  # they are for the paper's size alone
    predicted = memory(name, input, batch=3, **options)
    net = find(name).build(input=input, **options).train()
    x, y = images(input)
    torch.manual_seed(0)
    assert by_path(predicted) == saved_on_cpu(net, x, y)
    sgd = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9)
    assert predicted.training.of(N) == training_on_cpu(net, x, y, sgd)
    assert predicted.inference.of(N) == inference_on_cpu(net, x)
    assert predicted.parameters == sum(4 * p.numel() for p in net.parameters())
    assert predicted.gradients == sum(4 * p.grad.numel() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", SMALL)
def test_every_byte_is_as_on_the_cpu(name: str) -> None:
    check(name, SMALL[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_every_byte_of_the_others_is_as_on_the_cpu(name: str) -> None:
    check(name, MORE[name])


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))


def test_by_hand() -> None:
    """The convolution saves the image, which is apart; ReLU its 4x6x6 result, which the linear layer needs as well; the
    loss 10 log-probabilities, and the scalar sum of the weights of the classes."""
    m = memory(small(), (1, 8, 8), batch=1)
    assert {s.path: s.bytes for s in m.saved} == {"1": Affine(0, 4 * 4 * 36), "loss": Affine(4, 4 * 10)}
    assert m.saved_bytes == Affine(4, 616)
    parameters = 4 * (4 * 9 + 4 + 144 * 10 + 10)
    assert (m.parameters, m.buffers, m.gradients, m.optimizer_state) == (parameters, 0, parameters, parameters)
    assert m.images == Affine(0, 4 * 64 + 8)  # a label is an int64
    # the most is live when ReLU has made its result from the convolution's
    assert m.inference.of(7) == parameters + 7 * 4 * (64 + 144 + 144)
    assert m.inference.moment(7).op == "relu"


def test_inference_needs_the_largest_pair_of_maps() -> None:
    """VGG-16's second convolution: 64x224x224 in, as much out, and the image."""
    m = memory("vgg16", batch=1)
    assert m.inference.of(1) == 4 * 138_357_544 + 4 * (3 + 64 + 64) * 224 * 224


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "muon"])
def test_optimizers(name: str) -> None:
    """Momentum is one more value a parameter; Adam has two and RMSprop with momentum two, and a count of steps each.
    Muon has momentum alone, and what a step computes with is part of the peak."""
    net = small().train()
    made = {
        "sgd": torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
        "adam": torch.optim.Adam(net.parameters()),
        "rmsprop": torch.optim.RMSprop(net.parameters(), momentum=0.9),
        "muon": Muon(net.parameters(), 0.02),
    }[name]
    m = memory(net, (1, 8, 8), optimizer=name)
    counts = 4 * 4 if name in ("adam", "rmsprop") else 0
    assert m.optimizer_state == {"sgd": 1, "adam": 2, "rmsprop": 2, "muon": 1}[name] * m.parameters + counts
    for n in (2, 5, 300):
        assert m.training.of(n) == training_on_cpu(net, *images((1, 8, 8), n), made)


def test_an_optimizer_of_ones_own() -> None:
    net = small().train()
    decayed = memory(net, (1, 8, 8), optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1))
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    assert decayed.training.of(2) == training_on_cpu(net, *images((1, 8, 8), 2), sgd)
    parameters, images_and_labels, loss, largest_weight = 4 * 1490, 2 * (256 + 8), 4, 4 * 1440
    assert decayed.training.of(2) == 3 * parameters + images_and_labels + loss + largest_weight


def state(net: nn.Module) -> Any:
    tensors = {k: (id(t), t._version, t.requires_grad, t.clone()) for k, t in net.state_dict(keep_vars=True).items()}
    hooks = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks), list(m._modules)) for m in net.modules()]
    return {k: (*v[:3], v[3].tolist()) for k, v in tensors.items()}, hooks, torch.get_rng_state().tolist()


@pytest.mark.parametrize("amp", [False, True])
def test_the_network_stays_as_it_was(amp: bool) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(72, 3))
    net[1].eval()
    net[0].bias.requires_grad_(False)
    before = state(net)
    memory(net, (1, 8, 8), amp=amp)
    checkpointed(net, (1, 8, 8), amp=amp)
    assert state(net) == before
    assert all(p.grad is None for p in net.parameters())


def test_frozen_parameters_take_no_gradient() -> None:
    net = small()
    net[0].requires_grad_(False)
    m = memory(net, (1, 8, 8))
    assert m.gradients == m.optimizer_state == 4 * 1450
    # ReLU saves nothing, its input needs no gradient; the linear layer saves its input
    assert {s.path: s.bytes.each for s in m.saved} == {"3": 4 * 144, "loss": 40}


def test_several_inputs_and_outputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 5)

        def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
            return {"product": self.fc(a).exp()[..., None] * b, "b": b}

    m = memory(Two(), {"a": (6,), "b": (5, 1)}, batch=3)
    assert {s.path: s.bytes for s in m.saved} == {"": Affine(0, 20)}  # exp saves its result; a sum, nothing
    assert m.images.each == 4 * 11 + 8


def test_amp_is_as_on_the_cpu() -> None:
    input = (3, 32, 32)
    net = find("resnet20").build(input=input).train()
    x, y = images(input)
    m, plain = memory("resnet20", input, amp=True), memory("resnet20", input)
    assert by_path(m) == saved_on_cpu(net, x, y, amp=True)
    assert 0.45 < m.saved_bytes.each / plain.saved_bytes.each < 0.75
    assert (m.parameters, m.gradients) == (plain.parameters, plain.gradients)
    assert m.inference.of(N) == inference_on_cpu(net, x, amp=True)
    adam = torch.optim.Adam(net.parameters())
    measured = training_on_cpu(net.train(), x, y, adam, lambda x: autocast(net, x))
    assert memory("resnet20", input, amp=True, optimizer="adam").training.of(N) == measured


@pytest.mark.parametrize(("name", "input"), [("resnet20", (3, 32, 32)), ("chain_n2_m3_k1", (3, 32, 32))])
def test_checkpointing_is_as_on_the_cpu(name: str, input: tuple[int, ...]) -> None:
    found = checkpointed(name, input)
    assert found is not None
    net = find(name).build(input=input).train()
    x, y = images(input)
    units = sequence(net)
    assert (found.units, found.segments) == (len(units), int(len(units) ** 0.5))
    sgd = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9)

    def forward(x: Tensor) -> Tensor:
        return checkpoint_sequential(units, found.segments, x, use_reentrant=False)

    assert found.training.of(N) == training_on_cpu(net, x, y, sgd, forward)
    plain = memory(name, input)
    assert found.saved.of(N) < plain.saved_bytes.of(N) / 2
    assert found.training.of(N) < plain.training.of(N)
    assert 0 < found.extra_macs.each <= account(name, input).totals.macs


def test_checkpointing_by_hand() -> None:
    """Four 3x3 convolutions of 2 maps on 8x8, then a linear layer: 6 units, 2 segments of 3; the first is run again,
    but for the last convolution, whose result nobody needs."""
    net = nn.Sequential(*(nn.Conv2d(2, 2, 3, padding=1) for _ in range(4)), nn.Flatten(), nn.Linear(128, 10))
    found = checkpointed(net, (2, 8, 8))
    assert found is not None
    assert (found.units, found.segments) == (6, 2)
    assert found.extra_macs == Affine(0, 2 * 64 * 2 * 2 * 9)


def test_no_sequence_no_checkpoints() -> None:
    assert checkpointed("fractalnet_5_narrow") is None
    assert checkpointed(small()[:2], (1, 8, 8)) is None


def test_measured_on_the_cpu() -> None:
    predicted = memory("squeezenet1_1", (3, 64, 64))
    training, inference = measure_memory("squeezenet1_1", (3, 64, 64), N)
    assert (training.live, training.allocated) == (predicted.training.of(N), None)
    assert (inference.live, inference.reserved) == (predicted.inference.of(N), None)
    with pytest.raises(UserError, match="device 'gpu' is not available"):
        measure_memory("lenet5", device="gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_measured_on_a_gpu() -> None:
    predicted = memory("resnet50", (3, 224, 224))
    training, inference = measure_memory("resnet50", (3, 224, 224), 16, device="cuda")
    for peak, measured in ((predicted.training, training), (predicted.inference, inference)):
        assert measured.live == pytest.approx(peak.of(16), rel=0.02)
        assert measured.allocated is not None
        assert measured.reserved is not None
        assert measured.live <= measured.allocated <= measured.reserved


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.norm, self.out = nn.Linear(32, 96), nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).reshape(*x.shape[:2], 3, 4, 8).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape).mean(1))


def check_module(net: nn.Module, input: tuple[int, ...]) -> None:
    predicted = memory(net, input, batch=3)
    x, y = images(input)
    net.train()
    torch.manual_seed(0)
    assert by_path(predicted) == saved_on_cpu(net, x, y)
    sgd = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9)
    assert predicted.training.of(N) == training_on_cpu(net, x, y, sgd)
    assert predicted.inference.of(N) == inference_on_cpu(net, x)


def test_attention_is_as_on_the_cpu() -> None:
    """Its kernel is the CPU's own, which keeps no matrix of weights."""
    check_module(Attention(), (16, 32))


@pytest.mark.slow
@pytest.mark.oracles
@pytest.mark.parametrize("name", OTHERS)
def test_networks_that_others_wrote(name: str) -> None:
    net = timm().create_model(name)
    size = 224 if "224" in name or "levit" in name else 64  # they have position tables
    check_module(net, (3, size, size))


def test_auxiliary_classifiers() -> None:
    plain, trained = memory("googlenet"), memory("googlenet", auxiliary=True)
    assert plain.gradients < plain.parameters == trained.parameters == trained.gradients
    net = find("googlenet").build().train()
    assert by_path(trained, 2) == saved_on_cpu(net, *images((3, 224, 224), 2), aux=True)


def test_the_largest_batch_is_the_largest() -> None:
    m = memory("lenet5_tanh")
    for peak in (m.training, m.inference):
        for limit in (2_000_000, 5_000_000, 64_000_000):
            n = peak.largest_batch(limit)
            assert peak.of(n) <= limit < peak.of(n + 1)
        assert peak.largest_batch(m.parameters) == 0


def test_what_is_drawn_is_said() -> None:
    assert memory("stochastic_depth_resnet110", (3, 16, 16)).drawn
    assert not memory("wrn16_2", (3, 16, 16)).drawn


def test_refusals(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="no optimizer named 'adm'; did you mean adam"):
        memory("lenet5", optimizer="adm")
    with pytest.raises(UserError, match="resnet20 has no auxiliary classifiers to train"):
        memory("resnet20", auxiliary=True)
    with pytest.raises(UserError, match="batch=0 is not a positive integer"):
        memory("lenet5", batch=0)
    with pytest.raises(UserError, match="ReLU has no parameters to train"):
        memory(nn.ReLU(), (3, 8, 8))
    with pytest.raises(UserError, match="the input size of ReLU is unknown"):
        memory(nn.ReLU())
    with pytest.raises(UserError, match="Conv2d does not run on input 2x3x2x2"):
        memory(nn.Conv2d(3, 4, 3), (3, 2, 2), batch=2)
    assert not capfd.readouterr().err  # torch's log of what did not run
    with pytest.raises(UserError, match="it branches on tensor values, which are not computed here; try without amp"):
        memory("stochastic_depth_resnet110", amp=True)
    with pytest.raises(UserError, match="option 'classes' is for building a network, but this one is already built"):
        memory(small(), (1, 8, 8), classes=3)


def test_the_verb_knows_the_optimizers() -> None:
    assert set(FACTORIES) == set(OPTIMIZERS)
