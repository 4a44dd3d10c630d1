"""`python -m pipelines.research.benchmark NAME [--json FILE] [--data FOLDER] [--quick] [--full]
[--only CASE ...]`: the same measurements without the command line's own start.
"""

import argparse
import json
import sys
from pathlib import Path

from pipelines.research.benchmark import BENCHMARKS, BenchmarkOptions, measure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipelines.research.benchmark")
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--data", type=Path, help="folder of real documents")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", nargs="*", default=())
    given = parser.parse_args()
    options = BenchmarkOptions(
        data=given.data, quick=given.quick, full=given.full, only=tuple(given.only)
    )

    def progress(line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    report = json.dumps(measure(given.name, options, progress), indent=2)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(report + "\n", encoding="utf-8")
    else:
        print(report)  # noqa: T201


if __name__ == "__main__":
    main()
