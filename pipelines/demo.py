"""The demo's second half, once the local cluster is up: submit the search as a Ray job, then ask the registered adapter about documents that it was not trained on.

The search itself is nothing special: `pipelines/experiments/demo.yaml`, run by the same command as every other experiment.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from components.config import ExperimentConfig, load_experiment
from components.errors import ClusterError
from pipelines import invocation
from pipelines.terminal import Terminal, command

EXPERIMENT = "demo"
FOLDER = Path(".prefixprop/demo")


def main() -> None:
    """Run the demo against the local cluster."""
    with command(as_json=False) as terminal:
        addresses = invocation.addresses()
        if addresses.jobs_address is None or addresses.tracking_uri is None:
            raise ClusterError("The local cluster does not run. Start it with: prefixprop up")
        code = _submit(addresses.jobs_address, terminal)
        if code != 0:
            sys.exit(code)
        _ask(load_experiment(EXPERIMENT), addresses.tracking_uri, terminal)


def _submit(jobs_address: str, terminal: Terminal) -> int:
    job = [
        "ray",
        "job",
        "submit",
        "--address",
        jobs_address,
        "--working-dir",
        ".",
        "--",
        "python",
        "-m",
        "pipelines.cli",
        "search",
        EXPERIMENT,
    ]
    terminal.say(f"$ {shlex.join(job)}")
    environ = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])}
    return subprocess.run(job, env=environ, check=False).returncode


def _ask(config: ExperimentConfig, tracking_uri: str, terminal: Terminal) -> None:
    """One test document of every class, answered by the version that was registered last."""
    from components.registry import open_tracker
    from pipelines.predict import predict

    newest = max(version.version for version in open_tracker("mlflow", tracking_uri).versions(config.model_name))
    documents, answers = FOLDER / "documents.jsonl", FOLDER / "answers.jsonl"
    FOLDER.mkdir(parents=True, exist_ok=True)
    held_out = list(_held_out(config))
    labels = {identity: label for identity, label, _ in held_out}
    documents.write_text("".join(json.dumps({"id": identity, "text": text}) + "\n" for identity, _, text in held_out), encoding="utf-8")
    model = f"models:/{config.model_name}/{newest}"
    terminal.say("")
    terminal.say(f"$ prefixprop predict --model {model} --input {documents} --output {answers}")
    predict(model, input=documents, output=answers, tracking_uri=tracking_uri)
    for line in answers.read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)
        terminal.say(
            f"{answer['label']:<14}{answer['probabilities'][answer['label']]:.2f}  {answer['id']}  (it is from {labels[answer['id']]})"
        )


def _held_out(config: ExperimentConfig) -> Iterator[tuple[str, str, str]]:
    """Id, label and masked text of the first test document of every class."""
    from components.backbones import load_tokenizer, tokenizer_id
    from components.data import prepare
    from components.data.masking import masked

    assert config.data.installed_source is not None
    backbone = config.backbone
    data = prepare(config.data, load_tokenizer(backbone), tokenizer_id=tokenizer_id(backbone), cache_path=Path(config.cluster.cache_path))
    test = data.splits["test"]
    for label_id, label in enumerate(data.labels):
        identity = next(identity for identity, found in zip(test.ids, test.label_ids, strict=True) if found == label_id)
        spec = find_spec(label)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        file = Path(next(iter(spec.submodule_search_locations))) / identity.partition("/")[2]
        yield identity, label, masked(file.read_text(encoding="utf-8"), set(config.data.installed_source.libraries))


if __name__ == "__main__":
    main()
