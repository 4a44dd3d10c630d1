"""What a store keeps of runs, and what always holds of it."""

from typing import Any

OF_THE_MACHINE = ("second", "system/", "peak_memory")
"""Parts of names of metrics that differ from one run of the same training to the next."""


def of_the_machine(name: str) -> bool:
    """Whether a metric tells of the machine and not of what was computed."""
    return any(part in name for part in OF_THE_MACHINE)


def computed(metrics: Any) -> dict[str, Any]:
    """The metrics that the same training gives again."""
    return {name: value for name, value in metrics.items() if not of_the_machine(name)}


def points_of(client: Any, experiment: str) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """(run's name, metric) -> (step, value) of every point in the order of their times."""
    found = client.get_experiment_by_name(experiment)
    points = {}
    for run in client.search_runs([found.experiment_id], max_results=1000):
        for name in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, name)
            history.sort(key=lambda point: (point.timestamp, point.step))
            key = f"{run.info.run_name} {run.info.run_id}", name
            points[key] = [(point.step, point.value) for point in history]
    return points


def against_the_axis(client: Any, experiment: str) -> list[str]:
    """The metrics whose steps go back, or that have two values at one step: there are none."""
    wrong = []
    for (run, name), points in points_of(client, experiment).items():
        steps = [step for step, _ in points]
        if steps != sorted(set(steps)):
            wrong.append(f"{run}: {name} at {steps}")
    return wrong
