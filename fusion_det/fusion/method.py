"""What a fusion method is: a card that describes it and one call, ``fuse``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from fusion_det.errors import ConfigError, MethodError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from fusion_det.fusion.explanation import Explanation
    from fusion_det.fusion.training.recipe import Recipe
    from fusion_det.fusion.training.settings import TrainSettings

Precision = Literal["float32", "bfloat16", "float16"]
"""What a network computes in. Colour, padding and rounding around it are float32 in any case."""


@dataclass(frozen=True)
class PublishedFile:
    """A further file of published weights, which belongs into the folder of the first.

    git_blob, sha256, url: as of :class:`WeightsInfo`. needed: nothing can be fused without it; otherwise the card says for what
        it is.
    """

    file: str
    git_blob: str | None = None
    sha256: str | None = None
    url: str | None = None
    needed: bool = True


@dataclass(frozen=True)
class WeightsInfo:
    """Where a learned method's weights come from and how the right file is recognised.

    origin: URL or sentence a person can follow. file: path below ``weights/<method>/``.
    git_blob / sha256: digest of the official file (git blob id, or sha256), where known. licence: SPDX id or a sentence.
    trained_on: dataset ids whose images the weights have seen ("msrs", "m3fd", …), for the contamination column.
    url: address of exactly these bytes, from which ``fusion-det weights get`` fetches them and checks the digest; None where
        there is none that lasts (a cloud drive, a branch that moves).
    beside: further files, where the weights were published as several.
    """

    origin: str
    file: str
    licence: str
    git_blob: str | None = None
    sha256: str | None = None
    trained_on: tuple[str, ...] = ()
    url: str | None = None
    beside: tuple[PublishedFile, ...] = ()


@dataclass(frozen=True)
class MethodCard:
    """Everything a table or a person needs to know about a method without importing its code.

    name: identifier on the command line and in files. label: the name in print ("S4Fusion").
    abbreviation: column head in the manner of Table VI ("S4F").
    family: interaction family ("control", "arithmetic", "multi-scale", "cnn", "transformer", "mamba", "diffusion", "external").
    fuses: "luma" (fuse gets and returns (B,1,H,W)) or "rgb" (gets vi as (B,3,H,W), returns (B,3,H,W)).
    size_multiple, size_remainder: the runner pads H and W to the next size ≡ ``size_remainder`` modulo ``size_multiple``,
        and crops the result back. min_size: smaller images are padded up to it.
    padding, padding_side: what is put there, and where: at the right and bottom ("end"), or on both sides, the smaller half
        before the image ("both").
    weights: the published file for the first of ``configs``; None for methods that learn nothing.
    explains: it can say how it fused a pair; see :meth:`FusionMethod.explain`.
    seconds_per_megapixel: about what fusing takes on two CPU cores, by configuration, for plans; what is not named is light.
    table_vi: this method's mAP@50 in percent in Table VI of the S4Fusion paper, if it is there.
    order: position in tables (controls first, then as the paper prints them, then the project's own).
    configs: names of the network's variants, the default one first; the factory of a method that has some takes ``config=NAME``.
    notes: deviations from the published procedure that a reader of a table must know.
    official: what the published inference procedure does differently from the runner's common protocol (colour, sizes,
        stretching), in one sentence; "" for a method that has none of its own. See :meth:`FusionMethod.fuse_officially`.
    training: presets of its own: "paper" as it was published (S4Fusion's if there is none), and others by name. See
        :func:`fusion_det.fusion.training.settings.preset`.
    """

    name: str
    label: str
    abbreviation: str
    title: str
    family: str
    fuses: Literal["luma", "rgb"]
    authors: str = ""
    venue: str = ""
    year: int | None = None
    arxiv: str | None = None
    size_multiple: int = 1
    size_remainder: int = 0
    min_size: int = 1
    padding: Literal["reflect", "replicate", "zero"] = "reflect"
    padding_side: Literal["end", "both"] = "end"
    weights: WeightsInfo | None = None
    configs: tuple[str, ...] = ()
    explains: bool = False
    seconds_per_megapixel: Mapping[str, float] = field(default_factory=dict, hash=False)
    table_vi: float | None = None
    order: int = 1000
    notes: str = ""
    official: str = ""
    training: Mapping[str, TrainSettings] = field(default_factory=dict, hash=False)


class FusionMethod(ABC):
    """A method ready to fuse. It sees tensors only: never a path, a colour space it did not declare, or a size to restore."""

    card: MethodCard
    network: nn.Module | None = None
    """The published network (learned methods): children under the official names, ``forward(ir, vi)`` the raw output."""
    config: str = ""
    """Which of the card's ``configs`` the network is."""
    checkpoint_key: str | None = None
    """Entry of the published file that holds the state dict; None for a file that is one."""
    trained: bool = True
    """False for a network built with ``weights=None``; the runner refuses to fuse with it."""
    weights_file: Path | None = None
    dtype: torch.dtype | None = None
    """What the network computes in, where it is not float32: the runner gives ``fuse`` images of this dtype."""
    steps: int = 1
    """Of about equal length, that :meth:`fuse` takes for a batch: more than one if it is a sampler, which may take hours. Can be
    set: with fewer steps the same network fuses worse and sooner."""
    after_step: Callable[[], None] | None = None
    """Set by whoever waits: a method of several steps calls it after each of them. What it raises ends the fusion."""
    float32_parameters: frozenset[str] = frozenset()
    """Last parts of the names of parameters that stay float32 at a lower precision."""

    def load_weights(self, file: Path) -> None:
        """Load a checkpoint into ``network``, strictly. Methods whose files are of another kind override it.

        Raises:
            MethodError: ``file`` is not this method's checkpoint; the message says what differs.
        """
        if self.network is None:
            raise MethodError(
                f"{self.card.name} learns nothing and takes no weights, so {file} cannot be loaded into it"
            )
        from fusion_det.fusion.checkpoint import load_checkpoint

        config = self.config or None
        load_checkpoint(self.network, file, key=self.checkpoint_key, method=self.card.name, config=config)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> None:
        """Move what ``fuse`` needs to ``device``, and put the network into evaluation mode, in a lower precision if asked."""
        if self.network is None:
            return
        self.network.to(device).eval()
        if dtype is None:
            return
        self.dtype = dtype
        for name, tensor in (*self.network.named_parameters(), *self.network.named_buffers()):
            if tensor.is_floating_point() and name.rpartition(".")[2] not in self.float32_parameters:
                tensor.data = tensor.data.to(dtype)

    def for_task(self, task: str) -> FusionMethod:
        """This method as it fuses pairs of a task (:data:`fusion_det.tasks.TASKS`): itself, for those that know no tasks."""
        return self

    @abstractmethod
    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """Fuse a batch.

        Args:
            ir: (B,1,H,W) float in [0,1].
            vi: (B,1,H,W) luma if ``card.fuses == "luma"``, else (B,3,H,W) RGB; float in [0,1], same B, H, W, device and dtype.

        Returns:
            (B,1,H,W) luma or (B,3,H,W) RGB as declared, nominally in [0,1] (the runner clips). What is returned for one
            pair does not depend on the other pairs of the batch, and is the same every time.
        """

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        """How ``network`` is trained. Methods with published losses override it; this is S4Fusion's way, for any network.

        Args:
            classifier_weights: of ``settings.classifier``, if not the usual ones.

        Raises:
            MethodError: there is no network to train. ConfigError: settings, or weights, that cannot be had.
        """
        from fusion_det.fusion.training.classifiers import build_classifier
        from fusion_det.fusion.training.default import DefaultRecipe

        if self.network is None:
            raise MethodError(f"{self.card.name} keeps its network to itself (no .network), so it cannot be trained")
        classifier = build_classifier(settings.classifier, classifier_weights)
        return DefaultRecipe(settings, self.network, classifier, color=self.card.fuses == "rgb")

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        """The image that the published inference script would have written: its own conversions, sizes and stretching.

        Methods whose card tells what is ``official`` override it.

        Args:
            ir, vi: uint8 as they are stored: (H,W) grey or (H,W,3) RGB, of one size.

        Returns:
            uint8 (H,W) or (H,W,3) RGB, of that size unless the card says otherwise.

        Raises:
            MethodError: the method has no procedure of its own.
        """
        raise MethodError(f"{self.card.name} has no inference procedure of its own: its protocol is the common one")

    def explain(self, ir: torch.Tensor, vi: torch.Tensor) -> Explanation:
        """What happened inside while one pair was fused, for ``fusion-det explain``. Methods whose card ``explains`` override it.

        Args:
            ir, vi: as :meth:`fuse` takes them, a batch of one.

        Raises:
            MethodError: this method, or this configuration of it, has nothing to tell.
        """
        raise MethodError(f"{self.card.name} offers no explanation")


def padded_size(size: int, card: MethodCard) -> int:
    """The smallest size that the method takes (a multiple plus a remainder) and that is at least ``size`` and ``min_size``."""
    wanted = max(size, card.min_size)
    return wanted + (card.size_remainder - wanted) % card.size_multiple


def used_precision(card: MethodCard, asked: str) -> Precision:
    """The precision a method computes in when ``asked`` for one: only networks have a choice.

    Raises:
        ConfigError: ``asked`` is no precision.
    """
    if asked not in get_args(Precision):
        raise ConfigError(f"--dtype {asked}: use {', '.join(get_args(Precision))}")
    return "float32" if card.weights is None else asked  # type: ignore[return-value]
