"""Which pairs a fusion network learns from: shares of several datasets, less what a detector will be tested on.

Every choice is a rank by hash (:func:`fusion_det.data.splits.ranked_by_hash`), so it is the same on every machine, and naming
one more dataset, unless it holds the same images, changes nothing in what is used of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fusion_det.data.cards import read_cards
from fusion_det.data.m3fd import family_of
from fusion_det.data.pair import PairDataset, PairRecord
from fusion_det.data.splits import Split, ranked_by_hash
from fusion_det.errors import ConfigError
from fusion_det.files import digest_json
from fusion_det.tasks import IVIF, split_task


@dataclass(frozen=True)
class Source:
    """A dataset and how much of it may be used at all; the rest is kept for tests that this program knows nothing of."""

    dataset: PairDataset
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"--data {self.dataset.name}={self.share:g}: a share is above 0 and at most 1")


class NamedSource(NamedTuple):
    """A dataset yet to be opened: its name or folder, how much of it may be used, and the task of its pairs."""

    name: str
    share: float
    task: str


class Member(NamedTuple):
    """A pair of a mixture."""

    dataset: str
    record: PairRecord

    @property
    def id(self) -> str:
        """ "roadscene/FLIR_00006" """
        return f"{self.dataset}/{self.record.stem}"


@dataclass(frozen=True)
class Mixture:
    """What is trained on and what the trained network is judged by, and how that came about.

    origins: for every dataset its name, family, content digest, share, ids of both parts, and how many pairs were kept out
        ("excluded": tested on; "repeated": the same images as a pair of a dataset named before).
    """

    train: tuple[Member, ...]
    validation: tuple[Member, ...]
    origins: tuple[dict[str, Any], ...]

    @property
    def digest(self) -> str:
        """Of the ids, the datasets' contents and the parts."""
        return digest_json(self.origins)

    @property
    def families(self) -> tuple[str, ...]:
        """Datasets whose images are trained on, sorted."""
        return tuple(sorted({str(origin["family"]) for origin in self.origins if origin["train"]}))

    @property
    def synthetic(self) -> bool:
        """Whether pictures of the demo are among the pairs."""
        return any(origin["synthetic"] for origin in self.origins)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What is learnt, in the order of the datasets."""
        return tuple(dict.fromkeys(member.record.task for member in self.train))


def parse_source(text: str, task: str = IVIF) -> NamedSource:
    """``"m3fd=0.7"`` as ("m3fd", 0.7, "ivif"), ``"medical:mri_pet"`` as ("mri_pet", 1, "medical").

    Without a number after the last "=" there is no share; without a word and a colon the pairs are of ``task``.

    Raises:
        ConfigError: the word before the colon is no task.
    """
    own_task, text = split_task(text)
    name, equals, number = text.rpartition("=")
    try:
        name, share = (name, float(number)) if equals and name else (text, 1.0)
    except ValueError:
        name, share = text, 1.0
    return NamedSource(name, share, own_task or task)


def open_sources(texts: Iterable[str], opened: Callable[[str, str], PairDataset], task: str = IVIF) -> list[Source]:
    """What :func:`parse_source` makes of some texts, opened. opened: a dataset from its name or folder and its task."""
    return [
        Source(opened(named.name, named.task), named.share) for named in (parse_source(text, task) for text in texts)
    ]


def mix(
    sources: Sequence[Source],
    *,
    validation: int,
    seed: int = 0,
    exclude: Split | None = None,
    tested: Collection[PairRecord] = (),
) -> Mixture:
    """Choose the pairs.

    Of every dataset ``share`` of all its pairs are used, as far as that many are left when the validation and test ids of
    ``exclude`` are out; ``validation`` of the used pairs of all datasets together are held out from training, of several tasks
    at least one pair each. A pair of exactly
    the same images as one that is excluded, or as one of a dataset named before, is never used, whatever its name.

    Args:
        exclude: a detector's split. It bars its ids in every dataset, unless both this dataset and the split's are
            known ones (with a card in ``datasets/``) and differ.
        tested: pairs that are tested on, where they are at hand. What has their images is barred in every dataset, whatever it is
            called; ``exclude`` may then have to do with none of them.
        seed: of the split, not of the training.

    Raises:
        ConfigError: no pairs (of a task) to train on are left, a dataset is there twice, or ``exclude`` has to do with none of
            them.
    """
    names = [source.dataset.name for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"--data {', '.join(twice)}: named twice; give each dataset once, with one share")
    barred = {_key(record) for record in tested}
    if exclude is not None:
        barred |= _excluded(sources, exclude, needed=not tested)
    seen: set[str] = set()
    used: dict[str, list[Member]] = {}
    counts: dict[str, dict[str, int]] = {}
    for source in sources:
        name = source.dataset.name
        allowed = [record for record in source.dataset if _key(record) not in barred]
        fresh = {record.stem: record for record in allowed if _key(record) not in seen}
        seen |= {_key(record) for record in allowed}
        ranked = ranked_by_hash(list(fresh), f"fusion_det/fusion-share/{seed}/{name}/")
        taken = ranked[: round(source.share * len(source.dataset))]
        used[name] = [Member(name, fresh[stem]) for stem in sorted(taken)]
        counts[name] = {
            "excluded": len(source.dataset) - len(allowed),
            "repeated": len(allowed) - len(fresh),
        }
    members = {member.id: member for taken_members in used.values() for member in taken_members}
    if validation < 0 or validation >= len(members):
        raise ConfigError(
            f"--validation {validation} of {len(members)} pairs that may be used leaves none to train on; hold out fewer, or "
            "add --data"
        )
    ranked_members = [members[name] for name in ranked_by_hash(list(members), f"fusion_det/fusion-validation/{seed}/")]
    held_out = {member.id for member in every_task_first(ranked_members)[:validation]}
    _check_tasks(sources, members.values(), held_out, validation)
    return Mixture(
        train=tuple(member for identity, member in members.items() if identity not in held_out),
        validation=tuple(member for identity, member in members.items() if identity in held_out),
        origins=tuple(
            _origin(source, used[source.dataset.name], held_out) | counts[source.dataset.name] for source in sources
        ),
    )


def every_task_first(members: Sequence[Member]) -> list[Member]:
    """The members in their order, but the first one of every task before all others."""
    leaders = {member.record.task: member for member in reversed(members)}
    return sorted(members, key=lambda member: leaders[member.record.task] is not member)


def _check_tasks(
    sources: Sequence[Source], members: Collection[Member], held_out: Collection[str], validation: int
) -> None:
    """ConfigError if a task lacks pairs to learn from, or (where some are held out) to be judged by."""
    tasks = dict.fromkeys(member.record.task for member in members)
    if gone := [source for source in sources if any(record.task not in tasks for record in source.dataset)]:
        named = ", ".join(f"{s.dataset.name}={s.share:g} ({len(s.dataset)} {s.dataset.task} pairs)" for s in gone)
        raise ConfigError(
            f"--data {named}: no pair may be used: the share is too small, or all are tested on or repeated; give a larger "
            "share, add --data of the same task, or leave it out"
        )
    if 0 < validation < len(tasks):
        raise ConfigError(
            f"--validation {validation}: of {len(tasks)} tasks hold out at least one pair each, or none at all"
        )
    left = {member.record.task for member in members if member.id not in held_out}
    if bare := [task for task in tasks if task not in left]:
        raise ConfigError(
            f"--validation {validation} leaves no pair of {', '.join(bare)} to train on; hold out fewer, or add --data"
        )


def _origin(source: Source, used: Iterable[Member], held_out: set[str]) -> dict[str, Any]:
    dataset = source.dataset
    parts: dict[str, list[str]] = {"train": [], "validation": []}
    for member in used:
        parts["validation" if member.id in held_out else "train"].append(member.record.stem)
    return {
        "name": dataset.name,
        "family": dataset.family or dataset.name,
        "content_digest": dataset.content_digest,
        "synthetic": dataset.synthetic,
        "share": source.share,
        **({} if dataset.task == IVIF else {"task": dataset.task}),
        **parts,
    }


def _excluded(sources: Sequence[Source], split: Split, *, needed: bool) -> set[str]:
    """Contents of all pairs that the split tests or validates on; ConfigError if some are ``needed`` and there are none."""
    tested = {*split.ids["val"], *split.ids["test"]}
    known = read_cards()
    split_family = family_of(split.dataset, tested)
    barred: set[str] = set()
    for source in sources:
        family = source.dataset.family or source.dataset.name
        if family in known and split_family in known and family != split_family:
            continue
        barred |= {_key(record) for record in source.dataset if record.stem in tested}
    if needed and not barred:
        whose = f"of {split.dataset} " if split.dataset else ""
        raise ConfigError(
            f"--exclude-split {split.name}: none of its {len(tested)} validation and test ids {whose}is among the pairs of "
            f"{', '.join(source.dataset.name for source in sources)}; leave it out, or name the split of one of them"
        )
    return barred


def _key(record: PairRecord) -> str:
    """What makes a pair the same pair: its images. (Its files, where their contents were not digested.)"""
    return record.content or f"{record.ir}\n{record.vi}"
