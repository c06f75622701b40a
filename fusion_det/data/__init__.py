"""Pairs of images: readers, validation, splits, export. Knows neither fusion methods nor detectors."""

from fusion_det.data.census import census
from fusion_det.data.ground_truth import coco_ground_truth
from fusion_det.data.images import load_pair
from fusion_det.data.leakage import leakage
from fusion_det.data.opening import open_annotations, open_dataset, open_folders
from fusion_det.data.pair import M3FD_CLASSES, Boxes, Pair, PairDataset, PairRecord
from fusion_det.data.splits import Split, make_split
from fusion_det.data.yolo_export import export_yolo

__all__ = [
    "M3FD_CLASSES",
    "Boxes",
    "Pair",
    "PairDataset",
    "PairRecord",
    "Split",
    "census",
    "coco_ground_truth",
    "export_yolo",
    "leakage",
    "load_pair",
    "make_split",
    "open_annotations",
    "open_dataset",
    "open_folders",
]
