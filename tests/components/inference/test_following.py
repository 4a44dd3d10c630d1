"""Who answers when another version comes into use: one version a request, the one before until the
next is ready, and never nobody.
"""

import gc
import logging
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from components.errors import ArtifactError
from components.inference.following import Answering, Following


def classifier(name: str, *, inputs: tuple[str, ...] = ("text",)) -> Any:
    """All that following asks of one."""
    return SimpleNamespace(name=name, task=SimpleNamespace(signature=inputs))


def following(newest: Callable[[], str], load: Callable[[str], Any], **changes: Any) -> Following:
    first = Answering(classifier("demo/1"), "demo/1")
    return Following(first, newest=newest, load=load, **({"every_seconds": 0.05} | changes))


def until(what: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_swaps_once_the_next_is_ready_and_answers_by_the_one_before_meanwhile() -> None:
    loading, ready = threading.Event(), threading.Event()

    def load(version: str) -> Any:
        loading.set()
        assert ready.wait(10)
        return classifier(version)

    found = following(lambda: "demo/2", load).start()
    assert loading.wait(10)
    assert found.current.version == "demo/1"
    ready.set()
    until(lambda: found.current.version == "demo/2")
    assert found.current.classifier.name == "demo/2"
    found.stop()


def test_the_same_version_is_not_loaded_again() -> None:
    loaded: list[str] = []
    found = following(lambda: "demo/1", lambda version: loaded.append(version))
    assert not found.look() and not found.look()
    assert loaded == []


def test_a_registry_that_is_away_changes_nothing_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    away = True

    def newest() -> str:
        if away:
            raise ConnectionError("no answer\nfrom it")
        return "demo/2"

    found = following(newest, classifier)
    with caplog.at_level(logging.INFO):
        assert not found.look() and not found.look()
        assert found.current.version == "demo/1"
        away = False
        assert found.look()
    assert [record.getMessage() for record in caplog.records] == [
        "demo/1 goes on answering; the registry: no answer from it",
        "demo/2 answers in place of demo/1",
    ]


def test_a_damaged_version_is_tried_once_and_the_next_one_is_taken() -> None:
    versions, tried = ["demo/2", "demo/2", "demo/3"], []

    def load(version: str) -> Any:
        tried.append(version)
        if version == "demo/2":
            raise ArtifactError("is damaged")
        return classifier(version)

    found = following(lambda: versions.pop(0), load)
    assert [found.look() for _ in range(3)] == [False, False, True]
    assert tried == ["demo/2", "demo/3"] and found.current.version == "demo/3"


def test_what_only_failed_is_tried_again() -> None:
    outcomes: list[Any] = [OSError("disk"), None]

    def load(version: str) -> Any:
        outcome = outcomes.pop(0)
        if outcome:
            raise outcome
        return classifier(version)

    found = following(lambda: "demo/2", load)
    assert [found.look(), found.look()] == [False, True]


def test_a_version_of_another_task_is_not_taken() -> None:
    other = classifier("demo/2", inputs=("query", "candidates"))
    found = following(lambda: "demo/2", lambda version: other)
    assert not found.look() and found.current.version == "demo/1"


def test_back_to_the_one_before_is_followed_too() -> None:
    versions = ["demo/2", "demo/1"]
    found = following(lambda: versions.pop(0), classifier)
    assert [found.look(), found.look()] == [True, True]
    assert found.current.version == "demo/1"


def test_the_thread_ends_with_the_one_it_looks_for() -> None:
    def watching() -> list[str]:
        names = [thread.name for thread in threading.enumerate()]
        return [name for name in names if name == "following demo/1"]

    found = following(lambda: "demo/1", classifier).start()
    assert watching()
    del found
    gc.collect()
    until(lambda: not watching())
