"""Fetching published weights that have a lasting address: continued where it broke off, and checked before it is put in place."""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fusion_det.errors import MethodError
from fusion_det.files import folder_lock
from fusion_det.fusion.method import MethodCard, WeightsInfo
from fusion_det.fusion.weights import single_files, weights_places, wrong_digest
from fusion_det.progress import NoProgress, Progress

TIMEOUT = 60.0
"""Seconds without any answer after which a connection is given up."""

_BLOCK = 1 << 18
_MEBIBYTE = 1 << 20
_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Fetched:
    """The published file in its place. new: whether it was fetched now; it was there already otherwise."""

    file: Path
    new: bool


def fetch_weights(card: MethodCard, root: Path | None = None, progress: Progress | None = None) -> Fetched:
    """Fetch the published weights of a method, all files of them, and put them where they are looked for.

    What arrives is kept beside that place (``.FILE.part``) until it is whole and has the published digest, so that a broken
    connection costs only what had not arrived yet. Two processes that want the same file fetch it once.

    Args:
        root: folder of all weights, if not the first in which they are looked for.

    Raises:
        MethodError: nothing to fetch, no address, another file in that place, no connection, or not the published file; the
            message names the address, and the place where a file fetched in another way belongs.
    """
    if card.weights is None:
        raise MethodError(f"{card.name} learns nothing, so there are no weights to get")
    optional = {part.file for part in card.weights.beside if not part.needed and part.url is None}
    singles = [single for single in single_files(card) if single.weights and single.weights.file not in optional]
    fetched = [_fetch_file(single, single.weights, root, progress) for single in singles if single.weights]
    return Fetched(fetched[0].file, new=any(one.new for one in fetched))


def _fetch_file(card: MethodCard, info: WeightsInfo, root: Path | None, progress: Progress | None) -> Fetched:
    place = weights_places(card)[0] if root is None else root / card.name / info.file
    address = _address(card, info, place)
    with folder_lock(place):
        if place.is_file():
            wrong = wrong_digest(card, place)
            if wrong is None:
                return Fetched(place, new=False)
            raise MethodError(
                f"{place} is there already and is not the published file: its {wrong}; move it away, then run this again"
            )
        partial = place.with_name(f".{place.name}.part")
        continued = partial.is_file()
        _fetch(card, address, partial, place, progress or NoProgress())
        if continued and wrong_digest(card, partial) is not None:
            partial.unlink()  # the first part may have been of another file
            _fetch(card, address, partial, place, progress or NoProgress())
        _check(card, address, partial, place)
        partial.replace(place)
    return Fetched(place, new=True)


def _address(card: MethodCard, info: WeightsInfo, place: Path) -> str:
    by_hand = f"get {info.file} by hand from {info.origin} (licence: {info.licence}) and put it at {place}"
    if info.url is None:
        raise MethodError(f"the weights of {card.name} have no lasting address that a program can fetch: {by_hand}")
    if info.git_blob is None and info.sha256 is None:
        raise MethodError(f"the card of {card.name} has no digest that {info.url} could be checked by: {by_hand}")
    if urlsplit(info.url).scheme not in ("http", "https"):
        raise MethodError(f"the card of {card.name} gives {info.url}, which is no http address: {by_hand}")
    return info.url


def _check(card: MethodCard, address: str, partial: Path, place: Path) -> None:
    with partial.open("rb") as handle:
        begins_as_pointer = handle.read(len(_POINTER)) == _POINTER
        os.fsync(handle.fileno())
    wrong = "content is a pointer of Git LFS, not the file itself" if begins_as_pointer else wrong_digest(card, partial)
    if wrong is None:
        return
    partial.unlink()
    raise MethodError(
        f"what {address} gives is not the published weights file of {card.name}: its {wrong}; nothing was put in place. A file "
        f"from elsewhere belongs at {place}"
    )


def _fetch(card: MethodCard, address: str, partial: Path, place: Path, progress: Progress) -> None:
    """Bring ``partial`` to its whole length, from where it is."""
    done = partial.stat().st_size if partial.is_file() else 0
    try:
        with _answer(address, done) as answer:
            done = done if answer.status == http.client.PARTIAL_CONTENT else 0
            length = answer.headers.get("Content-Length")
            total = done + int(length) if length and length.isdecimal() else None
            progress.start(f"{card.name}: {place.name} [MiB]", total and -(-total // _MEBIBYTE), done // _MEBIBYTE)
            with partial.open("ab" if done else "wb") as handle:
                while block := answer.read(_BLOCK):
                    handle.write(block)
                    progress.advance((done + len(block)) // _MEBIBYTE - done // _MEBIBYTE)
                    done += len(block)
        if total is not None and done < total:
            raise ConnectionError(f"the connection ended after {done} of {total} bytes")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not done:
            raise _unfetched(card, address, f"HTTP {error.code} {error.reason}", partial, place) from error
        if _whole_length(error) != done:
            partial.unlink()
            _fetch(card, address, partial, place, progress)
            return
    except (http.client.HTTPException, OSError) as error:  # urllib's own, sockets', SSL's, and those of a full disk
        raise _unfetched(card, address, str(getattr(error, "reason", error)), partial, place) from error
    progress.finish()


@contextmanager
def _answer(address: str, start: int) -> Iterator[http.client.HTTPResponse]:
    from fusion_det import __version__

    headers = {"User-Agent": f"fusion-det/{__version__}", **({"Range": f"bytes={start}-"} if start else {})}
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        yield answer


def _whole_length(error: urllib.error.HTTPError) -> int | None:
    """Bytes of the whole file, as a server tells them that was asked for bytes beyond its end."""
    found = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _unfetched(card: MethodCard, address: str, reason: str, partial: Path, place: Path) -> MethodError:
    kept = partial.stat().st_size if partial.is_file() else 0
    again = f"; {kept} bytes are kept, and fusion-det weights get {card.name} goes on there" if kept else ""
    return MethodError(
        f"{address} cannot be fetched: {reason}{again}. Fetched in another way, the file belongs at {place}"
    )
