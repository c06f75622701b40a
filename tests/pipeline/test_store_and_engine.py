"""The store and the engine, on stages made for the purpose: order, caching, failures, locks, damage, kills."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fusion_det.errors import ConfigError, StageError
from fusion_det.pipeline.engine import make_slots, run_plan
from fusion_det.pipeline.stage import Outcome, Slot, Stage, StageContext
from fusion_det.pipeline.store import Store, read_manifest

CPU = (Slot("cpu", 1),)


def stage(
    label: str,
    run: Callable[[StageContext], dict[str, Any]] | None = None,
    *,
    inputs: dict[str, Stage] | None = None,
    heavy: bool = False,
    **identity: Any,
) -> Stage:
    def write(context: StageContext) -> dict[str, Any]:
        text = label + "".join((folder / "out.txt").read_text() for folder in context.inputs.values())
        (context.work / "out.txt").write_text(text)
        return {"length": len(text)}

    return Stage("kind", label, identity, inputs or {}, run or write, heavy=heavy)


def states(outcomes: dict[str, Outcome], *stages: Stage) -> list[str]:
    return [outcomes[s.digest].state for s in stages]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_runs_inputs_first_then_finds_everything_cached(store: Store) -> None:
    a, b = stage("a"), stage("b")
    c = stage("c", inputs={"left": a, "right": b})
    first = run_plan([c, b, a], store, CPU)
    assert states(first, a, b, c) == ["done"] * 3
    folder = first[c.digest].folder
    assert folder is not None
    assert (folder / "out.txt").read_text() == "cab"
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest["facts"] == {"length": 3}
    assert manifest["inputs"]["left"].startswith("kind/a-")
    assert states(run_plan([a, b, c], store, CPU), a, b, c) == ["cached"] * 3


def test_a_change_reaches_what_depends_on_it_and_nothing_else(store: Store) -> None:
    def plan(epochs: int) -> list[Stage]:
        a, other = stage("a", epochs=epochs), stage("other")
        return [a, other, stage("b", inputs={"in": a})]

    run_plan(plan(1), store, CPU)
    changed = plan(2)
    assert store.why_stale(changed[0]) == "epochs: 1 → 2"
    assert store.why_stale(changed[2]) == "new in"
    assert states(run_plan(changed, store, CPU), *changed) == ["done", "cached", "done"]
    assert states(run_plan(plan(1), store, CPU), *plan(1)) == ["cached"] * 3, "the old results are still there"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StageError("the loss became nan"), "the loss became nan"),
        (ZeroDivisionError("somebody's method"), "ZeroDivisionError: somebody's method (traceback: "),
        (OSError(errno.ENOSPC, "No space left on device"), "is full"),
    ],
)
def test_a_failure_takes_its_row_and_no_other(store: Store, error: Exception, words: str) -> None:
    def fail(context: StageContext) -> dict[str, Any]:
        raise error

    bad, good = stage("bad", fail), stage("good")
    after_bad, after_good = stage("after bad", inputs={"x": bad}), stage("after good", inputs={"x": good})
    last = stage("last", inputs={"x": after_bad})
    plan = [bad, good, after_bad, after_good, last]
    outcomes = run_plan(plan, store, CPU)
    assert states(outcomes, *plan) == ["failed", "done", "skipped", "done", "skipped"]
    assert words in outcomes[bad.digest].reason
    assert words in outcomes[last.digest].reason, "the last row says what went wrong at the root"
    assert store.find(bad) is None


def test_heavy_stages_share_the_slots(store: Store) -> None:
    together, most, seen = 0, 0, set()
    lock = threading.Lock()

    def run(context: StageContext) -> dict[str, Any]:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
            seen.add(context.slot)
        time.sleep(0.05)
        with lock:
            together -= 1
        return {}

    slots = (Slot("cuda:0", 1), Slot("cuda:1", 1))
    run_plan([stage(f"s{i}", run, heavy=True) for i in range(6)], store, slots)
    assert most == 2
    assert seen == set(slots)


@pytest.mark.parametrize("how", ["missing file", "shorter file"])
def test_damage_is_noticed_and_mended_from_what_is_left(store: Store, how: str) -> None:
    def run(context: StageContext) -> dict[str, Any]:
        for name in ("one", "two"):
            if not (context.work / name).exists():
                (context.work / name).write_text(f"{name} made")
        return {}

    s = stage("images", run)
    folder = run_plan([s], store, CPU)[s.digest].folder
    assert folder is not None
    inode = (folder / "two").stat().st_ino
    if how == "missing file":
        (folder / "one").unlink()
    else:
        (folder / "one").write_text("")
    assert store.find(s) is None
    assert store.why_stale(s).startswith("damaged: one ")
    assert states(run_plan([s], store, CPU), s) == ["done"]
    assert (folder / "two").stat().st_ino == inode, "what was whole is kept"


def test_two_runs_at_once_do_the_work_once(store: Store) -> None:
    made = []

    def run(context: StageContext) -> dict[str, Any]:
        made.append(threading.get_ident())
        time.sleep(0.3)
        (context.work / "out.txt").write_text("x")
        return {}

    results: list[Outcome] = []

    def one_run() -> None:
        s = stage("shared", run)
        results.append(run_plan([s], store, CPU)[s.digest])

    threads = [threading.Thread(target=one_run) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(made) == 1
    assert sorted(r.state for r in results) == ["cached", "cached", "done"]


KILLED = """
import os, signal, sys
from pathlib import Path
from fusion_det.pipeline.engine import run_plan
from fusion_det.pipeline.stage import Slot, Stage
from fusion_det.pipeline.store import Store

def run(context):
    for i in range(10):
        path = context.work / f"{i}.txt"
        if not path.exists():
            path.write_text(str(i))
            if i == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
    return {"parts": 10}

stage = Stage("kind", "long", {"n": 10}, {}, run)
print(run_plan([stage], Store(Path(sys.argv[1])), (Slot("cpu", 1),))[stage.digest].state)
"""


def test_sigkill_then_rerun_completes_with_the_same_result(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(KILLED))

    def go(kill_at: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), str(tmp_path / "store"), str(kill_at)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert go(3).returncode == -signal.SIGKILL
    assert not [p for p in (tmp_path / "store/kind").iterdir() if p.is_dir() and p.suffix != ".partial"]
    assert go(7).returncode == -signal.SIGKILL
    assert go(-1).stdout == "done\n"
    (folder,) = [p for p in (tmp_path / "store/kind").iterdir() if p.is_dir()]
    assert [(folder / f"{i}.txt").read_text() for i in range(10)] == [str(i) for i in range(10)]
    assert go(-1).stdout == "cached\n"


def test_leftovers_of_a_failed_try_are_no_part_of_the_result(store: Store) -> None:
    tries = []

    def run(context: StageContext) -> dict[str, Any]:
        tries.append(1)
        (context.work / "whole.txt").write_text("kept")
        if len(tries) == 1:
            (context.work / ".half.txt.x1.tmp.txt").write_text("ha")
            (context.work / ".yolo.abc").mkdir()
            raise ZeroDivisionError
        return {}

    s = stage("a", run)
    assert states(run_plan([s], store, CPU), s) == ["failed"]
    folder = run_plan([s], store, CPU)[s.digest].folder
    assert folder is not None
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "whole.txt"]


def test_a_result_that_vanished_meanwhile_is_an_error_not_a_wait(store: Store) -> None:
    with pytest.raises(ConfigError, match="run the command again"):
        run_plan([stage("a", heavy=True)], store, ())


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Python's own handler, where whoever started the tests (nohup, a shell's background) ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_interrupt_stops_running_stages_and_is_passed_on(store: Store) -> None:
    started = threading.Event()

    def run(context: StageContext) -> dict[str, Any]:
        started.set()
        assert context.cancelled.wait(10), "was not told to stop"
        raise StageError("stopped on request")

    threading.Thread(target=lambda: (started.wait(10), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_plan([stage("long", run, heavy=True)], store, CPU)


def test_manifest_of_another_version_is_not_trusted(store: Store) -> None:
    s = stage("a")
    folder = run_plan([s], store, CPU)[s.digest].folder
    assert folder is not None
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 999}))
    assert store.find(s) is None
    assert states(run_plan([s], store, CPU), s) == ["done"]


def test_slots() -> None:
    assert make_slots("auto", None, 8, lambda: 0) == (Slot("cpu", 2),) * 4
    assert make_slots("auto", None, 2, lambda: 0) == (Slot("cpu", 1),) * 2
    assert make_slots("auto", 1, 8, lambda: 0) == (Slot("cpu", 8),)
    assert make_slots("auto", None, 8, lambda: 2) == (Slot("cuda:0", 4), Slot("cuda:1", 4))
    assert make_slots("cpu", 2, 2, lambda: 0) == (Slot("cpu", 1), Slot("cpu", 1))
    assert make_slots("0,2", None, 4, lambda: 4) == (Slot("cuda:0", 2), Slot("cuda:2", 2))
    for device in ("gpu", "", "cuda:x"):
        with pytest.raises(ConfigError, match="--device"):
            make_slots(device, None, 2, lambda: 1)
    with pytest.raises(ConfigError, match="--jobs"):
        make_slots("cpu", 0, 2, lambda: 0)
