"""`python -m pipelines.research.benchmark.gpu [--json FILE] [--small] [--seconds 540]`: everything
that a lent GPU is asked, in under ten minutes, into one file with hardware, versions and command.

The fact a newcomer gets wrong: it must not fail on a machine that is lent once. Every part stands
for itself, one that fails leaves its error and the others go on, the file is written after each,
and `--small` runs all of it on a CPU (a test does). Exit code 1: a part failed or disagreed.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

LAST_LINES = 5


def run(*, small: bool, seconds: float, write: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The report; `write` gets it after every part."""
    import torch

    from pipelines.research.benchmark.gpu import parity, steps
    from pipelines.research.benchmark.gpu.sizes import FULL, SMALL
    from pipelines.research.benchmark.hardware import hardware, versions

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes, ends = SMALL if small else FULL, time.monotonic() + seconds
    torch.backends.cuda.matmul.allow_tf32 = False

    def remaining() -> float:
        return ends - time.monotonic()

    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "kernels": lambda: parity.kernels(sizes, device),
        "models": lambda: parity.whole_models(sizes, device),
        "longformer": lambda: steps.longformer_steps(sizes, device),
        "decoder": lambda: steps.decoder_against_peft(sizes, device),
        "longest": lambda: steps.longest_context(sizes, device, remaining),
    }
    report: dict[str, Any] = {
        "command": " ".join(["python -m pipelines.research.benchmark.gpu", *sys.argv[1:]]),
        "small": small,
        "device": str(device),
        "hardware": hardware(),
        "versions": versions(),
        "parts": {},
    }
    for name, part in parts.items():
        report["parts"][name] = _carried_out(part, remaining())
        write(report)
    return report


def _carried_out(part: Callable[[], dict[str, Any]], remaining_seconds: float) -> dict[str, Any]:
    if remaining_seconds <= 0:
        return {"skipped": "time was up"}
    started = time.monotonic()
    try:
        answer = part()
    except Exception:  # noqa: BLE001 - the other parts still have their questions
        lines = traceback.format_exc().strip().splitlines()[-LAST_LINES:]
        answer = {"failed": lines}
    return answer | {"seconds_in_all": round(time.monotonic() - started, 1)}


def good(report: dict[str, Any]) -> bool:
    """Whether every part ran and every comparison agrees."""
    parts = report["parts"].values()
    ran = not any("failed" in part for part in parts)
    return ran and all(
        answer.get("agrees", True)
        for part in parts
        for answer in part.values()
        if isinstance(answer, dict)
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.research.benchmark.gpu")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="the report's file")
    parser.add_argument("--small", action="store_true", help="tiny sizes: tries the code alone")
    parser.add_argument("--seconds", type=float, default=540.0, help="begin nothing after these")
    given = parser.parse_args()

    def write(report: dict[str, Any]) -> None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        name = list(report["parts"])[-1]
        print(f"{name}: {json.dumps(report['parts'][name])}", file=sys.stderr)  # noqa: T201

    return int(not good(run(small=given.small, seconds=given.seconds, write=write)))


if __name__ == "__main__":
    sys.exit(main())
