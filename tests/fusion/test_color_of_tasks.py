"""Colour of other tasks' fused images: a functional image keeps its own, two photographs give theirs, grey pairs stay grey."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner, Result

from fusion_det.cli.fuse import fuse
from fusion_det.data import open_dataset
from fusion_det.data.color import luma, rgb_to_ycbcr
from fusion_det.data.images import load_pair
from fusion_det.errors import ConfigError, FusionDetError
from fusion_det.fusion import FusionRunner, build_method, method_identity
from fusion_det.fusion.frame import joint_chroma
from fusion_det.tasks import TASKS

SIZE = (37, 29)


def write(file: Path, pixels: np.ndarray) -> np.ndarray:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return pixels


def grey(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 190, SIZE[::-1], dtype=np.uint8)


def colored(seed: int) -> np.ndarray:
    """Of moderate colours, so that its chroma with any luma stays inside RGB."""
    levels = grey(seed)[..., None].astype(int)
    tint = np.random.default_rng(seed + 100).integers(-15, 16, (*SIZE[::-1], 3))
    return np.clip(levels + tint, 0, 255).astype(np.uint8)


def chroma(rgb: np.ndarray) -> np.ndarray:
    planes = torch.from_numpy(rgb / 255).permute(2, 0, 1)[None]
    return rgb_to_ycbcr(planes)[0, 1:].numpy()


def run(
    root: Path, task: str, method: str = "mean", color: str = "ycbcr", batch_size: int = 4
) -> dict[str, np.ndarray]:
    records = open_dataset(root, task=task).records
    out = root.parent / f"{root.name}-{method}-{color}-{batch_size}"
    FusionRunner(build_method(method), color, batch_size=batch_size).run(records, out)
    again = FusionRunner(build_method(method), color).run(records, out)
    assert (again.written, again.skipped) == (0, len(records)), "what is there is recognised, grey or in colour"
    return {record.stem: np.asarray(Image.open(out / f"{record.stem}.png")) for record in records}


def test_a_functional_image_keeps_its_colour(tmp_path: Path) -> None:
    mri, pet = write(tmp_path / "a/mri/1.png", grey(0)), write(tmp_path / "a/pet/1.png", colored(1))
    fused = run(tmp_path / "a", "medical")["1"]
    np.testing.assert_allclose(chroma(fused), chroma(pet), atol=1.1 / 255)
    y = luma(torch.from_numpy(pet / 255).permute(2, 0, 1)[None])[0, 0].numpy()
    fused_luma = luma(torch.from_numpy(fused / 255).permute(2, 0, 1)[None])[0, 0].numpy()
    np.testing.assert_allclose(fused_luma, (mri / 255 + y) / 2, atol=1.1 / 255)


def test_a_colored_first_source_is_grey_where_the_second_gives_the_colour(tmp_path: Path) -> None:
    """An MRI saved as a colour file with a tint: only its luma counts."""
    write(tmp_path / "a/mri/1.png", colored(0))
    pet = write(tmp_path / "a/pet/1.png", colored(1))
    assert load_pair(open_dataset(tmp_path / "a", task="medical").records[0]).ir_rgb is None
    np.testing.assert_allclose(chroma(run(tmp_path / "a", "medical")["1"]), chroma(pet), atol=1.1 / 255)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_colour_that_is_lost_is_told_once(tmp_path: Path, batch_size: int, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "a"
    for stem, first, second in (("0", colored(0), colored(1)), ("1", colored(2), grey(3)), ("2", colored(4), grey(5))):
        write(root / "first" / f"{stem}.png", first)
        write(root / "second" / f"{stem}.png", second)
    run(root, "multi-focus", batch_size=batch_size)  # both give their colour
    run(root, "medical", color="gray", batch_size=batch_size)
    assert not caplog.messages
    for method in ("mean", "max"):
        run(root, "medical", method, batch_size=batch_size)
    (told,) = caplog.messages
    assert str(root / "first/1.png") in told and "Swap --first and --second" in told


@pytest.mark.parametrize("task", ["medical", "multi-focus", "multi-exposure"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_grey_pairs_give_grey_images_and_colored_ones_beside_them_colour(
    tmp_path: Path, task: str, batch_size: int
) -> None:
    root = tmp_path / "a"
    for stem, first, second in (("1", grey(0), grey(1)), ("2", grey(2), colored(3)), ("3", grey(4), grey(5))):
        write(root / "first" / f"{stem}.png", first)
        write(root / "second" / f"{stem}.png", second)
    write(root / "first/3.png", np.repeat(grey(4)[..., None], 3, axis=2))  # three equal channels are grey too
    fused = run(root, task, batch_size=batch_size)
    assert {stem: image.ndim for stem, image in fused.items()} == {"1": 2, "2": 3, "3": 2}
    assert np.array_equal(fused["1"], run(root, task, color="gray")["1"])
    assert {image.ndim for image in run(root, task, color="gray").values()} == {2}


def test_grey_pairs_of_infrared_and_visible_images_stay_rgb_for_detectors(tmp_path: Path) -> None:
    write(tmp_path / "a/ir/1.png", grey(0))
    write(tmp_path / "a/vi/1.png", grey(1))
    assert run(tmp_path / "a", "ivif")["1"].ndim == 3


def ratio(rgb: np.ndarray) -> np.ndarray:
    """Chroma by luma."""
    y, cb, cr = rgb_to_ycbcr(torch.from_numpy(rgb / 255).permute(2, 0, 1)[None])[0].numpy()
    return (np.stack((cb, cr)) - 0.5) / (y + 0.02)


@pytest.mark.parametrize("method", ["mean", "ir", "vi"])
def test_two_photographs_both_give_their_colour(tmp_path: Path, method: str) -> None:
    """Left sharp here, right sharp there; the other half of each is even, so the sharp one alone decides."""
    near, far = colored(0), colored(1)
    near[:, 18:], far[:, :18] = (90, 120, 140), (140, 120, 90)
    write(tmp_path / "a/near/1.png", near)
    write(tmp_path / "a/far/1.png", far)
    fused = ratio(run(tmp_path / "a", "multi-focus", method)["1"])
    np.testing.assert_allclose(fused[..., :12], ratio(near)[..., :12], atol=0.02)
    np.testing.assert_allclose(fused[..., 24:], ratio(far)[..., 24:], atol=0.02)


def test_exposures_give_the_colour_of_the_scene_not_of_the_burnt_one(tmp_path: Path) -> None:
    """A skin tone, four times too long (red clipped) and eight times too short: the mean image has its hue and saturation."""
    scene = (np.array([200, 140, 110]) / 255) ** 2.2
    for folder, factor in (("over", 4), ("under", 1 / 8)):
        shown = 255 * np.clip(scene * factor, 0, 1) ** (1 / 2.2)
        write(tmp_path / "a" / folder / "1.png", np.tile(np.rint(shown).astype(np.uint8), (20, 20, 1)))
    fused = run(tmp_path / "a", "multi-exposure")["1"]
    np.testing.assert_allclose(ratio(fused)[:, 10, 10], ratio(np.array([[[200, 140, 110]]]))[:, 0, 0], atol=0.03)


def test_joint_chroma_by_its_definition() -> None:
    first, second = (colored(seed)[None].transpose(0, 3, 1, 2) / 255 for seed in (4, 5))
    first = np.clip(first * 1.6, 0, 1)  # some of it clipped
    kernel = -np.ones((3, 3)) / 9
    kernel[1, 1] += 1
    fused = grey(6) / 255

    def weight(rgb: np.ndarray) -> np.ndarray:
        y = np.tensordot([0.299, 0.587, 0.114], rgb[0], 1)
        detail = ndimage.convolve(y, kernel, mode="mirror") ** 2
        headroom = np.clip((1 - rgb[0].max(0)) / 0.12, 0.05, 1)
        return (ndimage.uniform_filter(detail, 11, mode="mirror") + 1e-8) * (y * headroom + 0.01) ** 2

    a, b = weight(first), weight(second)
    ratios = [ratio(255 * image[0].transpose(1, 2, 0)) for image in (first, second)]
    expected = 0.5 + (a * ratios[0] + b * ratios[1]) / (a + b) * (fused + 0.02)
    found = joint_chroma(torch.from_numpy(first), torch.from_numpy(second), torch.from_numpy(fused)[None, None])
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-9)
    black = torch.zeros(1, 3, 3, 3)
    assert torch.equal(joint_chroma(black, black, black[:, :1]), torch.full((1, 2, 3, 3), 0.5))


app = typer.Typer()
app.command()(fuse)


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, FusionDetError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def atlas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "atlas/mri/1.png", grey(0))
    write(tmp_path / "atlas/ct/1.png", grey(1))
    return tmp_path / "atlas"


def test_fuse_command(atlas: Path, tmp_path: Path) -> None:
    out = tmp_path / "fused"
    call("--task", "medical", "--data", atlas, "--method", "mean", "--out", out)
    assert np.asarray(Image.open(out / "1.png")).ndim == 2
    assert json.loads((out / "fusion.json").read_text())["method"]["task"] == "medical"
    files = ("--first", atlas / "mri/1.png", "--second", atlas / "ct/1.png")
    call("--task", "medical", *files, "--method", "mean", "--out", tmp_path / "single")
    assert np.array_equal(np.asarray(Image.open(out / "1.png")), np.asarray(Image.open(tmp_path / "single/1.png")))
    with pytest.raises(ConfigError, match="as pairs of --task medical, not multi-exposure"):
        call("--task", "multi-exposure", *files, "--method", "mean", "--out", out)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--task", "medicine"], r"--task medicine: the tasks are ivif, .* did you mean medical\?"),
        (["--task", "medical", "--first", "mri"], r"--first and --second \(two images or two folders\)"),
        (["--task", "medical", "--first", "no", "--second", "atlas/ct"], "--first no: there is no such file"),
        (["--data", "atlas"], "--task medical"),
        (["--task", "medical", "--data", "atlas/mri"], "has no MRI and PET, SPECT or CT folder side by side"),
    ],
)
def test_errors_name_the_option_and_the_cure(atlas: Path, wrong: list[str], message: str) -> None:
    with pytest.raises(FusionDetError, match=message):
        call(*wrong, "--method", "mean")


def test_the_task_is_part_of_what_an_image_depends_on() -> None:
    of_tasks = [method_identity("mean", task=task) for task in ("ivif", "medical", "multi-focus")]
    assert of_tasks[0] == method_identity("mean")
    assert "task" not in of_tasks[0]
    assert of_tasks[1] != of_tasks[0]
    assert of_tasks[1]["code"] == of_tasks[2]["code"]
    assert of_tasks[1] != of_tasks[2]


def test_a_method_is_told_the_task(tmp_path: Path) -> None:
    mean = build_method("mean")
    assert mean.for_task("medical") is mean
    seen: list[str] = []

    class Told(type(mean)):  # type: ignore[misc]
        def for_task(self, task: str) -> Told:
            seen.append(task)
            return self

    write(tmp_path / "a/near/1.png", grey(0))
    write(tmp_path / "a/far/1.png", grey(1))
    FusionRunner(Told()).run(open_dataset(tmp_path / "a", task="multi-focus").records, tmp_path / "out")
    assert seen == ["multi-focus"]


def test_tc_moa_has_a_gate_for_each_task() -> None:
    method = build_method("tcmoa", weights=None, config="tiny")
    chosen = {task: method.for_task(task) for task in TASKS}
    assert {task: of.task for task, of in chosen.items()} == {
        "ivif": 0, "medical": 0, "multi-exposure": 1, "multi-focus": 2,
    }  # fmt: skip
    assert all(of.network is method.network for of in chosen.values())
    assert method.task == 0, "nobody else's method is changed"
