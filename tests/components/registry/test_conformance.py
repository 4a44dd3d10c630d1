"""Laws that every registry obeys; a new entry of REGISTRIES is tested by being listed."""

import itertools
import json
import math
from typing import Any, get_args

import pytest

from components.config.registry import RegistryConfig
from components.errors import ConfigError, RegistryError
from components.inference.package import adapter_package
from components.registry import REGISTRIES, Dataset, Measured, View, open_tracker
from components.registry.history import entry_now

NAMES = (f"law-{number}" for number in itertools.count())
METRICS = {
    "test/accuracy": 0.8,
    "test/accuracy_low": 0.7,
    "test/accuracy_high": 0.9,
    "test/majority_accuracy": 0.25,
}
PARAMS = {
    "prefix_length": 4,
    "learning_rate": 0.005,
    "trainable_parameters": 1234,
    "backbone": "tiny",
    "max_tokens": 96,
}


@pytest.fixture(params=REGISTRIES)
def tracker(request):
    return open_tracker(
        request.param,
        request.getfixturevalue("mlflow_uri") if request.param == "mlflow" else "memory://",
    )


@pytest.fixture
def name(tracker):
    """A fresh experiment; the same name serves for its registered model."""
    fresh = next(NAMES)
    tracker.ensure_experiment(fresh, "an experiment for a law")
    return fresh


@pytest.fixture
def search(tracker, name):
    return tracker.start_run(
        name,
        run_name="search",
        config={"seed": 10},
        params={"backbone": "tiny", "seed": 10},
        tags={"config_sha256": "abc"},
    )


def look(tracker: Any, run_id: str) -> dict[str, Any]:
    """What a store keeps of a run, in one form."""
    if hasattr(tracker, "client"):
        run = tracker.client.get_run(run_id)
        history = {
            key: [
                (entry.step, entry.value)
                for entry in tracker.client.get_metric_history(run_id, key)
            ]
            for key in run.data.metrics
        }
        return {
            "params": run.data.params,
            "tags": run.data.tags,
            "metrics": history,
            "parent": run.data.tags.get("mlflow.parentRunId"),
        }
    run = tracker.runs[run_id]
    return {"params": run.params, "tags": run.tags, "metrics": run.metrics, "parent": run.parent}


def register(tracker, run_id, name, folder, **changes):
    values = {
        "metrics": METRICS,
        "params": PARAMS,
        "description": "more about it",
        "tags": {"search_id": "s1"},
    } | changes
    return tracker.register_adapter(
        run_id,
        adapter_folder=folder,
        package=adapter_package(folder) if folder.is_dir() else None,
        model_name=name,
        **values,
    )


def test_table_and_schema_agree():
    assert set(REGISTRIES) == set(get_args(RegistryConfig.model_fields["kind"].annotation))


def test_store_that_is_there_passes_the_check(tracker):
    tracker.check()


def test_experiment_is_made_once(tracker, name):
    assert tracker.ensure_experiment(name, "another description") == tracker.ensure_experiment(
        name, "another description"
    )


def test_trial_is_a_child_with_the_params_of_its_search(tracker, search):
    trial = tracker.start_child(
        search, name="t1", params={"prefix_length": 8, "seed": 10}, tags={"slot": "0"}
    )
    seen = look(tracker, trial)
    assert seen["parent"] == search
    assert seen["params"] == {"backbone": "tiny", "seed": "10", "prefix_length": "8"}
    assert tracker.run_tags(trial)["trial"] == "t1"
    assert seen["tags"]["slot"] == "0"


def test_value_of_a_trial_wins_over_that_of_its_search(tracker, search):
    trial = tracker.start_child(search, name="t1", params={"seed": 11}, tags={})
    assert look(tracker, trial)["params"]["seed"] == "11"


def test_restarted_trial_reuses_its_run(tracker, search):
    first = tracker.start_child(search, name="t1", params={"p": 8}, tags={})
    tracker.log_metrics(first, {"loss": 1.0}, step=1)
    tracker.finish(first, "failed", "the worker died")
    assert tracker.start_child(search, name="t1", params={"p": 8}, tags={}) == first
    tracker.log_metrics(first, {"loss": 0.5}, step=2)
    assert look(tracker, first)["metrics"]["loss"] == [(1, 1.0), (2, 0.5)]
    assert tracker.run_tags(first)["resumed"] == "true"
    second = tracker.start_child(search, name="t2", params={"p": 8}, tags={})
    assert second != first and "resumed" not in tracker.run_tags(second)


def test_a_trial_is_found_by_its_key_whatever_it_is_called(tracker, search):
    first = tracker.start_child(search, key="k1", name="001 P=4", params={"p": 8}, tags={})
    tracker.rename(first, "001 P=4 - diverged")
    again = tracker.start_child(search, key="k1", name="007 P=4", params={"p": 8}, tags={})
    other = tracker.start_child(search, key="k2", name="001 P=4", params={"p": 8}, tags={})
    assert again == first and other != first


def test_datasets_views_and_descriptions_are_kept_and_may_be_told_again(tracker, name, search):
    documents = [Dataset("d train", "train", "ab" * 32, "files", 7, 90)]
    view = View("best", "Best first", ("metrics.x", "tags.outcome"), order_by="metrics.x")
    for _ in range(2):
        tracker.log_datasets(search, documents)
        tracker.save_views(name, (view,))
        tracker.describe_run(search, "a | table")
        tracker.log_text(search, "<p>", "report.html")
    if hasattr(tracker, "client"):
        run = tracker.client.get_run(search)
        ((only,),) = [run.inputs.dataset_inputs]
        assert (only.dataset.name, only.dataset.digest) == ("d train", ("ab" * 32)[:36])
        assert run.data.tags["mlflow.note.content"] == "a | table"
        tags = tracker.client.get_experiment_by_name(name).tags
        assert json.loads(tags["mlflow.sharedViewState.best"])["name"] == "Best first"


def test_the_metrics_of_a_registered_adapter_are_points_of_who_measured_it(
    tracker, search, name, plain_adapter
):
    """A curve of the run that trained it does not grow by the registration."""
    trial = tracker.start_child(search, name="t1", params={}, tags={})
    for step, value in ((15, 0.5), (30, 0.6)):
        tracker.log_metrics(trial, {"validation/accuracy": value}, step=step)
    for _ in range(2):  # the second finds the first's
        register(
            tracker,
            trial,
            name,
            plain_adapter,
            measured=Measured(search, dataset=Dataset("d", "test", "cd" * 32, "files", 7, 90)),
            tags={"search_id": "s1", "config_sha256": "c1"},
        )
    seen = look(tracker, trial)["metrics"]
    assert seen == {"validation/accuracy": [(15, 0.5), (30, 0.6)]}
    measured = look(tracker, search)["metrics"]
    assert measured == {name: [(0, value)] for name, value in METRICS.items()}


def test_few_tags_are_shown_and_all_are_told(tracker, search, name, plain_adapter):
    many = {f"machine_{number}": "x" for number in range(9)} | {"data": "ab", "search_id": "s"}
    adapter = register(tracker, search, name, plain_adapter, tags=many)
    assert many.items() <= tracker.resolve(adapter.model_uri).tags.items()
    if hasattr(tracker, "client"):
        stored = tracker.client.get_model_version(name, "1").tags
        assert len([tag for tag in stored if not tag.startswith("mlflow.")]) <= 6


def test_the_model_s_page_tells_its_champion_and_the_way_back(tracker, name, search, plain_adapter):
    for _ in range(2):
        register(tracker, search, name, plain_adapter)
    for before, after in ((None, 1), (1, 2)):
        entry = entry_now(
            "promoted", after, champion_before=before, champion_after=after, reason="better"
        )
        tracker.record(name, entry)
    if hasattr(tracker, "client"):
        text = tracker.client.get_registered_model(name).description
        assert text.startswith("Champion: version 2. Test accuracy 80.0%")
        assert text.count("Champion: version") == 1 and text.count("## What happened") == 1
        assert f"`prefixprop rollback {name}`" in text and "version 1" in text


def test_metrics_that_are_not_finite_are_kept(tracker, search):
    tracker.log_metrics(search, {"loss": math.nan, "validation/accuracy": 0.5}, step=3)
    tracker.log_metrics(search, {"loss": math.inf}, step=4)
    seen = look(tracker, search)["metrics"]
    assert [step for step, _ in seen["loss"]] == [3, 4]
    assert math.isnan(seen["loss"][0][1])
    assert seen["loss"][1][1] > 1e300
    assert seen["validation/accuracy"] == [(3, 0.5)]


def test_param_may_be_repeated_but_not_changed(tracker, search):
    tracker.log_params(search, {"extra": 0.005})
    tracker.log_params(search, {"extra": 0.005})
    with pytest.raises(Exception, match="extra"):
        tracker.log_params(search, {"extra": 0.006})


def test_more_than_a_hundred_params_are_kept(tracker, search):
    tracker.log_params(search, {f"param.{number}": number for number in range(130)})
    assert look(tracker, search)["params"]["param.129"] == "129"


def test_outcome_and_reason_are_kept(tracker, search):
    tracker.finish(search, "diverged", "loss was nan at step 7")
    tags = tracker.run_tags(search)
    assert (tags["outcome"], tags["outcome_reason"]) == ("diverged", "loss was nan at step 7")


def test_latest_run_with_all_tags_is_found(tracker, name, search):
    assert tracker.find_run(name, {"config_sha256": "abc"}) == search
    assert tracker.find_run(name, {"config_sha256": "abc", "outcome": "completed"}) is None
    tracker.finish(search, "completed", "")
    assert tracker.find_run(name, {"config_sha256": "abc", "outcome": "completed"}) == search
    assert tracker.find_run("no-such-experiment", {"config_sha256": "abc"}) is None


def test_files_of_a_run_come_back(tracker, search, plain_adapter):
    assert tracker.read_dict(search, "config.json") == {"seed": 10}
    tracker.log_dict(search, {"rungs": [1, 3]}, "rungs.json")
    assert tracker.read_dict(search, "rungs.json") == {"rungs": [1, 3]}
    tracker.log_folder(search, plain_adapter, "adapter")
    assert tracker.read_dict(search, "adapter/adapter_config.json")["prefix_length"] == 4
    with pytest.raises(RegistryError, match=r"no\.json"):
        tracker.read_dict(search, "no.json")


def test_figure_is_kept(tracker, search):
    from matplotlib.figure import Figure

    tracker.log_figure(search, Figure(figsize=(1, 1)), "reliability.png")


def test_first_version_is_champion_and_later_ones_challenge(tracker, name, search, plain_adapter):
    made = [register(tracker, search, name, plain_adapter) for _ in range(3)]
    assert [(adapter.version, adapter.alias) for adapter in made] == [
        (1, "champion"),
        (2, "challenger"),
        (3, "challenger"),
    ]
    assert [version.aliases for version in tracker.versions(name)] == [
        ("champion",),
        (),
        ("challenger",),
    ]
    assert made[0].model_uri == f"models:/{name}/1"


def test_version_tells_what_it_is(tracker, name, search, plain_adapter):
    adapter = register(tracker, search, name, plain_adapter)
    version = tracker.resolve(adapter.model_uri)
    assert version.description.split("\n")[0] == (
        "Test accuracy 80.0% (95% interval 70.0 to 90.0), majority class 25.0%, not "
        "calibrated, prefix length 4, learning rate 0.005, 1,234 trainable parameters, on tiny."
    )
    assert "more about it" in version.description
    assert version.tags["test_accuracy"] == "80.0% (95% interval 70.0 to 90.0)"
    assert {
        name: version.tags[name] for name in ("prefix_length", "learning_rate", "search_id")
    } == {
        "prefix_length": "4",
        "learning_rate": "0.005",
        "search_id": "s1",
    }
    assert version.run_id == search
    assert version.model_id == adapter.model_id


def test_downloaded_adapter_equals_the_registered_one(
    tracker, name, search, plain_adapter, tmp_path
):
    register(tracker, search, name, plain_adapter)
    (plain_adapter / "adapter_model.safetensors").write_bytes(b"second")
    register(tracker, search, name, plain_adapter)
    expected = {
        f"models:/{name}@champion": bytes(range(256)),
        f"models:/{name}/2": b"second",
        f"models:/{name}@challenger": b"second",
        f"runs:/{search}": b"second",
    }
    for model_uri, content in expected.items():
        folder = tracker.download_adapter(model_uri, tmp_path / "here")
        assert (folder / "adapter_model.safetensors").read_bytes() == content
        assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.json")) == [
            "adapter_config.json",
            "tokenizer/tokenizer.json",
        ]


def champion(tracker, name):
    return tracker.resolve(f"models:/{name}@champion").version


def test_rollback_undoes_promotions_one_by_one(tracker, name, search, plain_adapter):
    for _ in range(3):
        register(tracker, search, name, plain_adapter)
    assert tracker.promote(name, 2).aliases == ("champion",)
    assert tracker.promote(name, 3).version == 3
    assert tracker.versions(name)[2].aliases == ("champion",)
    assert tracker.promote(name, 3).version == 3
    assert tracker.rollback(name).version == champion(tracker, name) == 2
    assert tracker.rollback(name).version == champion(tracker, name) == 1
    with pytest.raises(RegistryError, match="no champion before version 1"):
        tracker.rollback(name)
    assert champion(tracker, name) == 1


def test_version_that_does_not_exist_is_not_promoted(tracker, name, search, plain_adapter):
    register(tracker, search, name, plain_adapter)
    with pytest.raises(RegistryError, match="no version 7"):
        tracker.promote(name, 7)
    assert champion(tracker, name) == 1


@pytest.mark.parametrize(
    "address",
    [
        "models:/{name}@rival",
        "models:/{name}/9",
        "models:/absent/1",
        "runs:/0123456789abcdef0123456789abcdef",
    ],
)
def test_address_of_nothing_is_an_error_that_says_so(
    tracker, name, search, plain_adapter, tmp_path, address
):
    register(tracker, search, name, plain_adapter)
    with pytest.raises(RegistryError, match="model"):
        tracker.download_adapter(address.format(name=name), tmp_path)


@pytest.mark.parametrize(
    "address", ["models:/x", "models:/x/latest", "models:/", "x/1", "models:/a/b/1"]
)
def test_malformed_address_is_the_users_error(tracker, address):
    with pytest.raises(ConfigError, match="models:/<name>"):
        tracker.resolve(address)


@pytest.mark.parametrize("bad", ["a/b", "a:b", "a@b", " ", ".."])
def test_name_that_mlflow_refuses_is_refused_before_anything_is_stored(
    tracker, search, plain_adapter, bad
):
    with pytest.raises(ConfigError, match="model_name"):
        register(tracker, search, bad, plain_adapter)


def test_name_with_a_dot_is_registered(tracker, name, search, plain_adapter):
    assert register(tracker, search, f"{name}.v1", plain_adapter).version == 1


def test_registry_failure_stops_the_registration(tracker, name, search, tmp_path):
    with pytest.raises(FileNotFoundError):
        register(tracker, search, name, tmp_path / "nothing-here")
    with pytest.raises(RegistryError):
        tracker.versions(name)


def test_store_without_a_web_page_has_no_urls(tracker, name, search):
    assert (
        tracker.run_url(search) == tracker.experiment_url(name) == tracker.model_url(name, 1) == ""
    )


def test_a_run_that_was_there_keeps_one_value_of_a_metric_per_step(tracker, search):
    def child() -> str:
        return tracker.start_child(search, name="t1", params={}, tags={})

    for value in (0.5, 0.6):
        tracker.log_metrics(child(), {"validation/accuracy": value, "step": 1.0}, step=1)
    tracker.log_metrics(child(), {"validation/accuracy": 0.7}, step=2)
    found = look(tracker, child())["metrics"]
    assert found == {"validation/accuracy": [(1, 0.5), (2, 0.7)], "step": [(1, 1.0)]}
    tracker.log_metrics(search, {"test/accuracy": 0.5}, step=2)
    tracker.resume_run(search, {"resumed": "true"})
    tracker.log_metrics(search, {"test/accuracy": 0.5, "test/nll": 0.1}, step=2)
    expected = {"test/accuracy": [(2, 0.5)], "test/nll": [(2, 0.1)]}
    assert look(tracker, search)["metrics"] == expected


def test_a_search_registers_a_run_once(tracker, search, name, plain_adapter):
    tags = {"search_id": "s1", "config_sha256": "abc"}
    first = register(tracker, search, name, plain_adapter, tags=tags)
    metrics = look(tracker, search)["metrics"]
    again = register(tracker, search, name, plain_adapter, tags=tags)
    assert again == first and len(tracker.versions(name)) == 1
    assert look(tracker, search)["metrics"] == metrics
    for other in (tags | {"search_id": "s2"}, tags | {"config_sha256": "def"}):
        made = register(tracker, search, name, plain_adapter, tags=other)
        assert made.version == len(tracker.versions(name)) > 1


@pytest.mark.parametrize(
    "killed_in", ["log_batch", "log_outputs", "create_model_version", "set_registered_model_alias"]
)
def test_a_registration_that_was_killed_is_taken_up_again(
    mlflow_uri, plain_adapter, monkeypatch, killed_in
):
    """Between any two calls: the driver dies, and the next one makes one model and one version."""
    tracker, name = open_tracker("mlflow", mlflow_uri), next(NAMES)
    tracker.ensure_experiment(name, "")
    run_id = tracker.start_run(name, run_name="search", config={}, params={}, tags={})
    tags = {"search_id": "s1", "config_sha256": "abc"}

    def killed(*_: Any, **__: Any) -> None:
        raise ConnectionError("killed")

    monkeypatch.setattr(tracker.client, killed_in, killed)
    # A process that is killed marks nothing as failed.
    monkeypatch.setattr(tracker.client, "finalize_logged_model", lambda *_: None)
    with pytest.raises(ConnectionError, match="killed"):
        register(tracker, run_id, name, plain_adapter, tags=tags)
    again = open_tracker("mlflow", mlflow_uri)
    made = register(again, run_id, name, plain_adapter, tags=tags)
    assert (made.version, made.alias) == (1, "champion")
    assert len(again.versions(name)) == 1
    assert len(again.client.get_run(run_id).outputs.model_outputs) == 1
    assert all(len(points) == 1 for points in look(again, run_id)["metrics"].values())
