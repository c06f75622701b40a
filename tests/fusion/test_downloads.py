"""Fetching weights, from a server of this test's own: whole, broken off, continued, wrong."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from fusion_det.cli import main
from fusion_det.errors import MethodError
from fusion_det.fusion import MethodCard, WeightsInfo, list_cards
from fusion_det.fusion.downloads import Fetched, fetch_weights
from fusion_det.fusion.method import PublishedFile
from fusion_det.fusion.registry import Registry
from fusion_det.fusion.weights import single_files

CONTENT = bytes(range(256)) * 4096
BLOB = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT, usedforsecurity=False).hexdigest()


@dataclass
class Site:
    """What the server does. breaks_after: bytes after which each answer ends too early. asked: the ranges asked for."""

    url: str
    content: bytes = CONTENT
    breaks_after: int | None = None
    knows_ranges: bool = True
    status: int = 200
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            found.asked.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and found.knows_ranges else 0
            if found.status != 200:
                self.send_error(found.status)
                return
            if start >= len(found.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(found.content)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(found.content) - start))
            self.end_headers()
            end = None if found.breaks_after is None else start + found.breaks_after
            self.wfile.write(found.content[start:end])

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Site(f"http://127.0.0.1:{server.server_port}/at/0123abc/net.pth")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def card(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MethodCard:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FUSION_DET_WEIGHTS", raising=False)
    weights = WeightsInfo("https://example.org/net (its README)", "net.pth", "MIT", git_blob=BLOB, url=site.url)
    return MethodCard("net", "Net", "Net", "A network", "cnn", "luma", weights=weights)


def with_weights(card: MethodCard, **changes: str | tuple[PublishedFile, ...] | None) -> MethodCard:
    assert card.weights is not None
    return replace(card, weights=replace(card.weights, **changes))  # type: ignore[arg-type]


PLACE = Path("weights/net/net.pth")
PARTIAL = PLACE.with_name(".net.pth.part")


def left() -> list[str]:
    """Files in the place's folder, but for the lock's."""
    return sorted(file.name for file in PLACE.parent.iterdir() if not file.name.endswith(".lock"))


def test_fetched_once_and_found_the_next_time(card: MethodCard, site: Site) -> None:
    assert fetch_weights(card) == Fetched(PLACE, new=True)
    assert PLACE.read_bytes() == CONTENT
    assert fetch_weights(card) == Fetched(PLACE, new=False)
    assert site.asked == [None]
    assert left() == ["net.pth"]


def test_every_file_of_several(card: MethodCard, site: Site) -> None:
    others = PublishedFile("encoder.pth", git_blob=BLOB, url=site.url), PublishedFile("extra.pth", needed=False)
    several = with_weights(card, beside=others)
    assert fetch_weights(several) == Fetched(PLACE, new=True)
    assert left() == ["encoder.pth", "net.pth"]
    PLACE.with_name("encoder.pth").unlink()
    assert fetch_weights(several) == Fetched(PLACE, new=True)
    assert fetch_weights(several) == Fetched(PLACE, new=False)
    assert site.asked == [None] * 3
    wrong = with_weights(card, beside=(PublishedFile("decoder.pth", git_blob="0" * 40, url=site.url),))
    with pytest.raises(MethodError, match="git blob id"):
        fetch_weights(wrong)


def test_places(card: MethodCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch_weights(card, tmp_path / "there").file == tmp_path / "there/net/net.pth"
    monkeypatch.setenv("FUSION_DET_WEIGHTS", str(tmp_path / "lab"))
    assert fetch_weights(card).file == tmp_path / "lab/net/net.pth"


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_goes_on_where_it_broke_off(card: MethodCard, site: Site, knows_ranges: bool) -> None:
    site.breaks_after, site.knows_ranges = 300_000, knows_ranges
    with pytest.raises(MethodError) as caught:
        fetch_weights(card)
    for part in (
        site.url,
        "ended after 300000 of 1048576 bytes",
        "300000 bytes are kept",
        str(PLACE),
        "weights get net",
    ):
        assert part in str(caught.value)
    assert left() == [PARTIAL.name]
    site.breaks_after = None
    assert fetch_weights(card).new
    assert PLACE.read_bytes() == CONTENT
    assert site.asked == [None, "bytes=300000-"]
    assert left() == ["net.pth"]


def test_a_whole_file_that_was_not_yet_put_in_place(card: MethodCard, site: Site) -> None:
    PARTIAL.parent.mkdir(parents=True)
    PARTIAL.write_bytes(CONTENT)
    assert fetch_weights(card).new
    assert PLACE.read_bytes() == CONTENT
    assert site.asked == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("begun", [b"of another file", CONTENT + b"and more"], ids=["other", "longer"])
def test_a_beginning_of_something_else_is_dropped(card: MethodCard, begun: bytes) -> None:
    PARTIAL.parent.mkdir(parents=True)
    PARTIAL.write_bytes(begun)
    assert fetch_weights(card).new
    assert PLACE.read_bytes() == CONTENT
    assert left() == ["net.pth"]


def test_what_is_not_the_published_file_is_never_put_in_place(card: MethodCard, site: Site) -> None:
    site.content = CONTENT[:-1] + b"?"
    with pytest.raises(
        MethodError, match=rf"{site.url} .* not the published weights file of net: its git blob id is .*{PLACE}"
    ):
        fetch_weights(card)
    assert left() == []


def test_a_pointer_to_the_file_is_not_the_file(card: MethodCard, site: Site) -> None:
    site.content = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n"
    blob = hashlib.sha1(b"blob %d\0" % len(site.content) + site.content, usedforsecurity=False).hexdigest()
    with pytest.raises(MethodError, match="pointer of Git LFS"):
        fetch_weights(with_weights(card, git_blob=blob))
    assert left() == []


def test_no_such_address_and_no_such_server(card: MethodCard, site: Site) -> None:
    site.status = 404
    with pytest.raises(MethodError, match=rf"{site.url} cannot be fetched: HTTP 404 .* belongs at {PLACE}"):
        fetch_weights(card)
    closed = "http://127.0.0.1:1/net.pth"
    with pytest.raises(MethodError, match=rf"{closed} cannot be fetched: .*refused"):
        fetch_weights(with_weights(card, url=closed))
    assert left() == []


def test_another_file_in_the_place_is_left_there(card: MethodCard, site: Site) -> None:
    PLACE.parent.mkdir(parents=True)
    PLACE.write_bytes(b"mine")
    with pytest.raises(MethodError, match="is there already and is not the published file"):
        fetch_weights(card)
    assert PLACE.read_bytes() == b"mine"
    assert site.asked == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"url": None},
            "no lasting address that a program can fetch: get net.pth by hand from https://example.org/net",
        ),
        ({"git_blob": None}, "no digest that http://.* could be checked by"),
        ({"url": "file:///etc/hostname"}, "no http address"),
    ],
)
def test_cards_that_nothing_is_fetched_for(card: MethodCard, changes: dict[str, str | None], message: str) -> None:
    with pytest.raises(MethodError, match=rf"{message}.*licence: MIT.*put it at {PLACE}"):
        fetch_weights(with_weights(card, **changes))


def test_addresses_on_cards_are_of_one_commit_and_have_a_digest() -> None:
    """A branch moves; what an address gives must be what the digest is of."""
    for card in (single for whole in list_cards() for single in single_files(whole)):
        if card.weights is None or card.weights.url is None:
            continue
        parts = card.weights.url.split("/")
        assert parts[0] == "https:", card.name
        assert parts[-1] == Path(card.weights.file).name, card.name
        assert card.weights.git_blob or card.weights.sha256, card.name
        if "github" in parts[2]:
            assert parts[2] == "raw.githubusercontent.com", card.name
            assert re.fullmatch("[0-9a-f]{40}", parts[5]), card.name
            assert parts[5] in card.weights.origin, card.name
        else:
            assert card.weights.sha256, f"{card.name}: nothing but its digest tells what lies there"


MODULE = """
from fusion_det.fusion import FusionMethod, MethodCard, WeightsInfo, register_method

NET = MethodCard("net", "Net", "Net", "A network", "cnn", "luma",
    weights=WeightsInfo("https://example.org/net", "net.pth", "MIT", git_blob=BLOB, url=URL))
DRIVE = MethodCard("drive", "Drive", "Dri", "On a drive", "cnn", "luma",
    weights=WeightsInfo("a cloud drive", "drive.pth", "MIT"))


@register_method(NET)
class Net(FusionMethod):
    card = NET

    def fuse(self, ir, vi):
        return ir


@register_method(DRIVE)
class Drive(Net):
    card = DRIVE
"""

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(
    site: Site,
    card: MethodCard,
    fresh_registry: Registry,
    make_module: Callable[[str, str], ModuleType],
    capsys: pytest.CaptureFixture[str],
) -> Command:
    make_module("nets", MODULE.replace("URL", repr(site.url)).replace("BLOB", repr(BLOB)))

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["weights", *arguments, "--method-module", "nets"])
        shown = capsys.readouterr()
        return int(ended.value.code or 0), " ".join((shown.out + shown.err).split())

    return run


def test_command(command: Command) -> None:
    code, text = command("list")
    assert code == 0
    assert "net missing: weights/net/net.pth fusion-det weights get net (licence: MIT)" in text
    assert "drive missing: weights/drive/drive.pth by hand: drive.pth from a cloud drive" in text
    code, text = command("get", "net")
    assert (code, text) == (0, "net: weights/net/net.pth (fetched; licence: MIT)")
    assert "net weights/net/net.pth" in command("list")[1]
    code, text = command("get", "[dn]*[et]")
    assert code == 0
    assert "net: weights/net/net.pth (there already" in text
    assert "weights/drive/drive.pth" in text
    assert command("get", "drive")[0] == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mean", "mean learns nothing"),
        ("nett", "did you mean net"),
        ("zz*", "no method that has weights matches 'zz*'"),
    ],
)
def test_command_with_names_that_mean_nothing(command: Command, name: str, message: str) -> None:
    code, text = command("get", name)
    assert code == 2
    assert message in text
