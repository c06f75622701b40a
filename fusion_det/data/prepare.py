"""Putting a downloaded archive in place: verify, extract safely, validate, and only then rename into position."""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from fusion_det.data.cards import Archive, DatasetCard, read_cards
from fusion_det.data.layout import find_layout
from fusion_det.data.locate import normal_name
from fusion_det.data.pair import PairDataset
from fusion_det.data.readers import READERS, Source, detect_reader
from fusion_det.data.validate import build_dataset
from fusion_det.errors import ConfigError, DatasetError, Problem
from fusion_det.files import folder_lock, replace_folder
from fusion_det.progress import NoProgress, Progress

MAX_UNPACKED = 64 * 2**30
"""Bytes an archive may unpack to; M3FD unpacks to about 9 GB."""
MAX_RATIO = 100
"""Unpacked over packed bytes of the whole archive. Images hardly compress; an archive that does is a bomb."""
_RATIO_MATTERS_FROM = 256 * 2**20
_MEGABYTE = 2**20
_SILENT = NoProgress()


def prepare(
    card: DatasetCard, archive: Path, out: Path, *, checksum: bool = True, progress: Progress = _SILENT
) -> PairDataset:
    """Verify ``archive`` against the card, extract it, validate the dataset and move it to ``out``.

    checksum: False skips the comparison with the card, for archives other than the official one (a mirror's repack).
    out: must not exist, or be an empty folder; nothing is ever overwritten.

    Raises:
        DatasetError: not a zip, wrong checksum, unsafe or damaged members, too little disk space, ``out`` in use, or a
            dataset with problems. Nothing is left behind in any of these cases.
        ConfigError: the card knows no checksum and ``checksum`` was not switched off.
    """
    if not archive.is_file():
        raise DatasetError(f"The archive {archive} does not exist.", cure="Check --zip.")
    _refuse_occupied(out)
    if checksum:
        verify_checksum(card, archive, progress)
    with _new_folder(out) as folder:
        extract_safely(archive, folder, progress)
        return _validated(card, archive, folder, progress)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes ``out``; what a killed process left of an earlier attempt is removed first."""
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(out))
            _refuse_occupied(out)  # another process may have put it there while this one waited
            folder = stack.enter_context(replace_folder(out, stale_after=0))
        except OSError as error:
            raise DatasetError(f"{out} cannot be created: {error.strerror}.", cure="Use --out elsewhere.") from error
        yield folder


def _refuse_occupied(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(
            f"{out} exists and is not empty; nothing is overwritten.", cure="Move it away, or use --out."
        )


def verify_checksum(card: DatasetCard, archive: Path, progress: Progress = _SILENT) -> None:
    """Compare the archive's sha256 with those on the card."""
    if not card.archives:
        raise ConfigError(
            f"No checksum is known for {card.id} ({card.file}). If you trust {archive}, use --no-checksum."
        )
    digest = hashlib.sha256()
    progress.start("verifying the checksum (MB)", archive.stat().st_size // _MEGABYTE)
    with archive.open("rb") as handle:
        while block := handle.read(8 * _MEGABYTE):
            digest.update(block)
            progress.advance(len(block) // _MEGABYTE)
    progress.finish()
    found = digest.hexdigest()
    if found in {known.sha256 for known in card.archives}:
        return
    raise DatasetError(
        f"{archive} is not the official archive of {card.id}.",
        [Problem(archive, f"sha256 is {found}"), *(_expected(archive, known) for known in card.archives)],
        _checksum_cure(card, found),
    )


def extract_safely(archive: Path, out: Path, progress: Progress = _SILENT) -> None:
    """Extract a zip into the empty folder ``out``; every member is checked before the first byte is written.

    Raises:
        DatasetError: absolute paths, paths that leave ``out``, links, encrypted or doubled members, an unpacked size beyond
            :data:`MAX_UNPACKED`, :data:`MAX_RATIO` or the free disk space, or damaged contents.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            members = [member for member in content.infolist() if not _is_clutter(member.filename)]
            _check_members(archive, members, out)
            files = [member for member in members if not member.is_dir()]
            progress.start("extracting", len(files))
            for member in files:
                target = out.joinpath(*PurePosixPath(member.filename).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                # zipfile reads no more than the header declares and checks the CRC, so a lying header is an error
                with content.open(member) as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink, _MEGABYTE)
                progress.advance()
            progress.finish()
    except NotImplementedError as error:  # zipfile's word for Deflate64, which some tools use for large files
        cure = "Unpack it with 7z or unzip, then run `fusion-det data check` on the folder."
        raise DatasetError(
            "The archive's compression is not supported.", [Problem(archive, str(error))], cure
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        cure = "Download it again."
        raise DatasetError("The archive is damaged or not a zip file.", [Problem(archive, str(error))], cure) from error
    except OSError as error:
        raise DatasetError(f"Extracting to {out} failed.", [Problem(archive, error.strerror or str(error))]) from error


def unsafe_reason(member: zipfile.ZipInfo) -> str | None:
    """Why a member must not be extracted; None if it may."""
    name = member.filename
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "has an absolute path"
    if "\\" in name or "\0" in name:
        return "has a backslash or a null byte in its path"
    if ".." in PurePosixPath(name).parts:
        return "leaves the folder (..)"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a special file"
    if member.flag_bits & 0x1:
        return "is encrypted"
    return None


def _check_members(archive: Path, members: Sequence[zipfile.ZipInfo], out: Path) -> None:
    problems = [
        Problem(archive, f"{member.filename!r} {reason}") for member in members if (reason := unsafe_reason(member))
    ]
    seen: set[str] = set()
    for member in members:
        path = str(PurePosixPath(member.filename)).lower()  # case-insensitive disks would overwrite one by the other
        if path in seen:
            problems.append(Problem(archive, f"{member.filename!r} is there twice"))
        seen.add(path)
    if problems:
        raise DatasetError("The archive is not safe to extract.", problems, "Get it from the official source.")
    if not any(not member.is_dir() for member in members):
        raise DatasetError("The archive is empty.", [Problem(archive, "holds no files")])
    unpacked = sum(member.file_size for member in members)
    packed = max(1, archive.stat().st_size)
    if unpacked > MAX_UNPACKED or (unpacked > _RATIO_MATTERS_FROM and unpacked > MAX_RATIO * packed):
        message = f"{packed / 2**20:.0f} MiB claim to unpack to {unpacked / 2**30:.1f} GiB"
        raise DatasetError("The archive looks like a decompression bomb.", [Problem(archive, message)])
    free = shutil.disk_usage(out).free
    if unpacked * 1.02 > free:
        needs = f"needs {unpacked / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
        raise DatasetError(f"Not enough disk space at {out.parent}.", [Problem(archive, needs)], "Use --out elsewhere.")


def _validated(card: DatasetCard, archive: Path, folder: Path, progress: Progress) -> PairDataset:
    """Open the extracted dataset; problems are reported by their path inside the archive."""
    try:
        source = Source(normal_name(card.id), find_layout(folder))
        reader = card.layout if card.layout in READERS else detect_reader(source)
        listing = READERS[reader](source)
        dataset = build_dataset(listing, limit=None, cache_dir=None, progress=progress)
    except DatasetError as error:
        problems = [Problem(_inside(problem.file, folder), problem.message) for problem in error.problems]
        headline = error.headline.replace(str(folder), str(archive))
        raise DatasetError(f"Unpacked, but not usable. {headline}", problems, error.cure) from error
    if card.pairs is not None and len(dataset) != card.pairs:
        counts = f"holds {len(dataset)} pairs, {card.id} has {card.pairs}"
        raise DatasetError(f"{archive} is not the whole of {card.id}.", [Problem(archive, counts)])
    return dataset


def _inside(file: Path, folder: Path) -> Path:
    return file.relative_to(folder) if file.is_relative_to(folder) else file


def _expected(archive: Path, known: Archive) -> Problem:
    return Problem(archive, f"{known.name} has sha256 {known.sha256}")


def _checksum_cure(card: DatasetCard, found: str) -> str:
    for other in read_cards().values():
        for known in other.archives:
            if known.sha256 == found:
                return f"This is {known.name}: use `fusion-det data prepare {other.id} --zip …`."
    return (
        "The download may be incomplete: fetch it again. If it is deliberately another archive (a mirror's repack), "
        f"--no-checksum skips this check; the contents are validated all the same. See {card.file}."
    )


def _is_clutter(name: str) -> bool:
    """What macOS and Windows leave in archives."""
    parts = PurePosixPath(name).parts
    return bool(parts) and (parts[0] == "__MACOSX" or parts[-1] in (".DS_Store", "Thumbs.db", "desktop.ini"))
