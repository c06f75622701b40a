"""An experiment as data: every setting and every default, in one place. ``pipelines/*.yaml`` are instances."""

from __future__ import annotations

import difflib
import importlib.util
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fusion_det.errors import ConfigError, QualityError
from fusion_det.fusion.method import MethodCard
from fusion_det.fusion.training.settings import TrainSettings, preset, settings_from_json
from fusion_det.quality.table import FORMULAS, Profile, find_metrics

HYPERPARAMETERS = {
    "optimizer": "SGD",
    "lr0": 0.01,
    "lrf": 0.01,
    "momentum": 0.937,
    "weight_decay": 0.0005,
    "warmup_epochs": 3.0,
    "nbs": 64,
    "close_mosaic": 10,
}
"""YOLOv5's published training settings (the S4Fusion paper states none of its own)."""

OURS_TO_SET = frozenset(
    {
        *("model", "data", "epochs", "imgsz", "batch", "device", "workers", "seed", "deterministic", "amp", "cache"),
        *("iou", "conf", "max_det", "plots", "save", "val", "patience", "pretrained", "project", "name", "exist_ok"),
        *(
            "verbose",
            "resume",
            "time",
            "fraction",
            "split",
            "single_cls",
            "classes",
            "compile",
            "save_period",
            "mode",
            "task",
        ),
    }
)
"""ultralytics arguments that the protocol fixes; naming one under ``hyperparameters`` is an error, not a silent override."""


def _training_arguments() -> frozenset[str]:
    """Names of ultralytics' arguments, read from its own list without importing it; empty if that is not to be found."""
    spec = importlib.util.find_spec("ultralytics")
    if spec is None or spec.origin is None:
        return frozenset()
    file = Path(spec.origin).parent / "cfg" / "default.yaml"
    return frozenset(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.is_file() else frozenset()


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataConfig(_Section):
    source: str = "m3fd"
    """Dataset id (looked up below ``datasets/`` and ``$FUSION_DET_DATA``), a folder, or "demo"."""
    reader: Literal["m3fd", "coco", "folder", "demo"] | None = None
    """None: recognised by the folder's layout."""
    limit: int | None = Field(default=None, ge=1)
    """Use only the first N labelled pairs. Stamped into every result."""
    demo_scenes: int = Field(default=120, ge=10)
    """Number of scenes drawn when ``source`` is "demo"."""
    demo_seed: int = 0


class SplitConfig(_Section):
    name: Literal["random-712", "scene-712", "official"] = "random-712"
    seed: int = 0
    file: Path | None = None
    """A split somebody else made; overrides ``name`` and ``seed``."""


class FusionConfig(_Section):
    color: Literal["ycbcr", "gray"] = "ycbcr"
    """Fused luma with the visible image's chroma, or grey images."""
    protocol: Literal["common", "official"] = "common"
    """Official: methods with a published inference procedure of their own fuse by it (their colour, sizes and stretching), the
    others by the common protocol. Rows say which it was; their differences are then no longer the methods' alone."""
    weights: dict[str, Path] = Field(default_factory=dict)
    """Method → checkpoint, where it is not in its usual place."""
    batch_size: int = Field(default=1, ge=1)
    workers: int = Field(default=2, ge=1)


class FusionTrainingConfig(_Section):
    """Training of fusion networks within the experiment; pairs of its own val and test parts are never learnt from."""

    when: Literal["missing", "never"] = "never"
    """missing: networks without official and shipped weights are trained. never: they are rows without figures that say what
    can be done. ``NAME@trained`` is trained in any case."""
    data: tuple[str, ...] = ()
    """Pairs to learn from, ``DATASET``, ``DATASET=SHARE`` or ``TASK:DATASET`` each; none: the experiment's own."""
    validation: int = Field(default=0, ge=0)
    """Pairs held out, by which the best weights are chosen; with 0 the last ones are taken."""
    config: str | None = None
    """Variant of the networks that have it ("tiny"); the others are trained as they are by default."""
    preset: str = "small"
    steps: int | None = None
    epochs: int | None = None
    minutes: float | None = None
    """At most one of these three; minutes give other weights on another machine."""
    crop: int | None = None
    """Side of the squares, in pixels; each network takes the next larger one that it can."""
    batch: int | None = None
    classifier: str | None = None
    """What the loss sees images through; "none" works without any download."""
    classifier_weights: Path | None = None
    seed: int = Field(default=0, ge=0)
    settings: dict[str, Any] = Field(default_factory=dict)
    """Any other of :class:`fusion_det.fusion.training.settings.TrainSettings`, by name."""
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Method → settings of its training alone, over all others: ``{emma: {steps: 40, options: {sensing_width: 16}}}``."""
    workers: int = Field(default=1, ge=0)
    """Processes that read pairs; 0 reads between the steps."""

    def variant(self, card: MethodCard) -> str | None:
        """The full name of the configuration that a network is trained in; None if it has none."""
        return self.config if self.config in card.configs else next(iter(card.configs), None)

    def resolved(self, card: MethodCard | None = None) -> TrainSettings:
        """The settings of a network's training: its preset's, with what is named here changed.

        Raises:
            ConfigError: settings that make no sense.
        """
        named = ("steps", "epochs", "minutes", "crop", "batch", "classifier", "seed")
        given = {name: value for name in named if (value := getattr(self, name)) is not None}
        tree = preset(self.preset, card).as_json()
        for changes in (given, self.settings, {} if card is None else self.methods.get(card.name, {})):
            for name, value in changes.items():
                inner = isinstance(value, dict) and isinstance(tree.get(name), dict)
                tree[name] = {**tree[name], **value} if inner else value
        return settings_from_json(tree)

    @model_validator(mode="after")
    def _possible(self) -> FusionTrainingConfig:
        if sum(value is not None for value in (self.steps, self.epochs, self.minutes)) > 1:
            raise ValueError("give one of steps, epochs and minutes")
        if again := sorted(self.settings.keys() & type(self).model_fields.keys()):
            raise ValueError(f"settings: {', '.join(again)} stands beside settings, not in it")
        try:
            self.resolved()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self


class DetectorConfig(_Section):
    model: Literal["yolov5n", "yolov5s", "yolov5m", "yolov5l", "yolov5x"] = "yolov5s"
    weights: str = "auto"
    """auto (ultralytics' COCO-pretrained file), scratch, demo, or a file."""
    epochs: int = Field(default=40, ge=1)
    imgsz: int = Field(default=640, ge=64, multiple_of=32)
    batch: int = Field(default=16, ge=1)
    """Images per step. There is no automatic batch: it would differ between machines, and so would the figures."""
    amp: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the GPU has it, else full precision."""
    cache: Literal["ram", "disk", "none"] = "ram"
    workers: int = Field(default=8, ge=0)
    nms_iou: float = Field(default=0.7, gt=0, lt=1)
    confidence: float = Field(default=0.001, gt=0, lt=1)
    max_detections: int = Field(default=300, ge=1)
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """ultralytics training arguments, over the defaults of ``HYPERPARAMETERS``."""

    @field_validator("hyperparameters")
    @classmethod
    def _defaults_below(cls, value: dict[str, Any]) -> dict[str, Any]:
        if fixed := sorted(OURS_TO_SET & value.keys()):
            raise ValueError(f"{', '.join(fixed)}: set by the protocol (see the other detector settings), not here")
        if (known := _training_arguments()) and (unknown := sorted(value.keys() - known)):
            near = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{', '.join(unknown)}: no training argument of ultralytics{hint}")
        return {**HYPERPARAMETERS, **value}


class QualityConfig(_Section):
    """Quality of the fused images (no detector involved): which metrics, by which conventions, on which images."""

    images: Literal["test", "all", "none"] = "test"
    """Of the split. Test: the images mAP is measured on. None: quality is not measured."""
    metrics: tuple[str, ...] = ("all",)
    """Names of :data:`fusion_det.quality.METRICS`; "all": the fourteen that need nothing but the images."""
    profile: Profile = "paper"
    """Conventions, see :data:`fusion_det.quality.Profile`."""

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [name for item in value for name in (FORMULAS if item.casefold() == "all" else (item,))]
        if not names:
            raise ValueError("needs at least one name")
        try:
            return tuple(metric.name for metric in find_metrics(names))
        except QualityError as error:
            raise ValueError(str(error)) from error


class ReportConfig(_Section):
    overlay_ids: tuple[str, ...] = ()
    """Test images always shown (M3FD: 00215, as in the paper's Fig. 11)."""
    disagreement_rows: int = Field(default=4, ge=0)
    """Further test images: those on which the methods disagree most."""
    confidence: float = Field(default=0.25, gt=0, lt=1)
    """Detections below it are not drawn."""

    @field_validator("overlay_ids", mode="before")
    @classmethod
    def _ids_are_text(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and not all(isinstance(v, str) for v in value):
            raise ValueError('ids are text: quote them, ["00215"] (YAML reads 00215 as a number)')
        return value


class Experiment(_Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    data: DataConfig = DataConfig()
    methods: tuple[str, ...] = ("all",)
    """Registered names, globs, "all"; ``NAME@official``, ``NAME@shipped``, ``NAME@trained`` and ``NAME@FILE`` for certain
    weights; ``NAME=FOLDER`` for somebody's fused images."""
    split: SplitConfig = SplitConfig()
    fusion: FusionConfig = FusionConfig()
    fusion_training: FusionTrainingConfig = FusionTrainingConfig()
    detector: DetectorConfig = DetectorConfig()
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Detector seeds: one training per method and seed."""
    quality: QualityConfig = QualityConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: needs one or more different numbers, got {list(self.seeds)}")
        if not self.methods:
            raise ValueError("methods: needs at least one name")
        return self

    def with_changes(self, changes: dict[str, Any]) -> Experiment:
        """A copy with dotted settings replaced, ``{"detector.epochs": 10}``; checked like a file.

        Raises:
            ConfigError: unknown setting or impossible value.
        """
        tree = self.model_dump(mode="python")
        for dotted, value in changes.items():
            node = tree
            *parents, leaf = dotted.split(".")
            for key in parents:
                if not isinstance(node.get(key), dict):
                    raise ConfigError(f"--set {dotted}: there is no section {key!r}")
                node = node[key]
            node[leaf] = value
        return checked(Experiment, tree, "the options given", "an experiment")


def experiments_dir() -> Path:
    """Folder of the experiment files: ``pipelines/`` of the repository, or the copy inside an installed package."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent / "pipelines", package / "_pipelines"):
        if (folder / "demo.yaml").is_file():
            return folder
    raise ConfigError(f"no pipelines/ folder beside {package}; reinstall fusion_det")


def load_experiment(name_or_file: str | Path) -> Experiment:
    """Read an experiment by name (``demo``, ``table_vi``) or file.

    Raises:
        ConfigError: no such experiment (names those that exist), malformed YAML, or a setting that makes no sense.
    """
    path = Path(name_or_file)
    if path.suffix not in (".yaml", ".yml"):
        path = experiments_dir() / f"{name_or_file}.yaml"
    if not path.is_file():
        known = ", ".join(experiment_names())
        raise ConfigError(
            f"no experiment {str(name_or_file)!r} ({path} does not exist). Known: {known}; or give a .yaml file"
        )
    tree = read_settings(path)
    if (command := tree.get("command", "run")) != "run":
        raise ConfigError(f"{path} is not for run, but for fusion-det {command}: use fusion-det {command} -e {path}")
    return checked(Experiment, {"name": path.stem, **tree}, str(path), "an experiment")


def experiment_names() -> list[str]:
    """The experiments in ``pipelines/``; files there that are for another command than run say so, and are left out."""
    return [p.stem for p in sorted(experiments_dir().glob("*.yaml")) if "command" not in read_settings(p)]


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, unchecked. ConfigError for malformed YAML, or anything but a mapping."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: an experiment is a mapping of settings, found {type(tree).__name__}")
    return tree


Settings = TypeVar("Settings", bound=BaseModel)


def checked(kind: type[Settings], tree: dict[str, Any], origin: str, what: str) -> Settings:
    """The settings in ``tree``, validated; ConfigError "``origin``: not valid for ``what``", with a line for each fault."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        lines = [f"  - {'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors()]
        raise ConfigError("\n".join([f"{origin}: not valid for {what}", *lines])) from error


def load_command_settings(kind: type[Settings], command: str, name_or_file: str | Path) -> Settings:
    """Settings of the verb ``fusion-det COMMAND``: of a name in ``pipelines/``, or of a YAML file.

    Raises:
        ConfigError: no such file, malformed YAML, a file for another command, or a setting that makes no sense.
    """
    path = Path(name_or_file)
    if path.suffix not in (".yaml", ".yml"):
        path = experiments_dir() / f"{name_or_file}.yaml"
    if not path.is_file():
        raise ConfigError(f"-e {name_or_file}: {path} does not exist; -e {command} is pipelines/{command}.yaml")
    tree = read_settings(path)
    if (found := tree.get("command", "run")) != command:
        raise ConfigError(f"{path} is not for {command}, but for fusion-det {found}")
    named = {"name": path.stem, **tree} if "name" in kind.model_fields else tree
    return checked(kind, named, str(path), f"fusion-det {command}")
