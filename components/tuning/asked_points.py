"""The points that a search has asked, in its folder: points.json.

A search that is continued meets them again first, in the same order, before its searcher is asked
for more.
"""

from collections.abc import Sequence
from pathlib import Path

from components.atomic_file import read_state, write_state
from components.errors import ArtifactError
from components.tuning.searchers import Point

POINTS_FILE = "points.json"
FORMAT = 1


def read_points(folder: Path) -> list[Point]:
    """Empty where there are none. Raises ArtifactError where the file is damaged."""
    file = folder / POINTS_FILE
    if not file.is_file():
        return []
    try:
        points: list[Point] = read_state(file)["points"]
        return points
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"'{file}' cannot be read ({error}), so the search cannot meet its points again. Leave "
            "--resume out to start a new search; its trials are taken over where they are the same."
        ) from error


def write_points(folder: Path, points: Sequence[Point]) -> None:
    """Replace the file, whole or not at all."""
    write_state(folder / POINTS_FILE, {"format": FORMAT, "points": list(points)})
