"""From a list of methods to what each costs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from fusion_det.efficiency.flops import FlopCount, count_flops
from fusion_det.efficiency.job import Job, Measurement
from fusion_det.efficiency.launch import run_job
from fusion_det.efficiency.parameters import ParameterCount, count_parameters, random_pair
from fusion_det.efficiency.settings import EfficiencySettings
from fusion_det.errors import FusionDetError, MethodError
from fusion_det.fusion import (
    FusionMethod,
    MethodCard,
    MethodSpec,
    build_method,
    get_card,
    parse_configs,
    resolve_device,
)
from fusion_det.fusion.build import chosen_config
from fusion_det.fusion.method import padded_size
from fusion_det.machine import available_cores
from fusion_det.progress import NoProgress, Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cost:
    """A row of the table.

    config: None for methods without variants. size: height and width that the network computes at.
    parameters, flops, measurement: None where there is nothing to count (no network), or where ``problem`` says why.
    """

    card: MethodCard
    config: str | None
    size: tuple[int, int]
    parameters: ParameterCount | None = None
    flops: FlopCount | None = None
    measurement: Measurement | None = None
    problem: str = ""


def rows_of(specs: Sequence[MethodSpec], settings: EfficiencySettings) -> list[tuple[MethodCard, str | None]]:
    """The methods and configurations to measure, each once: what a method costs does not depend on its weights.

    Raises:
        MethodError: a ``NAME=FOLDER``, of which there is nothing to measure, or an unknown configuration.
    """
    folders = [spec.name for spec in specs if spec.folder is not None]
    if folders:
        raise MethodError(f"--methods {folders[0]}=…: images of a folder cost nothing to fuse; leave it out")
    chosen = parse_configs((f"{k}={v}" for k, v in settings.configs.items()), [spec.method for spec in specs])
    rows: list[tuple[MethodCard, str | None]] = []
    for spec in specs:
        card = get_card(spec)
        if settings.all_configs and card.name not in chosen:
            rows += [(card, config) for config in card.configs or (None,)]
        else:
            rows.append((card, chosen_config(card, spec.weights, chosen.get(card.name))))
    return list(dict.fromkeys(rows))


def assess(
    rows: Sequence[tuple[MethodCard, str | None]],
    settings: EfficiencySettings,
    modules: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[Cost]:
    """Count and measure method after method; one that fails becomes a row that says why.

    Args:
        modules: ``--method-module`` values, for the measuring processes.

    Raises:
        ConfigError: a device this machine does not have.
    """
    shown = progress or NoProgress()
    device = resolve_device(settings.device)
    shown.start("measuring" if settings.measure else "counting", len(rows))
    costs = []
    for card, config in rows:
        shown.advance(0, " ".join(filter(None, [card.name, config])))
        costs.append(_cost(card, config, settings, device, modules))
        shown.advance()
    shown.finish()
    return costs


def _cost(
    card: MethodCard, config: str | None, settings: EfficiencySettings, device: str, modules: Sequence[str]
) -> Cost:
    height, width = settings.size
    parameters = flops = measurement = None
    problem = ""
    try:
        parameters, flops = count(card.name, config, height, width)
        if settings.measure:
            job = Job(
                method=card.name,
                config=config,
                modules=tuple(modules),
                height=height,
                width=width,
                device=device,
                dtype=settings.dtype,
                threads=settings.threads or available_cores(),
                warmup=settings.warmup,
                repeats=settings.repeats,
                seconds=settings.seconds,
            )
            measurement = run_job(job)
    except FusionDetError as error:
        problem = str(error)
    except Exception as error:  # a stranger's network may raise anything, which must not cost the other rows
        log.info("counting %s failed", card.name, exc_info=True)
        problem = f"counting failed: {type(error).__name__}: {error}"
    size = padded_size(height, card), padded_size(width, card)
    return Cost(card, config, size, parameters, flops, measurement, problem)


def count(name: str, config: str | None, height: int, width: int) -> tuple[ParameterCount, FlopCount | None]:
    """Parameters of a method, and operations of fusing one pair of this size, padded as the runner pads it.

    The network is untrained, and its operations are counted on the "meta" device, without computing; a method that looks at
    values, which are not there, fuses one random pair on the CPU instead. None: no network, and no operations of the kinds
    that are counted would tell anything about the method. Of a sampler one step is counted, and multiplied.
    """
    method = _untrained(name, config)
    steps, method.steps = method.steps, 1
    parameters = count_parameters(method)
    if method.network is None:
        return parameters, None
    method.network.to("meta")
    pair = random_pair(method, height, width, "meta")
    try:
        return parameters, count_flops(lambda: method.fuse(*pair)).times(steps)
    except (RuntimeError, TypeError) as error:  # what torch raises for a value or a kernel that meta tensors have not
        log.info("%s cannot be counted without computing (%s)", name, error)
    method = _untrained(name, config)
    method.steps = 1
    pair = random_pair(method, height, width, "cpu")
    return parameters, count_flops(lambda: method.fuse(*pair)).times(steps)


def _untrained(name: str, config: str | None) -> FusionMethod:
    method = build_method(name, weights=None, config=config)
    if not isinstance(method, FusionMethod):
        raise MethodError(f"{name}: images of a folder, nothing to count")
    return method
