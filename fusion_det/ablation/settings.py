"""What ``fusion-det ablation`` trains and measures, as data: ``pipelines/ablation.yaml`` is an instance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fusion_det.ablation.paper import TABLE_V
from fusion_det.assessment.settings import MeasuredSet
from fusion_det.config import FusionConfig, FusionTrainingConfig, QualityConfig, checked
from fusion_det.errors import ConfigError
from fusion_det.quality.table import Profile

BUDGET = frozenset({"steps", "epochs", "minutes", "crop", "batch", "accumulate", "seed"})
"""Settings of a training that no variant may have to itself: what is compared has learnt equally long from equally much."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Variant(_Section):
    """A row: a configuration of the network, a change of its training, or both."""

    name: str = Field(pattern=_NAME)
    label: str = ""
    """In print; "" for the name."""
    config: str | None = None
    """Configuration of the network; None for its default one."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What is different in its training, by the names of
    :class:`fusion_det.fusion.training.settings.TrainSettings`: ``{weights: {perception: 0}}``."""
    paper_row: str = ""
    """Its row in Table V of the S4Fusion paper."""

    @field_validator("settings")
    @classmethod
    def _budget_is_common(cls, value: dict[str, Any]) -> dict[str, Any]:
        if own := sorted(BUDGET & value.keys()):
            raise ValueError(f"{', '.join(own)}: the same for every variant; name it under training")
        return value

    @field_validator("paper_row")
    @classmethod
    def _printed(cls, value: str) -> str:
        known = [row.label for row in TABLE_V.rows]
        if value and value not in known:
            raise ValueError(f"{value!r} is no row of Table V: {', '.join(known)}")
        return value

    @property
    def text(self) -> str:
        return self.label or self.name


class EntropyConfig(_Section):
    """The figure of the classifier's entropy over fused images (Fig. 13)."""

    variants: tuple[str, ...] = Field(min_length=1)
    """Names of those whose images are compared."""
    classifier: str | None = None
    """None: the one that the training's loss looks through."""
    classifier_weights: Path | None = None
    """A file instead of its usual weights."""


class AblationSettings(_Section):
    """Every setting and its default."""

    command: Literal["ablation"] = "ablation"
    """Whose settings a file holds, so that ``fusion_det.run`` can tell them from an experiment of its own."""
    name: str = Field(default="ablation", pattern=_NAME)
    title: str = ""
    method: str = "s4fusion"
    variants: tuple[Variant, ...] = ()
    reference: str = ""
    """The variant that the others are compared with; "" for the last."""
    training: FusionTrainingConfig = FusionTrainingConfig()
    """The same for every variant, but for what a variant changes. The pairs that are held out choose nothing: the last
    weights of a training are taken."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """One training for every variant and seed; none: that of ``training``, which also chooses the pairs."""
    measured: MeasuredSet | None = None
    """Pairs to fuse and measure; None: those that ``training`` holds out. They are never learnt from."""
    fusion: FusionConfig = FusionConfig(color="gray")
    """Grey by default: it is what the metrics look at."""
    metrics: tuple[str, ...] = ("SF", "AG", "VIF", "Qabf")
    profile: Profile = "paper"
    entropy: EntropyConfig | None = None
    pictures: int = Field(default=4, ge=0)
    """Of how many measured pairs pictures are shown."""
    picture_ids: tuple[str, ...] = ()
    """Pairs that are shown in any case, by stem."""

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return QualityConfig(metrics=value).metrics

    @model_validator(mode="after")
    def _consistent(self) -> AblationSettings:
        names = [variant.name for variant in self.variants]
        if not names:
            raise ValueError("variants: needs at least one")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"variants: {', '.join(twice)} is there twice")
        named = [self.reference] * bool(self.reference) + list(self.entropy.variants if self.entropy else ())
        if unknown := [name for name in named if name not in names]:
            raise ValueError(f"{', '.join(unknown)}: none of the variants {', '.join(names)}")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: a number is there twice in {list(self.seeds)}")
        if not self.training.data:
            raise ValueError("training.data: name the pairs to learn from, [TASK:]DATASET[=SHARE] each")
        if self.training.when != "never" or self.training.config is not None or self.training.methods:
            raise ValueError(
                "training: every variant is trained, in its own config; leave out when, config and methods"
            )
        if self.measured is None and not self.training.validation:
            raise ValueError("nothing to measure: hold out pairs (training.validation), or name a measured set")
        for variant in self.variants:
            try:
                training_of(self.training, variant, 0)
            except (ConfigError, ValueError) as error:
                raise ValueError(f"variants.{variant.name}: {error}") from error
        return self

    @property
    def compared_with(self) -> str:
        """Name of the reference."""
        return self.reference or self.variants[-1].name

    @property
    def training_seeds(self) -> tuple[int, ...]:
        return self.seeds or (self.training.seed,)

    def with_changes(self, changes: dict[str, Any]) -> AblationSettings:
        """A copy with settings replaced, those of ``training`` one by one; checked like a file.

        Raises:
            ConfigError: an impossible value.
        """
        tree = self.model_dump()
        training = tree["training"] | changes.get("training", {})
        return checked(
            AblationSettings, {**tree, **changes, "training": training}, "the options given", "fusion-det ablation"
        )


def training_of(training: FusionTrainingConfig, variant: Variant, seed: int) -> FusionTrainingConfig:
    """How one variant is trained.

    Raises:
        ConfigError, ValueError: a setting that is not known, or makes no sense.
    """
    own = dict(variant.settings)
    beside = {name: own.pop(name) for name in ("classifier", "classifier_weights") if name in own}
    settings = dict(training.settings)
    for name, value in own.items():
        before = settings.get(name)
        settings[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    tree = training.model_dump() | beside | {"config": variant.config, "seed": seed, "settings": settings}
    return FusionTrainingConfig.model_validate(tree)
