"""The golden runs of two commits side by side: bit-identical, or by how much they differ.

    python -m pipelines.research.compare_losses befcae5            # against the working tree
    python -m pipelines.research.compare_losses befcae5 HEAD~1

What a change of numerics has to show, and what a change that claims to change nothing proves. Each
commit runs its own code on its own golden runs (tests/components/adapters/golden.py), in a process
and a checkout of its own, on one thread. Exit code 0: identical; 1: something differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Losses = Mapping[str, Sequence[float]]
"""Method -> mean loss before each step."""

GOLDEN_RUNS = """
import json, sys, torch
torch.set_num_threads(1)
from components.adapters import ADAPTERS
from tests.components.adapters.golden import losses
methods = sys.argv[1:] or list(ADAPTERS)
print(json.dumps({method: [loss.hex() for loss in losses(method)] for method in methods}))
"""


@dataclass(frozen=True)
class Difference:
    """One method in both commits. `first_step` is the first step (from 0) at which they differ,
    None where they never do; `largest` is the largest absolute difference of any step.
    """

    method: str
    first_step: int | None
    largest: float


def differences(before: Losses, after: Losses) -> tuple[Difference, ...]:
    """A row per method that both commits have, in the order of `before`. Raises ValueError where
    they did not take the same number of steps.
    """
    return tuple(
        _difference(method, losses, after[method])
        for method, losses in before.items()
        if method in after
    )


def _difference(method: str, before: Sequence[float], after: Sequence[float]) -> Difference:
    gaps = [abs(one - other) for one, other in zip(before, after, strict=True)]
    first = next((step for step, gap in enumerate(gaps) if gap > 0.0), None)
    return Difference(method, first, max(gaps))


def golden_losses(checkout: Path, methods: Sequence[str] = ()) -> Losses:
    """The golden runs of a checkout's own code. Raises RuntimeError with its last line where they
    fail.
    """
    ended = subprocess.run(
        [sys.executable, "-c", GOLDEN_RUNS, *methods],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"The golden runs of '{checkout}' failed: {last}")
    found = json.loads(ended.stdout.splitlines()[-1])
    return {method: [float.fromhex(loss) for loss in losses] for method, losses in found.items()}


@contextmanager
def checked_out(commit: str, project: Path) -> Iterator[Path]:
    """The files of a commit in a temporary folder, without a trace in the project's own checkout.
    Raises RuntimeError where there is no such commit.
    """
    with tempfile.TemporaryDirectory(prefix="prefixprop-losses-") as folder:
        archive = subprocess.run(
            ["git", "-C", str(project), "archive", commit], capture_output=True, check=False
        )
        if archive.returncode != 0:
            raise RuntimeError(f"{archive.stderr.decode().strip()} (commit '{commit}')")
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


def table(rows: Sequence[Difference]) -> str:
    """A line per method for people."""
    width = max(len(row.method) for row in rows)
    return "\n".join(f"{row.method:<{width}}  {_in_words(row)}" for row in rows)


def _in_words(row: Difference) -> str:
    if row.first_step is None:
        return "bit-identical"
    return f"differs from step {row.first_step} on, by {row.largest:.3g} at most"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.research.compare_losses")
    parser.add_argument("before", help="commit to compare with")
    parser.add_argument("after", nargs="?", help="commit; left out: the working tree")
    parser.add_argument("--methods", nargs="*", default=(), help="left out: all of `before`")
    given = parser.parse_args()
    project = Path.cwd()
    with checked_out(given.before, project) as checkout:
        before = golden_losses(checkout, given.methods)
    if given.after is None:
        after = golden_losses(project, tuple(before))
    else:
        with checked_out(given.after, project) as checkout:
            after = golden_losses(checkout, tuple(before))
    rows = differences(before, after)
    print(table(rows))  # noqa: T201
    return int(any(row.first_step is not None for row in rows))


if __name__ == "__main__":
    sys.exit(main())
