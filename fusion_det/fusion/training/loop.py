"""One training, step by step, from wherever it is; what surrounds it is in :mod:`~fusion_det.fusion.training.trainer`.

Lightning's Fabric puts network and batches on the device and sets the precision. The loop is ours and not Lightning's
``Trainer``, which, resumed, begins to read an epoch before it has told the sampler which one it is, and turns Ctrl-C into an
exit: here the state after a step is everything that the next step depends on, so a training that is killed and resumed is the
one that was not.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader

from fusion_det.data.color import luma
from fusion_det.errors import StageError
from fusion_det.fusion.method import FusionMethod, MethodCard
from fusion_det.fusion.training.data import Batch, batches_from
from fusion_det.fusion.training.losses import FusionLoss, LossTerms
from fusion_det.fusion.training.schedule import WarmupCosine, parameter_groups, ramp
from fusion_det.fusion.training.settings import TrainSettings
from fusion_det.seeds import derive_seed

Row = dict[str, float]
"""A line of the training curve; see :func:`fusion_det.fusion.training.records.write_curve`."""


@dataclass
class Progress:
    """How far a training is: all of its state beside weights and optimiser.

    total: steps of the whole training. step: those that are done. seconds: training time so far.
    sums: losses added up over the ``counted`` batches since the last row.
    best: lowest loss by which a checkpoint was kept, and best_step its step.
    """

    total: int
    step: int = 0
    seconds: float = 0.0
    temperature: float | None = None
    rows: list[Row] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    counted: int = 0
    best: float | None = None
    best_step: int = 0


class WeightAverage:
    """Moving average of parameters; its decay grows from 0.1 to ``decay``, so that the first weights are soon forgotten."""

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.values = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [parameter.detach() for parameter in self.parameters], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Average and parameters change places."""
        for value, parameter in zip(self.values, self.parameters, strict=True):
            parameter.data, value.data = value.data, parameter.data


class TrainingLoop:
    """A network in training.

    Args:
        method: untrained; its network is put on the device and trained.
        loader: training crops, of :func:`~fusion_det.fusion.training.data.crop_loader`.
        fabric: launched, with one device.
    """

    def __init__(
        self,
        method: FusionMethod,
        network: nn.Module,
        loader: DataLoader[Batch],
        loss: FusionLoss,
        settings: TrainSettings,
        progress: Progress,
        fabric: Fabric,
    ) -> None:
        self.card: MethodCard = method.card
        self.settings, self.progress, self.fabric, self.loader = settings, progress, fabric, loader
        self.loss = loss.to(fabric.device)
        optimizer = torch.optim.AdamW(parameter_groups(network, settings.weight_decay), lr=settings.peak_rate)
        self.network, self.optimizer = fabric.setup(network, optimizer)
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.average = None if settings.ema is None else WeightAverage(self.parameters, settings.ema)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.loader) // self.settings.accumulate)

    @property
    def schedule(self) -> WarmupCosine:
        s = self.settings
        warmup = round(s.warmup * self.progress.total)
        return WarmupCosine(self.progress.total, warmup, s.start_rate, s.peak_rate, s.final_rate)

    def state(self) -> dict[str, Any]:
        """Tensors and plain containers: all that :meth:`restore` needs."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.values,
            "progress": dict(vars(self.progress)),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.values = [value.to(self.fabric.device) for value in state["average"]]
        self.progress = Progress(**state["progress"])

    def run(self, after_step: Callable[[], bool]) -> None:
        """Train until all steps are done, or ``after_step`` returns False.

        Raises:
            StageError: loss or gradient became NaN or infinite: names the pairs of that step, which is not taken. Or the
                device's memory is too small.
        """
        batches = batches_from(self.loader, self.progress.step * self.settings.accumulate)
        while self.progress.step < self.progress.total:
            started = time.perf_counter()
            try:
                self._step(batches)
            except torch.OutOfMemoryError as error:
                raise StageError(
                    f"{self.fabric.device} has not enough memory for {self.settings.batch} crops of {self.settings.crop} "
                    f"pixels: use a smaller --batch, and --accumulate for as many pairs a step"
                ) from error
            self.progress.seconds += time.perf_counter() - started
            if not after_step():
                return

    def _step(self, batches: Iterator[Batch]) -> None:
        progress, accumulate = self.progress, self.settings.accumulate
        self.network.train()
        ids: list[str] = []
        sums: Counter[str] = Counter()
        for part in range(accumulate):
            batch = next(batches)
            ids += batch.ids
            # A network may draw random numbers (dropout): those of this batch, not of what happened before it.
            torch.manual_seed(derive_seed("step", self.settings.seed, progress.step, part))
            terms = self.losses(batch, ramp(progress.step, progress.total, self.settings.perception_from))
            self._check_finite(terms.total.detach(), "loss", ids)
            self.fabric.backward(terms.total / accumulate)
            sums.update({name: float(value) for name, value in terms.values().items()})
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip or float("inf"))
        self._check_finite(norm, "gradient", ids)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule(progress.step + 1)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        if self.average is not None:
            self.average.update(progress.step)
        progress.counted += accumulate
        progress.sums = {name: progress.sums.get(name, 0.0) + value for name, value in sums.items()}

    def losses(self, batch: Batch, perception: float = 1.0) -> LossTerms:
        """The loss of a batch of crops; in the network's precision as far as the fused image, in float32 from there."""
        ir, vi = (self.fabric.to_device(images) for images in (batch.ir, batch.vi))
        visible = luma(vi)
        fused = self.network(ir, visible if self.card.fuses == "luma" else vi)
        if self.card.fuses == "rgb":
            fused = luma(fused)
        return self.loss(ir, visible, fused.float(), perception)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """With the average of the weights in the network's place, where one is kept."""
        if self.average is None:
            yield
            return
        self.average.swap()
        try:
            yield
        finally:
            self.average.swap()

    @torch.no_grad()
    def validate(self, loader: DataLoader[Batch]) -> dict[str, float]:
        """Mean losses over all validation crops."""
        self.network.eval()
        sums: Counter[str] = Counter()
        count = 0
        for batch in loader:
            size = len(batch.ids)
            sums.update({name: float(value) * size for name, value in self.losses(batch).values().items()})
            count += size
        return {name: value / count for name, value in sums.items()}

    def measure(self, steps: int = 3) -> float:
        """Seconds that a step takes: forward and backward of the first batches, without learning from them."""
        kept = {name: value.clone() for name, value in self.network.state_dict().items()}
        batches = batches_from(self.loader, 0)
        self.network.train()
        seconds = []
        for _ in range(1 + steps):
            started = time.perf_counter()
            for _ in range(self.settings.accumulate):
                total = self.losses(next(batches)).total
                self.fabric.backward(total / self.settings.accumulate)
                float(total.detach())  # waits for the device
            self.optimizer.zero_grad(set_to_none=True)
            seconds.append(time.perf_counter() - started)
        self.network.load_state_dict(kept)
        return sum(seconds[1:]) / steps  # the first one compiles and allocates

    def _check_finite(self, value: torch.Tensor, what: str, ids: list[str]) -> None:
        if bool(torch.isfinite(value)):
            return
        self.optimizer.zero_grad(set_to_none=True)
        raise StageError(
            f"the {what} became {float(value)} in step {self.progress.step + 1} (learning rate "
            f"{self.schedule(self.progress.step + 1):.2g}), on the pairs {', '.join(ids)}. Look at these images; if they are "
            "sound, train with --clip 1, a lower --peak-rate, or --precision float32"
        )
