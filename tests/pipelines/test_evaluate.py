"""Evaluation of adapters on prepared data, from the registry and from a folder."""

import json

import numpy as np
import pytest

from components.backbones import load_tokenizer, tokenizer_id
from components.errors import ConfigError, DataError
from components.evaluation import classification_metrics
from components.inference import classify
from components.inference.classifier import load_classifier
from components.inference.package import adapter_package
from components.registry import open_tracker
from pipelines.evaluate import evaluate
from tests.registry_fixtures import LABELS, sample_texts

TEXTS = sample_texts(60)


@pytest.fixture
def files(tmp_path):
    """Three splits of 20 documents, every label in each."""
    paths = {}
    for place, split in enumerate(("train", "validation", "test")):
        paths[split] = tmp_path / f"{split}.jsonl"
        rows = [
            {
                "id": f"{split}{row}",
                "text": f"{TEXTS[20 * place + row]} {split} {row}",
                "label": LABELS[row % 3],
            }
            for row in range(20)
        ]
        paths[split].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


@pytest.fixture
def overrides(files):
    return [f"data.files.{split}={path}" for split, path in files.items()]


def test_metrics_equal_those_of_the_live_model(tiny_adapter, files, overrides, tmp_path):
    folder, model = tiny_adapter("decoder")
    report = evaluate(
        str(folder),
        tracking_uri=None,
        overrides=overrides,
        cache_path=tmp_path / "cache",
        output=tmp_path / "results",
    )
    rows = [json.loads(line) for line in files["test"].read_text().splitlines()]
    label_ids = np.array([LABELS.index(row["label"]) for row in rows])
    tokenizer = load_classifier(folder).tokenizer
    for found, temperature in ((report.metrics, 1.7), (report.uncalibrated, 1.0)):
        probabilities = classify(
            model, tokenizer, [row["text"] for row in rows], max_tokens=96, temperature=temperature
        )
        # Softmax in float64 there, in float32 here.
        assert found == pytest.approx(classification_metrics(probabilities, label_ids), abs=1e-5)
    assert (
        report.metrics["accuracy"] == sum(report.confusion[label][label] for label in range(3)) / 20
    )
    assert (report.documents, report.temperature, report.labels) == (20, 1.7, LABELS)
    assert report.same_data_as_training is None
    written = json.loads((tmp_path / "results" / "evaluation.json").read_text())
    assert written["metrics"] == report.metrics
    assert (tmp_path / "results" / "reliability.png").stat().st_size > 0
    assert (tmp_path / "results" / "by_length.png").stat().st_size > 0
    buckets = report.by_length
    assert sum(bucket.documents for bucket in buckets) == 20
    assert [bucket.longest for bucket in buckets] == sorted(bucket.longest for bucket in buckets)
    assert sum(bucket.accuracy * bucket.documents for bucket in buckets) / 20 == pytest.approx(
        report.metrics["accuracy"]
    )
    assert [bucket["documents"] for bucket in written["by_length"]] == [
        bucket.documents for bucket in buckets
    ]


def test_documents_are_as_long_as_they_were_before_the_cut(
    tiny_adapter, files, overrides, tmp_path
):
    folder, _ = tiny_adapter("decoder")
    long, short = (
        evaluate(
            str(folder),
            tracking_uri=None,
            overrides=[*overrides, f"data.max_tokens={max_tokens}"],
            cache_path=tmp_path / "cache",
        )
        for max_tokens in (96, 6)
    )
    assert [(bucket.shortest, bucket.longest) for bucket in short.by_length] == [
        (bucket.shortest, bucket.longest) for bucket in long.by_length
    ]
    for report, limit in ((long, 96), (short, 6)):
        assert sum(bucket.cut or 0 for bucket in report.by_length) == report.truncated_documents
        assert {bucket.cut_at for bucket in report.by_length if bucket.cut} == {limit}
    assert long.truncated_documents < short.truncated_documents


def test_registered_adapter_is_evaluated_on_the_data_of_its_run(
    tiny_adapter, overrides, mlflow_uri, tmp_path
):
    folder, _ = tiny_adapter("decoder")
    tracker = open_tracker("mlflow", mlflow_uri)
    tracker.ensure_experiment("evaluated", "")
    files = {
        override.split("=")[0].removeprefix("data.files."): override.split("=")[1]
        for override in overrides
    }
    config = {"data": {"files": files, "max_tokens": 96}}
    run = tracker.start_run("evaluated", run_name="s", config=config, params={}, tags={})
    tracker.register_adapter(
        run,
        adapter_folder=folder,
        package=adapter_package(folder),
        model_name="evaluated",
        metrics={},
        params={},
        description="",
        tags={},
    )
    registered = evaluate(
        "models:/evaluated@champion", tracking_uri=mlflow_uri, cache_path=tmp_path / "cache"
    )
    plain = evaluate(
        str(folder), tracking_uri=None, overrides=overrides, cache_path=tmp_path / "cache"
    )
    assert registered.model == "models:/evaluated/1"
    assert registered.metrics == plain.metrics
    assert registered.data_fingerprint == plain.data_fingerprint
    validation = evaluate(
        "models:/evaluated/1",
        tracking_uri=mlflow_uri,
        split="validation",
        cache_path=tmp_path / "cache",
    )
    assert validation.split == "validation"


def test_fingerprint_says_whether_the_data_are_those_of_training(tiny_adapter, overrides, tmp_path):
    folder, _ = tiny_adapter("decoder")
    fingerprint = evaluate(
        str(folder), tracking_uri=None, overrides=overrides, cache_path=tmp_path / "cache"
    ).data_fingerprint
    config = json.loads((folder / "adapter_config.json").read_text())
    for stored, expected in ((fingerprint, True), ("0" * 64, False)):
        config["training"]["data_fingerprint"] = stored
        (folder / "adapter_config.json").write_text(json.dumps(config))
        report = evaluate(
            str(folder), tracking_uri=None, overrides=overrides, cache_path=tmp_path / "cache"
        )
        assert report.same_data_as_training is expected


def test_label_that_the_adapter_does_not_know_is_named(tiny_adapter, files, overrides, tmp_path):
    folder, _ = tiny_adapter("decoder")
    for path in files.values():
        path.write_text(path.read_text().replace('"sports"', '"cooking"'))
    with pytest.raises(DataError, match="label 'cooking'"):
        evaluate(str(folder), tracking_uri=None, overrides=overrides, cache_path=tmp_path / "cache")


def test_wrong_settings_are_the_users_error(tiny_adapter, tmp_path):
    folder, _ = tiny_adapter("decoder")
    with pytest.raises(ConfigError, match="does not say which documents"):
        evaluate(str(folder), tracking_uri=None, cache_path=tmp_path)
    with pytest.raises(ConfigError, match=r"adapter\.prefix_length=3' cannot be set here"):
        evaluate(
            str(folder),
            tracking_uri=None,
            overrides=["adapter.prefix_length=3"],
            cache_path=tmp_path,
        )
    with pytest.raises(ConfigError, match=r"Did you mean 'data\.files\.train'"):
        evaluate(
            str(folder),
            tracking_uri=None,
            overrides=["data.files.trane=x.jsonl"],
            cache_path=tmp_path,
        )


def test_an_adapters_own_tokenizer_does_not_answer_from_the_backbones_cache(
    tiny_adapter, overrides, tmp_path
):
    folder, _ = tiny_adapter("decoder")
    classifier = load_classifier(folder)
    backbone = load_tokenizer(classifier.backbone)
    backbone.save_pretrained(folder / "tokenizer")
    where = {"tracking_uri": None, "overrides": overrides, "cache_path": tmp_path / "cache"}
    alike = evaluate(str(folder), **where)
    assert load_classifier(folder).tokenizer_id == tokenizer_id(classifier.backbone)

    settings = folder / "tokenizer" / "tokenizer.json"
    core = json.loads(settings.read_text())
    core["normalizer"] = {"type": "Replace", "pattern": {"String": "w"}, "content": "v"}
    settings.write_text(json.dumps(core))
    other = evaluate(str(folder), **where)
    assert other.data_fingerprint != alike.data_fingerprint
    assert len(list((tmp_path / "cache").glob("*/prepared.json"))) == 2


def test_a_label_that_only_training_documents_hold_does_not_stop_an_evaluation(
    tiny_adapter, files, overrides, tmp_path
):
    folder, _ = tiny_adapter("decoder")
    where = {"tracking_uri": None, "overrides": overrides, "cache_path": tmp_path / "cache"}
    before = evaluate(str(folder), **where)
    with files["train"].open("a") as file:
        file.write(json.dumps({"id": "new", "text": "a new thing", "label": "brand-new"}) + "\n")
    assert evaluate(str(folder), **where).metrics == before.metrics
    with files["test"].open("a") as file:
        file.write(json.dumps({"id": "t", "text": "another thing", "label": "brand-new"}) + "\n")
    with pytest.raises(DataError, match=r"label 'brand-new' \(document 't'\), which the adapter"):
        evaluate(str(folder), **where)
