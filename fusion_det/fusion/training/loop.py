"""One training, step by step, from wherever it is; what surrounds it is in :mod:`~fusion_det.fusion.training.trainer`.

What is learnt is a :class:`~fusion_det.fusion.training.recipe.Recipe`. Lightning's Fabric puts networks and batches on the
device and sets the precision. The loop is ours and not Lightning's
``Trainer``, which, resumed, begins to read an epoch before it has told the sampler which one it is, and turns Ctrl-C into an
exit: here the state after a step is everything that the next step depends on, so a training that is killed and resumed is the
one that was not.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.utils._pytree import tree_map_only
from torch.utils.data import DataLoader

from fusion_det.data.color import luma
from fusion_det.errors import StageError
from fusion_det.fusion.training.data import Batch, batches_from
from fusion_det.fusion.training.recipe import Moment, Phase, Recipe, Sources, Terms
from fusion_det.fusion.training.schedule import parameter_groups
from fusion_det.fusion.training.settings import TrainSettings
from fusion_det.seeds import derive_seed

Row = dict[str, float]
"""A line of the training curve; see :func:`fusion_det.fusion.training.records.write_curve`."""


@dataclass
class Progress:
    """How far a training is: all of its state beside weights and optimiser.

    total: steps of the whole training. step: those that are done. seconds: training time so far.
    recipe: the recipe's own state. sums: losses added up over the ``counted`` batches since the last row.
    best: lowest loss of this phase by which a checkpoint was kept, and best_step its step.
    """

    total: int
    step: int = 0
    seconds: float = 0.0
    recipe: dict[str, float] = field(default_factory=dict)
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
    """A recipe at work.

    Args:
        recipe: of an untrained method; its networks are put on the device and trained.
        loader: training crops, of :func:`~fusion_det.fusion.training.data.crop_loader`.
        fabric: launched, with one device.
    """

    def __init__(
        self, recipe: Recipe, loader: DataLoader[Batch], settings: TrainSettings, progress: Progress, fabric: Fabric
    ) -> None:
        self.recipe, self.settings, self.progress, self.fabric, self.loader = recipe, settings, progress, fabric, loader
        for module in (recipe.networks, *recipe.helpers()):
            fabric.to_device(module)
        self.parameters = {
            name: [parameter for parameter in module.parameters() if parameter.requires_grad]
            for name, module in recipe.networks.items()
        }
        groups = [
            {**group, "network": name}
            for name, module in recipe.networks.items()
            for group in parameter_groups(module, settings.weight_decay)
        ]
        self.optimizer = recipe.optimizer(groups)
        everything = [parameter for parameters in self.parameters.values() for parameter in parameters]
        self.average = None if settings.ema is None else WeightAverage(everything, settings.ema)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.loader) // self.settings.accumulate)

    @property
    def phase_ends(self) -> list[int]:
        """Number of the last step of each phase."""
        shares = [phase.share for phase in self.recipe.phases]
        return [round(self.progress.total * share / sum(shares)) for share in itertools.accumulate(shares)]

    def moment(self, step: int) -> Moment:
        """Where the training is at a step; the first is 1."""
        ends = self.phase_ends
        index = next(i for i, end in enumerate(ends) if step <= end)
        return Moment(step, self.progress.total, index, begun=ends[index - 1] if index else 0, ended=ends[index])

    @property
    def phase(self) -> Phase:
        """That of the step taken last."""
        return self.recipe.phases[self.moment(self.progress.step).phase]

    @property
    def rate(self) -> float:
        """The learning rate of that step."""
        return self.recipe.rate(self.phase.learns[0], self.moment(self.progress.step))

    def state(self) -> dict[str, Any]:
        """Tensors and plain containers: all that :meth:`restore` needs."""
        self.progress.recipe = self.recipe.state()
        return {
            "network": self.recipe.networks.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.values,
            "progress": dict(vars(self.progress)),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.recipe.networks.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.values = [value.to(self.fabric.device) for value in state["average"]]
        self.progress = Progress(**state["progress"])
        self.recipe.restore(self.progress.recipe)

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
        moment = self.moment(progress.step + 1)
        phase = self._enter(moment)
        ids: list[str] = []
        sums: Counter[str] = Counter()
        for part in range(accumulate):
            batch = next(batches)
            ids += batch.ids
            # A network may draw random numbers (dropout): those of this batch, not of what happened before it.
            torch.manual_seed(derive_seed("step", self.settings.seed, progress.step, part))
            terms = self.losses(self.recipe.vary(self.sources(batch)), phase, moment.done)
            self._check_finite(terms["total"].detach(), "loss", ids)
            self.fabric.backward(terms["total"] / accumulate)
            sums.update({name: float(value.detach()) for name, value in terms.items()})
        self._clip(phase, ids)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(group["network"], moment)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.recipe.after_step()
        progress.step += 1
        if self.average is not None:
            self.average.update(progress.step)
        progress.counted += accumulate
        progress.sums = {name: progress.sums.get(name, 0.0) + value for name, value in sums.items()}

    def _enter(self, moment: Moment) -> Phase:
        """Let those networks learn that do in this phase, and no others."""
        phase = self.recipe.phases[moment.phase]
        if moment.step == moment.begun + 1 and moment.phase:
            self.progress.best = None  # losses of another phase are another thing
        for name, network in self.recipe.networks.items():
            network.train(name in phase.learns)
            for parameter in self.parameters[name]:
                parameter.requires_grad_(name in phase.learns)
        return phase

    def _clip(self, phase: Phase, ids: list[str]) -> None:
        parts = [self.parameters[name] for name in phase.learns]
        for parameters in parts if self.recipe.clip_each else [list(itertools.chain(*parts))]:
            norm = nn.utils.clip_grad_norm_(parameters, self.settings.clip or float("inf"))
            self._check_finite(norm, "gradient", ids)

    def sources(self, batch: Batch) -> Sources:
        """A batch of crops on the device."""
        ir, vi = (self.fabric.to_device(images) for images in (batch.ir, batch.vi))
        return Sources(ir, vi, luma(vi), batch.tasks[0])

    def losses(self, sources: Sources, phase: Phase, done: float) -> Terms:
        """The loss of a batch: the networks compute in their precision, what comes after them in float32."""
        with self.fabric.autocast():
            output = phase.forward(sources)
        return phase.loss(sources, tree_map_only(torch.Tensor, torch.Tensor.float, output), done)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """With the average of the weights in the networks' place, where one is kept."""
        if self.average is None:
            yield
            return
        self.average.swap()
        try:
            yield
        finally:
            self.average.swap()

    @torch.no_grad()
    def validate(self, loader: DataLoader[Batch], phase: Phase) -> dict[str, float]:
        """Mean losses of a phase over all validation crops; of several tasks the mean of their means, and each total as well."""
        self.recipe.networks.eval()
        sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
        counts: Counter[str] = Counter()
        for batch in loader:
            size, task = len(batch.ids), batch.tasks[0]
            # A loss may draw random numbers; those of every validation are the same.
            torch.manual_seed(derive_seed("validation", self.settings.seed, counts.total()))
            terms = self.losses(self.sources(batch), phase, 1.0)
            sums[task].update({name: float(value) * size for name, value in terms.items()})
            counts[task] += size
        means = {task: {name: value / counts[task] for name, value in sums[task].items()} for task in sums}
        if len(means) == 1:
            return next(iter(means.values()))
        row = {name: fmean(mean[name] for mean in means.values()) for name in next(iter(means.values()))}
        return row | {f"total_{task}": mean["total"] for task, mean in means.items()}

    def measure(self, steps: int = 3) -> float:
        """Seconds that a step takes, over all phases: forward and backward of some batches, without learning from them."""
        kept = {name: value.clone() for name, value in self.recipe.networks.state_dict().items()}
        batches = batches_from(self.loader, 0)
        seconds = 0.0
        ends = self.phase_ends
        for index, phase in enumerate(self.recipe.phases):
            self._enter(Moment(0, self.progress.total, index, ended=ends[index]))
            spent = [self._time_step(batches, phase) for _ in range(1 + steps)]
            seconds += phase.share * sum(spent[1:]) / steps  # the first one compiles and allocates
        self.recipe.networks.load_state_dict(kept)
        return seconds / sum(phase.share for phase in self.recipe.phases)

    def _time_step(self, batches: Iterator[Batch], phase: Phase) -> float:
        started = time.perf_counter()
        for _ in range(self.settings.accumulate):
            total = self.losses(self.recipe.vary(self.sources(next(batches))), phase, 1.0)["total"]
            self.fabric.backward(total / self.settings.accumulate)
            float(total.detach())  # waits for the device
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - started

    def _check_finite(self, value: torch.Tensor, what: str, ids: list[str]) -> None:
        if bool(torch.isfinite(value)):
            return
        self.optimizer.zero_grad(set_to_none=True)
        step = self.progress.step + 1
        rate = self.recipe.rate(self.recipe.phases[self.moment(step).phase].learns[0], self.moment(step))
        raise StageError(
            f"the {what} became {float(value)} in step {step} (learning rate {rate:.2g}), on the pairs {', '.join(ids)}. Look "
            "at these images; if they are sound, train with --clip 1, a lower --peak-rate, or --precision float32"
        )
