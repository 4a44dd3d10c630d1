"""Trainings side by side in real DeepSpeed ranks that meet through a file: `python -m
tests.components.training.side_by_side_ranks RANK SIZE FOLDER` runs the groups of FOLDER/groups.json
one after the other and writes FOLDER/results.json.

A group is {"name", "members", "apart"?}: all its members at the same time, or one after the other.
A member is {"name", "values", "joins"?: the round before which it is added, "folder"?, "resume"?,
"stop_after"?, "leave_after"?, in questions to `wanted`}. Its result lies under "<group>/<member>".
"""

import json
import sys
from pathlib import Path
from typing import Any

from tests.components.training.ranks import meeting, run_module

TIMES = ("seconds", "tokens_per_second", "system/")


def run_groups(folder: Path, groups: list[dict[str, Any]], *, size: int) -> dict[str, Any]:
    """Results by "<group>/<member>"."""
    folder.mkdir(parents=True)
    (folder / "groups.json").write_text(json.dumps(groups))
    run_module("tests.components.training.side_by_side_ranks", folder, size=size)
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def main(rank: int, size: int, folder: Path) -> None:
    with meeting(rank, size, folder):
        from components.training.world import join_world

        world, sessions, results = join_world(), {}, {}  # type: ignore[var-annotated]
        for group in json.loads((folder / "groups.json").read_text()):
            results |= run_group(group, world, sessions, folder)
        if world.is_main:
            (folder / "results.json").write_text(json.dumps(results))


def run_group(
    group: dict[str, Any], world: Any, sessions: dict[str, Any], folder: Path
) -> dict[str, Any]:
    from components.training.micro_batch import driven_alone
    from components.training.side_by_side import SideBySide

    over: dict[str, Any] = {}
    if group.get("apart"):
        for member in group["members"]:
            steps, where = begun(group, member, world, sessions, folder)
            over[member["name"]] = told(driven_alone(steps), where)
    else:
        at_work, places, rounds = SideBySide[Any](), {}, 0
        while len(over) < len(group["members"]):
            for member in group["members"]:
                if member.get("joins", 0) == rounds:
                    steps, places[member["name"]] = begun(group, member, world, sessions, folder)
                    at_work.add(member["name"], steps)
            for name, result in at_work.round().items():
                over[name] = told(result, places[name])
            rounds += 1
    return {f"{group['name']}/{name}": result for name, result in over.items()}


def begun(
    group: dict[str, Any],
    member: dict[str, Any],
    world: Any,
    sessions: dict[str, Any],
    folder: Path,
) -> tuple[Any, Path]:
    """The training's steps, and its checkpoint folder."""
    from components.config import ExperimentConfig, validate
    from components.tasks import prepare
    from components.training.session import open_session
    from components.training.trial import trial_steps

    config = validate(ExperimentConfig, member["values"]).train_config()
    cache = Path(member["values"]["cluster"]["cache_path"])
    key = json.dumps([config.backbone.model_dump(), config.zero.model_dump()])
    key += str(config.training.gradient_checkpointing)
    if key not in sessions:
        sessions[key] = open_session(config, world, cache_path=cache)
    data = prepare(config.data, sessions[key].tokenizer, tokenizer_id="toy", cache_path=cache)
    where = Path(member.get("folder") or folder / f"{group['name']}-{member['name']}")
    asked = iter(range(1, 10**9))

    def wanted() -> Any:
        number = next(asked)
        if number == member.get("leave_after"):
            return "leave"
        return "stop" if number == member.get("stop_after") else "steps"

    steps = trial_steps(
        sessions[key],
        data,
        config,
        checkpoint_folder=where,
        report=lambda report: None,
        wanted=wanted,
        resume=member.get("resume", False),
        ranks=None,
    )
    return steps, where


def told(result: Any, folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    tensors = {}
    for file in ("trainable", "optimizer", "best"):
        path = folder / f"{file}.safetensors"
        if path.is_file():
            tensors |= {f"{file}: {name}": value for name, value in load_file(path).items()}
    return {
        "outcome": result.outcome,
        "reason": result.reason,
        "step": result.progress.step,
        "history": [
            {name: value for name, value in metrics.items() if not name.startswith(TIMES)}
            for metrics in result.progress.history
        ],
        "tensors": {name: value.flatten().tolist() for name, value in tensors.items()},
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
