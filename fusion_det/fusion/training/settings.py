"""What can be chosen about a training, and the choices that have names. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from fusion_det.errors import ConfigError

if TYPE_CHECKING:
    from fusion_det.fusion.method import MethodCard

Intensity = Literal["weighted", "brighter"]
"""What the fused image's grey levels are drawn to: both sources, by their information (the paper), or the brighter of the two
at every pixel, which keeps warm bodies white and a bright sky bright where the sources contradict each other."""

Edges = Literal["strength", "direction"]
"""What an edge of the fused image has in common with the stronger one of the sources: its strength (the paper), or its direction
as well, so that bright-to-dark stays bright-to-dark, and nothing is gained by ripples as strong as a texture."""

TrainPrecision = Literal["auto", "float32", "bfloat16"]
"""What the network computes in; losses and the classifier are float32 in any case. "auto": bfloat16 on a GPU that has it."""

Option = bool | int | float | str


@dataclass(frozen=True)
class TermWeights:
    """Factors of the loss's four terms (S4Fusion, Sec. IV-A)."""

    perception: float = 1.0
    l1: float = 15.0
    ssim: float = 15.0
    gradient: float = 15.0


@dataclass(frozen=True)
class TrainSettings:
    """The defaults are S4Fusion's (arXiv:2405.20881, Sec. IV-A); what it does not publish is said here.

    crop: side of the square crops, in pixels. batch: pairs at once; accumulate: batches whose gradients make one step.
    epochs: passes over the training pairs. steps: instead, how many steps there are. minutes: instead, the time that the
        training is fitted to (which makes the number of steps depend on the machine).
    warmup: share of all steps in which the learning rate rises (not published).
    start_rate, peak_rate, final_rate: of :class:`~fusion_det.fusion.training.schedule.WarmupCosine`.
    weight_decay: of AdamW (not published: torch's default). clip: largest norm of the gradient; None does not clip.
    classifier: see :mod:`fusion_det.fusion.training.classifiers`. weights: of the loss's terms.
    perception_from: share of all steps after which the perception term comes in; it rises to its weight over the next tenth
        of them. From the first step on (0, as published) it can teach a network that knows nothing yet to draw a pattern of
        which the classifier is certain, and nothing else.
    intensity: what grey levels are drawn to. information: weigh the sources by what the classifier finds in them, as
        published; if False both weigh one half.
    edges: what the gradient term compares.
    ema: decay of the moving average of the weights, which is then what is judged and saved; None saves the weights themselves.
    seed: of the network's first weights, of the order of the pairs, and of crops and flips.
    sample_every: epochs between two sheets of sample pictures.
    options: of this method's training alone, by name; see ``Recipe.options``.
    """

    crop: int = 229
    batch: int = 20
    accumulate: int = 1
    epochs: int = 800
    steps: int | None = None
    minutes: float | None = None
    warmup: float = 0.05
    start_rate: float = 3e-4
    peak_rate: float = 1.5e-3
    final_rate: float = 6e-4
    weight_decay: float = 0.01
    clip: float | None = None
    classifier: str = "resnet50"
    weights: TermWeights = field(default_factory=TermWeights)
    perception_from: float = 0.0
    intensity: Intensity = "weighted"
    information: bool = True
    edges: Edges = "strength"
    ema: float | None = None
    precision: TrainPrecision = "auto"
    seed: int = 0
    sample_every: int = 10
    options: Mapping[str, Option] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for option in ("crop", "batch", "accumulate", "epochs", "sample_every"):
            if getattr(self, option) < 1:
                raise ConfigError(f"--{option.replace('_', '-')} {getattr(self, option)}: at least 1")
        if self.steps is not None and (self.steps < 1 or self.minutes is not None):
            raise ConfigError(f"--steps {self.steps}: at least 1, and not together with --minutes")
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigError(f"--minutes {self.minutes:g}: more than 0")
        if not 0 <= self.perception_from < 1:
            raise ConfigError(
                f"--perception-from {self.perception_from:g}: a share of the training, from 0 to less than 1"
            )
        if self.intensity not in get_args(Intensity):
            raise ConfigError(f"--intensity {self.intensity}: use {' or '.join(get_args(Intensity))}")
        if self.edges not in get_args(Edges):
            raise ConfigError(f"--edges {self.edges}: use {' or '.join(get_args(Edges))}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"--ema {self.ema:g}: between 0 and 1, for instance 0.999")
        if self.precision not in get_args(TrainPrecision):
            raise ConfigError(f"--precision {self.precision}: use {', '.join(get_args(TrainPrecision))}")

    def as_json(self) -> dict[str, Any]:
        tree = asdict(self)
        for later in ("steps", "options"):
            if not tree[later]:
                del tree[later]  # as it was before there was such a setting, so that trainings begun then can go on
        return tree


_SMALL_CROP, _SMALL_BATCH = 128, 4


def presets(card: MethodCard | None) -> dict[str, TrainSettings]:
    """What a network can be trained as, by name; None for one that is not known yet.

    "small" is the published way with less at once: crops of about 128 pixels, four pairs a batch, gradients clipped at 1, and
    a classifier whose weights a package holds in the place of one that is to be downloaded.
    """
    from fusion_det.fusion.method import padded_size

    own = {} if card is None else card.training
    paper = own.get("paper", TrainSettings())
    crop = min(paper.crop, _SMALL_CROP)
    small = replace(
        paper,
        crop=crop if card is None else padded_size(crop, card),
        batch=min(paper.batch, _SMALL_BATCH),
        epochs=100,
        clip=1.0 if paper.clip is None else paper.clip,
        classifier="none" if paper.classifier == "none" else "efficientnet_lite0",
    )
    return {"paper": paper, "small": small, **own}


def preset(name: str, card: MethodCard | None, **changes: Any) -> TrainSettings:
    """A preset of a network (see :func:`presets`) with some of its settings changed; those that are None are left as they are.

    Raises:
        ConfigError: no such preset, or a setting that makes no sense.
    """
    known = presets(card)
    if name not in known:
        raise ConfigError(f"--preset {name}: use {' or '.join(known)}")
    return replace(known[name], **{option: value for option, value in changes.items() if value is not None})


def changed(settings: TrainSettings, assignments: Iterable[str]) -> TrainSettings:
    """Settings after ``["ema=0.999", "weights.perception=0", "options.NAME=1", …]``; values are YAML (``null`` for none).

    Raises:
        ConfigError: not NAME=VALUE, an unknown name, or a value that makes no sense.
    """
    import yaml

    tree = {"options": {}, **settings.as_json()}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: write NAME=VALUE")
        part, _, term = name.rpartition(".")
        if part and part != "options" and (part != "weights" or term not in tree["weights"]):
            raise ConfigError(
                f"--set {text}: the weights are {', '.join(f'weights.{known}' for known in tree['weights'])}"
            )
        (tree[part] if part else tree)[term] = yaml.safe_load(value)
    return settings_from_json(tree)


def settings_from_json(tree: dict[str, Any]) -> TrainSettings:
    """The inverse of :meth:`TrainSettings.as_json`; what is not named is as its default.

    Raises:
        ConfigError: an unknown setting, one of another type, or one that makes no sense.
    """
    from pydantic import TypeAdapter, ValidationError

    weights = tree.get("weights")
    unknown = sorted(tree.keys() - TrainSettings.__dataclass_fields__.keys())
    if isinstance(weights, dict):
        unknown += sorted(f"weights.{name}" for name in weights.keys() - TermWeights.__dataclass_fields__.keys())
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: no setting of fusion training")
    try:
        return TypeAdapter(TrainSettings).validate_python(tree)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{'.'.join(map(str, first['loc'])) or 'settings'}: {first['msg']}") from error
