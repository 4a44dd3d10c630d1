"""A failure of tracking never ends a trial, and nothing that was logged is lost when the store
comes back.
"""

import warnings

import pytest

from components.registry import TolerantTracker, open_tracker


class Unsteady:
    """A memory tracker that can be taken away and brought back."""

    def __init__(self):
        self.store, self.away, self.attempts = open_tracker("memory", "memory://"), False, 0

    def __getattr__(self, name):
        method = getattr(self.store, name)

        def call(*arguments, **named):
            self.attempts += 1
            if self.away:
                raise ConnectionError("the server is away")
            return method(*arguments, **named)

        return call


@pytest.fixture
def unsteady():
    return Unsteady()


@pytest.fixture
def search(unsteady):
    unsteady.store.ensure_experiment("x", "")
    return unsteady.store.start_run("x", run_name="s", config={}, params={}, tags={})


def log_steps(tracker, run_id, count):
    for step in range(count):
        tracker.log_metrics(run_id, {"loss": 1.0}, step=step)


def test_trial_runs_to_its_end_without_the_store_and_is_recorded_when_it_returns(unsteady, search):
    unsteady.away = True
    tracker = TolerantTracker(unsteady, retry_seconds=0.0)
    with pytest.warns(RuntimeWarning, match="server is away"):
        trial = tracker.start_child(search, name="t1", params={"p": 4}, tags={})
    tracker.log_metrics(trial, {"loss": 1.0}, step=1)
    unsteady.away = False
    tracker.log_metrics(trial, {"loss": 0.5}, step=2)
    tracker.finish(trial, "completed", "all steps done")
    (run,) = [run for run in unsteady.store.runs.values() if run.parent == search]
    assert run.metrics["loss"] == [(1, 1.0), (2, 0.5)]
    assert (run.status, run.params["p"]) == ("completed", "4")
    assert tracker.waiting == 0


def test_a_provisional_run_id_becomes_the_real_one(unsteady, search):
    unsteady.away = True
    tracker = TolerantTracker(unsteady)
    with pytest.warns(RuntimeWarning, match="server is away"):
        trial = tracker.start_child(search, name="t1", params={}, tags={})
    assert tracker.real_run_id(trial) is None and not tracker.flush()
    unsteady.away = False
    assert tracker.flush()
    assert tracker.real_run_id(trial) in unsteady.store.runs
    assert tracker.real_run_id(search) == search


def test_store_that_is_there_gives_the_real_run_id(unsteady, search):
    trial = TolerantTracker(unsteady).start_child(search, name="t1", params={}, tags={})
    assert trial in unsteady.store.runs


def test_outage_warns_once_and_is_counted(unsteady, search):
    unsteady.away = True
    tracker = TolerantTracker(unsteady, retry_seconds=0.0)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        log_steps(tracker, search, 5)
    assert len(seen) == 1
    assert (tracker.failures, tracker.waiting) == (5, 5)


def test_store_that_is_away_is_not_asked_at_every_step(unsteady, search):
    unsteady.away = True
    tracker = TolerantTracker(unsteady, retry_seconds=60.0)
    with pytest.warns(RuntimeWarning):
        log_steps(tracker, search, 50)
    assert unsteady.attempts == 1
    unsteady.away = False
    assert tracker.flush()
    assert len(unsteady.store.runs[search].metrics["loss"]) == 50


def test_call_that_the_store_refuses_does_not_hold_up_the_others(unsteady, search):
    tracker = TolerantTracker(unsteady)
    tracker.log_params(search, {"p": 4})
    with pytest.warns(RuntimeWarning, match="cannot become"):
        tracker.log_params(search, {"p": 5})
    tracker.log_metrics(search, {"loss": 1.0}, step=1)
    assert (tracker.dropped, tracker.waiting) == (1, 0)
    assert unsteady.store.runs[search].metrics["loss"] == [(1, 1.0)]


def test_full_buffer_drops_and_counts(unsteady, search):
    unsteady.away = True
    tracker = TolerantTracker(unsteady, retry_seconds=60.0, max_buffered=3)
    with pytest.warns(RuntimeWarning):
        log_steps(tracker, search, 5)
    assert (tracker.waiting, tracker.dropped) == (3, 2)


def test_restarted_trial_goes_on_in_its_run(unsteady, search):
    tracker = TolerantTracker(unsteady)
    first = tracker.start_child(search, name="t1", params={}, tags={})
    assert tracker.start_child(search, name="t1", params={}, tags={}) == first


def test_nothing_of_the_registry_can_be_tolerated():
    assert not {"register_adapter", "promote", "rollback", "download_adapter"} & set(
        dir(TolerantTracker)
    )
