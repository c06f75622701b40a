"""What the pipeline costs on top of the trainings: one experiment run whole, over the same trainings called directly.

    python benchmarks/bench_overhead.py --data ../shared/data/roadscene --methods vi,mean --epochs 40 \
        --detector-weights ../shared/data/weights/yolov5n_coco --set detector.model=yolov5n --set detector.imgsz=320

"Directly" is ultralytics' own trainer in a fresh process per training, on the very trees the pipeline exported, with the
same settings and number of threads, then its own validation on val and test. The ratio is wall time over wall time in this
one run; fusing, which has no counterpart there, is listed apart. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DIRECT = """
import json, sys
job = json.load(open(sys.argv[1]))
from ultralytics.utils import SETTINGS, torch_utils
SETTINGS.update({k: False for k in ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")})
torch_utils.NUM_THREADS = job["threads"]
from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator
from ultralytics.nn.tasks import DetectionModel
from fusion_det.detection.pretrained import load_matching, read_state_dict
from pathlib import Path

class Trainer(DetectionTrainer):
    def setup_model(self):
        self.model = self.get_model(cfg=f"{job['model']}.yaml", weights=None, verbose=False)
        if job["weights"]:
            load_matching(self.model, read_state_dict(Path(job["weights"])))

common = dict(data=sys.argv[2], imgsz=job["imgsz"], batch=job["batch"], device=job["device"], iou=job["nms_iou"],
              max_det=job["max_detections"], project=sys.argv[3], exist_ok=True, plots=False)
model = dict(model=f"{job['model']}.yaml", pretrained=False, augmentations=[])
schedule = dict(epochs=job["epochs"], seed=job["seed"], deterministic=True, amp=job["amp"], cache=job["cache"], patience=0)
trainer = Trainer(overrides={**model, **schedule, **common, **job["hyperparameters"]})
trainer.train()
for split in ("val", "test"):
    args = dict(model=str(trainer.best), split=split, save_json=True, conf=0.001, task="detect", mode="val")
    DetectionValidator(args={**args, **common})()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        whole = timed([sys.executable, "-m", "fusion_det.run", *absolute(options), "--jobs", "1"], work)
        again = timed([sys.executable, "-m", "fusion_det.run", *absolute(options), "--jobs", "1"], work)
        fuse = sum(manifest["seconds"] for manifest in manifests(work, "fuse"))
        (work / "direct.py").write_text(DIRECT)
        direct = 0.0
        for file in sorted((work / "runs" / "store" / "train").glob("*/job.json")):
            job = json.loads(file.read_text())["job"]
            (work / "job.json").write_text(json.dumps(job))
            (export,) = (
                f.parent
                for f in (work / "runs/store/export").glob(f"{file.parent.name.split('-seed-')[0]}-*/manifest.json")
            )
            arguments = [str(work / "job.json"), str(export / "yolo" / "data.yaml"), str(work / "direct")]
            environment = {
                "YOLO_OFFLINE": "true",
                "YOLO_CONFIG_DIR": str(work / "config"),
                "OMP_NUM_THREADS": str(job["threads"]),
            }
            direct += timed([sys.executable, str(work / "direct.py"), *arguments], work, environment)
    print(f"direct trainings          {direct:8.1f} s")
    print(f"pipeline, whole           {whole:8.1f} s   of which fusing {fuse:.1f} s")
    print(f"pipeline without fusing   {whole - fuse:8.1f} s   ratio to direct {(whole - fuse) / direct:.3f}")
    print(f"pipeline, nothing to do   {again:8.1f} s")


def absolute(options: list[str]) -> list[str]:
    """The options with existing paths made absolute, since the runs happen in another folder."""
    return [str(Path(o).resolve()) if Path(o).exists() else o for o in options]


def manifests(work: Path, kind: str) -> list[dict[str, float]]:
    return [json.loads(f.read_text()) for f in (work / "runs" / "store" / kind).glob("*/manifest.json")]


def timed(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> float:
    started = time.perf_counter()
    with (folder / "log.txt").open("ab") as log:
        ended = subprocess.run(
            command,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            check=False,
        )
    if ended.returncode:
        sys.exit((folder / "log.txt").read_text()[-3000:])
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
