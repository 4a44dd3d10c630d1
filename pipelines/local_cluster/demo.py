"""The demo's second half, once the local cluster is up: submit the search as a Ray job, ask the
registered adapter about documents that it was not trained on, and compare its answers with those
of what is simpler.

The search itself is nothing special: `pipelines/experiments/demo.yaml`, run by the same command as
every other experiment.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.config import ExperimentConfig
from components.errors import GATE_REFUSED, ClusterError
from pipelines.command_line import invocation
from pipelines.command_line.terminal import Terminal, command
from pipelines.experiments import load_experiment
from pipelines.local_cluster.access import access_to
from pipelines.local_cluster.addresses import STATE_FOLDER
from pipelines.local_cluster.baselines import Score, bag_of_words, head_alone, majority
from pipelines.local_cluster.state_file import read_cluster
from pipelines.submit import submit

if TYPE_CHECKING:
    from components.tasks.labelled_text import LabelledText

EXPERIMENT = "demo"
FOLDER = Path(".prefixprop/demo")


def main() -> None:
    """Run the demo against the local cluster; run again while its search runs, follow that one."""
    resume = "make demo (the search goes on meanwhile; prefixprop down ends it)"
    with command(as_json=False, resume=resume) as terminal:
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
        # A second demo's search meets the champion of the first, and may be refused.
        if submission.status != "SUCCEEDED" and submission.exit_code != GATE_REFUSED:
            sys.exit(submission.exit_code or 1)
        compare_with_what_is_simpler(load_experiment(EXPERIMENT), addresses.tracking_uri, terminal)
        cluster = read_cluster(STATE_FOLDER)
        if cluster is not None:
            terminal.say("")
            terminal.say(f"In a browser: {access_to(cluster, STATE_FOLDER).mlflow_link}")


def compare_with_what_is_simpler(
    config: ExperimentConfig, tracking_uri: str, terminal: Terminal
) -> None:
    """The registered version's answers, one of every class in full, and the table."""
    from components.backbones import load_tokenizer
    from components.tasks import split_examples

    splits: Any = split_examples(config.data, load_tokenizer(config.backbone))
    adapter = _ask(config, splits["test"], tracking_uri, terminal)
    terminal.say("")
    terminal.say("What simpler things make of the same documents (some seconds for the head) ...")
    cache = Path(config.cluster.cache_path)
    scores = (
        majority(splits),
        bag_of_words(splits),
        head_alone(config, cache_path=cache),
        adapter,
    )
    for line in table(scores):
        terminal.say(line)


def _ask(
    config: ExperimentConfig,
    test: Sequence["LabelledText"],
    tracking_uri: str,
    terminal: Terminal,
) -> Score:
    """All test documents, answered by the version that was registered last, in this process."""
    from components.registry import open_tracker
    from pipelines.predict import predict

    tracker = open_tracker("mlflow", tracking_uri)
    newest = max(version.version for version in tracker.versions(config.model_name))
    documents, answers = FOLDER / "documents.jsonl", FOLDER / "answers.jsonl"
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"id": each.id, "text": each.text}) + "\n" for each in test]
    documents.write_text("".join(lines), encoding="utf-8")
    model = f"models:/{config.model_name}/{newest}"
    terminal.say("")
    terminal.say(f"$ prefixprop predict --model {model} --input {documents} --output {answers}")
    cache = Path(config.cluster.cache_path)
    predict(model, input=documents, output=answers, tracking_uri=tracking_uri, cache_path=cache)
    lines = answers.read_text(encoding="utf-8").splitlines()
    answered = {answer["id"]: answer for answer in map(json.loads, lines)}
    first = {each.label: each for each in reversed(test)}
    for label in sorted(first):
        answer, truth = answered[first[label].id], f"(the answer is {label})"
        probability = answer["probabilities"][answer["label"]]
        terminal.say(f"{answer['label']:<14}{probability:.2f}  {answer['id']}  {truth}")
    right = sum(answered[each.id]["label"] == each.label for each in test)
    name = f"{config.model_name} version {newest} ({config.adapter.method})"
    return Score(name, right, len(test))


def table(scores: Sequence[Score]) -> list[str]:
    """One line each: share of right answers, its 95% Wilson interval, how many documents."""
    from components.evaluation import accuracy_interval

    width = max(len(score.name) for score in scores)
    lines = [f"{'':<{width}}  accuracy  95% interval    test documents"]
    for score in scores:
        low, high = accuracy_interval(score.right, score.documents)
        share = score.right / score.documents
        lines.append(
            f"{score.name:<{width}}  {share:>8.3f}  {low:.3f} to {high:.3f}  {score.documents:>14}"
        )
    return lines


if __name__ == "__main__":
    main()
