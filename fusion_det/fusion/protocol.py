"""How images are fused: by the runner's common protocol, or by the procedure that a method's authors published.

The common protocol (:mod:`fusion_det.fusion.frame`) is what makes rows of a table comparable. The official one is for
comparing with published images: the method gets the pixels as they are stored, and what it gives is written as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from fusion_det.data.images import read_samples
from fusion_det.data.pair import PairRecord
from fusion_det.errors import ConfigError, DatasetError, MethodError, Problem
from fusion_det.fusion.method import MethodCard

Protocol = Literal["common", "official"]

_LUMA = np.array([0.299, 0.587, 0.114])


class StoredPair(NamedTuple):
    """Pixels as files hold them: uint8, (H,W) grey or (H,W,3) RGB each, of one size."""

    ir: np.ndarray
    vi: np.ndarray


def check_protocol(protocol: str, card: MethodCard, dtype: str = "float32") -> None:
    """Raise unless a method can fuse by a protocol.

    Raises:
        ConfigError: there is no such protocol, or the official one in another precision than the authors'.
        MethodError: the method has no published procedure of its own.
    """
    if protocol not in get_args(Protocol):
        raise ConfigError(f"--protocol {protocol}: use {' or '.join(get_args(Protocol))}")
    if protocol == "common":
        return
    if reason := missing_procedure(card):
        raise MethodError(f"{card.name}: {reason}")
    if dtype != "float32":
        raise ConfigError(
            f"--dtype {dtype}: published procedures compute in float32; leave out --dtype or --protocol official"
        )


def own_protocol(card: MethodCard, asked: Protocol) -> Protocol:
    """What ``asked`` means for one of many methods: "official" for those that have a procedure of their own."""
    return "official" if asked == "official" and card.official else "common"


def missing_procedure(card: MethodCard) -> str:
    """Why ``--protocol official`` is not for this method, and what is; "" if it is."""
    if card.official:
        return ""
    return (
        "no inference procedure of its own was published, its protocol is the common one; leave out --protocol official"
    )


def load_stored_pair(record: PairRecord) -> StoredPair:
    """Read the pixels of a pair as they are stored.

    Raises:
        DatasetError: a file has become unreadable, has another size than when the dataset was checked, or more than 8 bits.
    """
    pair = StoredPair(read_stored(record.ir), read_stored(record.vi))
    changed = [
        Problem(file, f"is {image.shape[1]}×{image.shape[0]} now, was {record.width}×{record.height} when checked")
        for file, image in zip((record.ir, record.vi), pair, strict=True)
        if image.shape[:2] != (record.height, record.width)
    ]
    if changed:
        raise DatasetError(f"Pair {record.stem} has changed since it was checked.", changed)
    return pair


def read_stored(file: Path) -> np.ndarray:
    """uint8 (H,W) of a grey file, (H,W,3) RGB of any other. DatasetError if it is unreadable or has more than 8 bits."""
    samples = read_samples(file)
    stored = np.rint(samples * 255).astype(np.uint8)
    if not np.array_equal(stored.astype(np.float32) / np.float32(255), samples):
        problem = Problem(file, "has more than 8 bits, which no published procedure is for; use the common protocol")
        raise DatasetError("An image cannot be fused by --protocol official.", [problem])
    return stored


def finished(image: np.ndarray, record: PairRecord, card: MethodCard, *, gray: bool) -> np.ndarray:
    """What is written of a published procedure's result: all of it, or with ``gray`` the luma of a colour image, rounded.

    Raises:
        MethodError: the result is no 8-bit image of the pair's size.
    """
    size = record.height, record.width
    is_image = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not is_image or image.shape not in (size, (*size, 3)):
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise MethodError(
            f"the published procedure of {card.name} returned {got} for {record.stem}; an image of the pair's size, uint8 "
            f"{size} or {(*size, 3)}, is needed"
        )
    return np.floor(image @ _LUMA + 0.5).astype(np.uint8) if gray and image.ndim == 3 else image
