"""pauc convert: checkpoints of each format, laid out by hand, give the features of torchvision's
ResNet.
"""

import argparse
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import checkpoint_layouts as layouts
import pytest
import timm
import torch
import torchvision
from checkpoint_layouts import D, K, State, W
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import pauc_hub
from pauc_hub.cli import run
from pauc_hub.errors import ModelFolderError, UsageError
from pauc_hub.hub.convert import convert as module
from pauc_hub.hub.convert import published
from pauc_hub.hub.convert.convert import convert
from pauc_hub.hub.convert.networks import recognise_network


@pytest.fixture(scope="module")
def resnet() -> Any:
    """torchvision's ResNet-18 with statistics that are not those of a new network."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
                layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return network.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def features(resnet: Any, images: Tensor) -> Tensor:
    """(2, W) pooled features of torchvision's network."""
    body = nn.Sequential(*list(resnet.children())[:-1])
    with torch.no_grad():
        return body(images).flatten(1)  # type: ignore[no-any-return]


CASES: dict[str, tuple[Callable[[State], Any], str, bool, int]] = {
    # layout, format that is recognised, whether the head becomes the projector, prototypes
    "moco_v2": (layouts.moco_v2, "moco", True, 0),
    "pcl_v1": (layouts.pcl_v1, "moco", False, 0),
    "moco_v3": (layouts.moco_v3, "moco-v3", False, 0),
    "swav": (layouts.swav, "swav", True, K),
    "dino": (layouts.dino, "dino", False, 0),
    "solo_learn": (layouts.solo_learn, "solo-learn", True, 0),
    "solo_learn_encoder": (layouts.solo_learn_encoder, "solo-learn-encoder", False, 0),
    "lightly": (layouts.lightly, "lightly", True, 0),
    "torchvision": (layouts.plain_torchvision, "torchvision", False, 0),
    "timm": (layouts.plain_timm, "timm", False, 0),
}


@pytest.mark.parametrize(("lay_out", "name", "projects", "prototypes"), CASES.values(), ids=CASES)
def test_every_format_gives_torchvisions_features(
    lay_out: Callable[[State], Any],
    name: str,
    projects: bool,
    prototypes: int,
    resnet: Any,
    images: Tensor,
    features: Tensor,
    tmp_path: Path,
) -> None:
    torch.save(lay_out(resnet.state_dict()), tmp_path / "checkpoint.pth")
    converted = convert(
        tmp_path / "checkpoint.pth", tmp_path / "model", licence="MIT", image_size=64
    )
    assert (converted.format, converted.architecture, converted.width) == (name, "resnet18", W)
    assert (converted.projector, converted.prototypes) == (projects, prototypes)
    assert converted.strangers == ()
    backbone: Any = timm.create_model(
        f"local-dir:{tmp_path / 'model'}", pretrained=True, num_classes=0
    ).eval()
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), features, rtol=1e-5, atol=1e-5)


def test_a_head_with_batch_norm_becomes_the_projector(
    resnet: Any, features: Tensor, tmp_path: Path
) -> None:
    state = layouts.swav(resnet.state_dict())
    torch.save(state, tmp_path / "swav.pth")
    convert(tmp_path / "swav.pth", tmp_path / "model", image_size=64)
    projector = pauc_hub.load(tmp_path / "model", device="cpu").projector
    head = nn.Sequential(nn.Linear(W, W), nn.BatchNorm1d(W), nn.ReLU(), nn.Linear(W, D)).eval()
    prefix = "module.projection_head."
    head.load_state_dict(
        {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    )
    assert projector is not None
    with torch.no_grad():
        torch.testing.assert_close(
            projector(features), F.normalize(head(features), dim=1), rtol=1e-4, atol=1e-5
        )


def test_the_folder_keeps_where_the_weights_are_from(resnet: Any, tmp_path: Path) -> None:
    torch.save(layouts.moco_v2(resnet.state_dict()), tmp_path / "pcl.pth.tar")
    converted = convert(
        tmp_path / "pcl.pth.tar", tmp_path / "model", licence="MIT", command="pauc convert …"
    )
    facts = json.loads((tmp_path / "model" / "facts.json").read_text())
    assert facts["converted"]["sha256"] == converted.sha256
    assert facts["license"] == "MIT"
    assert "queue" in facts["converted"]["dropped"]
    card = (tmp_path / "model" / "README.md").read_text()
    assert converted.sha256 in card
    assert "not trained by pauc-hub" in card


def test_unknown_keys_are_listed(
    resnet: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = layouts.moco_v2(resnet.state_dict())
    state["state_dict"]["module.temperature"] = torch.zeros(1)
    torch.save(state, tmp_path / "a.pth")
    assert (
        run(["convert", str(tmp_path / "a.pth"), "-o", str(tmp_path / "model"), "--licence", "MIT"])
        == 0
    )
    assert capsys.readouterr().err == "warning: 1 unknown keys were left out: temperature\n"


def test_another_format_than_the_checkpoint_has(resnet: Any, tmp_path: Path) -> None:
    torch.save(layouts.moco_v2(resnet.state_dict()), tmp_path / "a.pth")
    with pytest.raises(ModelFolderError) as refusal:
        convert(tmp_path / "a.pth", tmp_path / "model", format="swav", licence="MIT")
    assert (
        str(refusal.value)
        == "the checkpoint is not of format swav: its keys are those of moco. Leave format out."
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A folder `published` behind an address on this machine."""
    (tmp_path / "published").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = partial(Quiet, directory=str(tmp_path / "published"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/"
        served.shutdown()


def test_a_published_checkpoint_is_fetched_by_name(
    server: str, resnet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(layouts.pcl_v1(resnet.state_dict()), tmp_path / "published" / "PCL_v1.pth.tar")
    known = {"pcl-v1": replace_url(published.PUBLISHED["pcl-v1"], f"{server}PCL_v1.pth.tar")}
    monkeypatch.setattr(module, "PUBLISHED", known)
    converted = convert("pcl-v1", tmp_path / "model", quiet=True)
    facts = json.loads((tmp_path / "model" / "facts.json").read_text())
    assert converted.architecture == "resnet18"
    assert facts["converted"]["file"] == f"{server}PCL_v1.pth.tar"
    assert "ImageNet" in facts["terms"]


def test_an_address_that_cannot_be_reached_is_one_line(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"pcl-v1": replace_url(published.PUBLISHED["pcl-v1"], f"{server}none.pth")}
    monkeypatch.setattr(module, "PUBLISHED", known)
    with pytest.raises(
        UsageError, match=r"none\.pth' cannot be fetched \(HTTP Error 404.*give the file\.$"
    ):
        convert("pcl-v1", tmp_path / "model", quiet=True)
    assert not (tmp_path / "model").exists()


def replace_url(published: Any, url: str) -> Any:
    return published._replace(url=url)


def test_python_objects_are_never_loaded(resnet: Any, tmp_path: Path) -> None:
    torch.save(
        {"args": argparse.Namespace(lr=1), "state_dict": resnet.state_dict()}, tmp_path / "a.pth"
    )
    with pytest.raises(
        ModelFolderError,
        match=r"Python objects beside its tensors \(argparse\.Namespace\).*Strip it",
    ):
        convert(tmp_path / "a.pth", tmp_path / "model", licence="MIT")


def test_a_licence_is_asked_for_where_none_is_known(resnet: Any, tmp_path: Path) -> None:
    torch.save(layouts.plain_timm(resnet.state_dict()), tmp_path / "a.pth")
    with pytest.raises(UsageError, match=r"^a timm checkpoint does not say under which licence"):
        convert(tmp_path / "a.pth", tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "architecture", "message"),
    [
        ({"layer1.0.conv1.weight": None}, "resnet18", "it lacks layer1.0.conv1.weight."),
        ({"layer9.weight": torch.zeros(1)}, None, "it has besides layer9.weight."),
        ({"bn1.weight": torch.zeros(3)}, None, "it has another shape of bn1.weight."),
    ],
)
def test_weights_that_do_not_fit_are_named(
    change: dict[str, Any], architecture: str | None, message: str, resnet: Any, tmp_path: Path
) -> None:
    state = {
        key: value
        for key, value in (layouts.under("", resnet.state_dict()) | change).items()
        if value is not None
    }
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(ModelFolderError, match=f"^the checkpoint does not fit resnet18: {message}"):
        convert(
            tmp_path / "a.safetensors", tmp_path / "model", licence="MIT", architecture=architecture
        )
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["none.pth"],
            2,
            (
                "'none.pth' is neither a file nor a checkpoint known by name: pcl-v1, pcl-v2, "
                "hcsc-200, "
            ),
        ),
        (
            ["bad.pth"],
            1,
            "'bad.pth' is no checkpoint of torch's: it cannot be read as a pickle of tensors.\n",
        ),
        (
            ["bad.pth", "--format", "mocov2"],
            2,
            "--format mocov2 is unknown. Use auto, moco-v3, moco, ",
        ),
        (
            ["bad.pth", "--mean", "0.5"],
            2,
            "--mean '0.5' is not three numbers, such as 0.485,0.456,0.406.",
        ),
    ],
)
def test_one_line_says_what_is_wrong(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.pth").write_bytes(b"no checkpoint")
    assert run(["convert", *arguments, "-o", "model"]) == code
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet34", "resnet50", "vit_tiny_patch16_224", "vit_small_patch16_224"]
)
def test_networks_are_recognised_by_their_weights(name: str) -> None:
    with torch.device("meta"):
        network: Any = timm.create_model(name, num_classes=0)
    assert recognise_network(network.state_dict()) == name


def test_a_stem_of_three_by_three_is_not_guessed() -> None:
    with torch.device("meta"):
        network: Any = timm.create_model("pauc_resnet18_cifar")
    with pytest.raises(
        ModelFolderError,
        match=r"3 × 3 stem, whose padding and activation the weights do not tell",
    ):
        recognise_network(network.state_dict())


def test_a_vit_keeps_its_own_way_of_pooling(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vit: Any = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64).eval()
    torch.save(vit.state_dict(), tmp_path / "dino_vit.pth")
    convert(tmp_path / "dino_vit.pth", tmp_path / "model", licence="Apache-2.0", image_size=64)
    again: Any = timm.create_model(
        f"local-dir:{tmp_path / 'model'}", pretrained=True, num_classes=0
    ).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(again(images), vit(images))
