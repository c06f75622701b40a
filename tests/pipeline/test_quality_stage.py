"""The quality stage: what it depends on, that it continues, and that its failure is its own."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion_det.assessment.measure import Protocol
from fusion_det.config import FusionConfig, load_experiment
from fusion_det.data import PairDataset, open_folders
from fusion_det.fusion import MethodSpec
from fusion_det.pipeline import quality_stage as module
from fusion_det.pipeline.engine import run_plan
from fusion_det.pipeline.quality_stage import VALUES, quality_stage
from fusion_det.pipeline.stage import Outcome, Slot, Stage
from fusion_det.pipeline.stages import fuse_stage
from fusion_det.pipeline.store import Store

FOUR = Protocol(("SF", "AG", "VIF", "Qabf"))
CPU = (Slot("cpu", 2),)


@pytest.fixture
def dataset(tmp_path: Path) -> PairDataset:
    rng = np.random.default_rng(0)
    for i in range(3):
        for folder, shape in (("ir", (48, 64)), ("vi", (48, 64, 3))):
            file = tmp_path / "pairs" / folder / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(file)
    return open_folders(tmp_path / "pairs" / "ir", tmp_path / "pairs" / "vi")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def fuse(dataset: PairDataset, name: str = "mean", color: str = "gray") -> Stage:
    return fuse_stage(MethodSpec(name), dataset.records, FusionConfig(color=color))  # type: ignore[arg-type]


def ends(store: Store, *stages: Stage) -> list[Outcome]:
    outcomes = run_plan(stages, store, CPU)
    return [outcomes[stage.digest] for stage in stages]


def test_it_runs_once_and_again_only_for_other_images_or_conventions(dataset: PairDataset, store: Store) -> None:
    fused = fuse(dataset)
    stage = quality_stage("mean", dataset.records, FOUR, fused)
    assert [o.state for o in ends(store, fused, stage)] == ["done", "done"]
    assert [o.state for o in ends(store, fused, quality_stage("mean", dataset.records, FOUR, fuse(dataset)))] == [
        "cached"
    ] * 2
    others = [
        quality_stage("mean", dataset.records, Protocol(FOUR.metrics, "zoo"), fused),
        quality_stage("mean", dataset.records, Protocol(("SF",)), fused),
        quality_stage("mean", dataset.records, Protocol(FOUR.metrics, saving="jpeg-75"), fused),
        quality_stage("mean", dataset.records[:2], FOUR, fused),
        quality_stage("mean", dataset.records, FOUR, fuse(dataset, color="ycbcr")),
        quality_stage("max", dataset.records, FOUR, fuse(dataset, "max")),
    ]
    assert len({stage.digest, *(s.digest for s in others)}) == 7


def test_other_code_is_another_result(dataset: PairDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = fuse(dataset)
    before = quality_stage("mean", dataset.records, FOUR, fused).digest
    monkeypatch.setattr(module, "CODE", (*module.CODE, "fusion_det.errors"))
    assert quality_stage("mean", dataset.records, FOUR, fused).digest != before


def test_every_module_of_the_metrics_counts() -> None:
    root = Path(module.__file__).parents[1]
    modules = {f"fusion_det.quality.{file.stem}" for file in (root / "quality").glob("*.py")}
    assert modules - {"fusion_det.quality.__init__"} <= set(module.CODE)


def test_what_those_modules_compute_with_counts_too() -> None:
    root = Path(module.__file__).parents[2]
    decide_nothing = {
        f"fusion_det.{name}" for name in ("errors", "files", "progress", "quality", "data.layout", "data.pair", "tasks")
    }
    for name in module.CODE:
        tree = ast.parse((root / Path(*name.split(".")).with_suffix(".py")).read_text(encoding="utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        used = {node.module for node in imports if (node.module or "").startswith("fusion_det.")}
        used |= {
            f"{node.module}.{a.name}" for node in imports if node.module == "fusion_det.quality" for a in node.names
        }
        known = {u for u in used if (root / Path(*u.split(".")).with_suffix(".py")).is_file()}
        assert known - decide_nothing <= set(module.CODE), name


def test_a_folder_is_measured_where_it_lies_and_again_when_it_changes(
    dataset: PairDataset, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for record in dataset.records:
        Image.open(record.ir).save(folder / f"{record.stem}.png")
    stage = quality_stage("theirs", dataset.records, FOUR, folder)
    (end,) = ends(store, stage)
    assert end.folder is not None
    assert [p.name for p in sorted(end.folder.iterdir())] == ["manifest.json", VALUES]
    Image.open(dataset.records[0].vi).convert("L").save(folder / "0.png")
    changed = quality_stage("theirs", dataset.records, FOUR, folder)
    assert changed.digest != stage.digest
    (folder / "1.png").unlink()
    (end,) = ends(store, quality_stage("theirs", dataset.records, FOUR, folder))
    assert end.state == "failed"
    assert "has no image 1.*" in end.reason


def test_a_killed_stage_continues_after_its_last_image(
    dataset: PairDataset, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusion_det.assessment import measure

    fused = fuse(dataset)
    stage = quality_stage("mean", dataset.records, FOUR, fused)
    real, seen = measure.measure_image, list[str]()

    def fails_late(triple: measure.Triple, *rest: object) -> measure.Values:
        seen.append(triple.stem)
        if triple.stem == "2" and seen.count("2") == 1:
            raise OSError("the power is gone")
        return real(triple, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(measure, "measure_image", fails_late)
    assert [o.state for o in ends(store, fused, stage)] == ["done", "failed"]
    assert store.why_stale(stage) == "interrupted, continues"
    (_, end) = ends(store, fused, stage)
    assert end.state == "done"
    assert sorted(seen) == ["0", "1", "2", "2"]
    assert end.folder is not None
    assert json.loads((end.folder / VALUES).read_text())["stems"] == ["0", "1", "2"]


def test_quality_changes_no_name_and_can_be_left_out() -> None:
    demo = load_experiment("demo")
    assert len(demo.quality.metrics) == 14
    assert (demo.quality.profile, demo.quality.images) == ("paper", "test")
    assert demo.with_changes({"quality.metrics": ("sf", "ms-ssim")}).quality.metrics == ("SF", "MS_SSIM")
