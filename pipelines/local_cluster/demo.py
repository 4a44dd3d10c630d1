"""The demo's second half, once the local cluster is up: submit the search as a Ray job, then ask
the registered adapter about documents that it was not trained on.

The search itself is nothing special: `pipelines/experiments/demo.yaml`, run by the same command as
every other experiment.
"""

import json
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from components.config import ExperimentConfig
from components.errors import ClusterError
from pipelines.command_line import invocation
from pipelines.command_line.terminal import Terminal, command
from pipelines.experiments import load_experiment
from pipelines.submit import submit

EXPERIMENT = "demo"
FOLDER = Path(".prefixprop/demo")


def main() -> None:
    """Run the demo against the local cluster; run again while its search runs, follow that one."""
    with command(
        as_json=False, resume="make demo (the search goes on meanwhile; prefixprop down ends it)"
    ) as terminal:
        addresses = invocation.addresses()
        if addresses.jobs_address is None or addresses.tracking_uri is None:
            raise ClusterError("The local cluster does not run. Start it with: prefixprop up")
        submission = submit(
            ["search", EXPERIMENT],
            name=EXPERIMENT,
            jobs_address=addresses.jobs_address,
            environ=os.environ,
            working_dir=Path.cwd(),
            write=terminal.write,
            say=terminal.say,
        )
        if submission.status != "SUCCEEDED":
            sys.exit(submission.exit_code or 1)
        _ask(load_experiment(EXPERIMENT), addresses.tracking_uri, terminal)


def _ask(config: ExperimentConfig, tracking_uri: str, terminal: Terminal) -> None:
    """One test document of every class, answered by the version that was registered last."""
    from components.registry import open_tracker
    from pipelines.predict import predict

    newest = max(
        version.version
        for version in open_tracker("mlflow", tracking_uri).versions(config.model_name)
    )
    documents, answers = FOLDER / "documents.jsonl", FOLDER / "answers.jsonl"
    FOLDER.mkdir(parents=True, exist_ok=True)
    held_out = list(_held_out(config))
    labels = {identity: label for identity, label, _ in held_out}
    documents.write_text(
        "".join(
            json.dumps({"id": identity, "text": text}) + "\n" for identity, _, text in held_out
        ),
        encoding="utf-8",
    )
    model = f"models:/{config.model_name}/{newest}"
    terminal.say("")
    terminal.say(f"$ prefixprop predict --model {model} --input {documents} --output {answers}")
    predict(
        model,
        input=documents,
        output=answers,
        tracking_uri=tracking_uri,
        cache_path=Path(config.cluster.cache_path),
    )
    for line in answers.read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)
        terminal.say(
            f"{answer['label']:<14}{answer['probabilities'][answer['label']]:.2f}  {answer['id']}  "
            f"(it is from {labels[answer['id']]})"
        )


def _held_out(config: ExperimentConfig) -> Iterator[tuple[str, str, str]]:
    """Id, label and masked text of the first test document of every class."""
    from components.backbones import load_tokenizer, tokenizer_id
    from components.data.masking import masked
    from components.tasks import prepare

    assert config.data.installed_source is not None
    backbone = config.backbone
    data = prepare(
        config.data,
        load_tokenizer(backbone),
        tokenizer_id=tokenizer_id(backbone),
        cache_path=Path(config.cluster.cache_path),
    )
    test = data.splits["test"]
    for label_id, label in enumerate(data.labels):
        identity = next(
            identity
            for identity, found in zip(test.ids, test.label_ids, strict=True)
            if found == label_id
        )
        spec = find_spec(label)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        file = Path(next(iter(spec.submodule_search_locations))) / identity.partition("/")[2]
        yield (
            identity,
            label,
            masked(file.read_text(encoding="utf-8"), set(config.data.installed_source.libraries)),
        )


if __name__ == "__main__":
    main()
