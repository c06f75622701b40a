"""What is put into the package: half precision, the training's card, figures of the held-out pairs by task."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="Lightning is not installed")

from PIL import Image
from training_jobs import job_of

from fusion_det.data import open_dataset
from fusion_det.errors import ConfigError
from fusion_det.fusion.checkpoint import read_checkpoint
from fusion_det.fusion.training.mixture import Source, mix
from fusion_det.fusion.training.ship import held_out_pairs, main
from fusion_det.fusion.training.trainer import train

pytestmark = pytest.mark.usefixtures("fresh_registry")


def write_large_pairs(root: Path, folders: tuple[str, str], count: int = 4) -> Path:
    """Large enough for the five levels of MS-SSIM."""
    rng = np.random.default_rng(len(folders[0]))
    for i in range(count):
        for folder in folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8))
            coarse.resize((192, 192), Image.Resampling.BICUBIC).save(root / folder / f"{i}.png")
    return root


def test_weights_are_shipped_with_figures_of_every_task(tmp_path: Path) -> None:
    folders = {"ivif": ("ir", "vi"), "multi-focus": ("near", "far")}
    data = {task: write_large_pairs(tmp_path / task, names) for task, names in folders.items()}
    job = job_of(data["ivif"], tmp_path / "out", "smc_mamba", config="tiny", crop=32, epochs=1, validation=1)
    sources = [Source(open_dataset(str(root), task=task)) for task, root in data.items()]
    train(replace(job, mixture=mix(sources, validation=2)))
    named = [f"{task}:{root}" for task, root in data.items()]
    main(tmp_path / "out" / "best.safetensors", named, None, tmp_path / "package")

    state, strings = read_checkpoint(tmp_path / "package" / "shipped.safetensors")
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float16}
    assert json.loads(strings["card"])["method"] == "smc_mamba"
    card = json.loads((tmp_path / "package" / "shipped.json").read_text())
    assert set(card["figures"]) == {"ivif", "multi-focus"}
    for task in card["figures"].values():
        assert task["pairs"] == 1
        assert set(task["mean"]) == {"smc_mamba", "mean", "max", "laplacian", "gff"}
        assert all(np.isfinite(list(values.values())).all() for values in task["mean"].values())
    with pytest.raises(ConfigError, match="is not among"):
        held_out_pairs(card, named[:1])
