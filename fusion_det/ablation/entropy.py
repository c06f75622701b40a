"""How sure a classifier is of fused images: the entropy that the perception loss makes smaller (S4Fusion, Eq. 14 and Fig. 13)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from fusion_det.assessment.images import grey_levels, read_pixels
from fusion_det.fusion.training.classifiers import Classifier
from fusion_det.fusion.training.losses import entropy
from fusion_det.progress import NoProgress, Progress


def image_entropies(images: Iterable[torch.Tensor], classifier: Classifier) -> Iterator[float]:
    """Entropy in nats of the classifier's softmax for each image, between 0 (certain) and log(classes) (no idea).

    Args:
        images: (1,H,W) grey in [0,1] each, of any sizes. The classifier sees all of an image, at its own size.
    """
    device = classifier.mean.device
    for image in images:
        with torch.inference_mode():
            yield float(entropy(classifier(image[None].to(device)))[0])


def file_entropies(
    files: Mapping[str, Path], classifier: Classifier, progress: Progress | None = None
) -> dict[str, float]:
    """Stem → entropy of an 8-bit image file; of colour its luma is taken.

    Raises:
        DatasetError: a file cannot be read.
    """
    shown = progress or NoProgress()
    shown.start("entropy", len(files))
    images = (torch.from_numpy(grey_levels(read_pixels(file)))[None].float() / 255 for file in files.values())
    found = {}
    for stem, nats in zip(files, image_entropies(images, classifier), strict=True):
        found[stem] = nats
        shown.advance()
    shown.finish()
    return found


def density(values: np.ndarray, at: np.ndarray, high: float) -> np.ndarray:
    """Density of (n,) values in [0, high] at points (m,): Gaussian kernels, mirrored at both ends so that none of it is lost.

    The bandwidth is Silverman's (1986, Eq. 3.31); values that are all alike get one of a hundredth of the range.
    """
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    between = np.subtract(*np.percentile(values, [75, 25])) / 1.34
    width = 0.9 * (min(spread, between) or spread) * len(values) ** -0.2 or high / 100
    mirrored = np.concatenate([values, -values, 2 * high - values])
    kernels = np.exp(-0.5 * ((at[:, None] - mirrored) / width) ** 2)
    return kernels.sum(1) / (len(values) * width * math.sqrt(2 * math.pi))
