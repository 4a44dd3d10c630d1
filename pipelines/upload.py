"""What a job gets a copy of: the project's folder, as Ray packs it.

The fact a newcomer gets wrong: a folder of documents inside the project goes along, unless
.rayignore or .gitignore names it; Ray packs without compressing, and its job server takes 100 MiB.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.errors import ConfigError

MIB = 1024**2
DEPTH = 2
"""Sizes are told by folders of so many levels."""
MOST_TOLD = 4


@dataclass(frozen=True)
class Upload:
    """What of a folder goes along. `entries` are (path, bytes), the largest first; `left_out` are
    the names in the folder itself that stay here.
    """

    files: int
    bytes: int
    entries: tuple[tuple[str, int], ...]
    left_out: tuple[str, ...]

    def line(self) -> str:
        """What goes along and what does not."""
        stays = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return f"{self.files} files of {self.bytes / MIB:.1f} MiB go along{stays}"


def look_at(folder: Path, excludes: Sequence[str]) -> Upload:
    """Which files Ray would pack: its own walk, with .rayignore, .gitignore and `excludes`."""
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    sizes: Counter[str] = Counter()
    taken: set[str] = set()
    files = 0

    def note(path: Path) -> None:
        nonlocal files
        if path.is_file():  # a folder is walked into even where all that is in it stays here
            parts = path.relative_to(folder).parts
            taken.add(parts[0])
            files += 1
            sizes["/".join(parts[:DEPTH])] += path.stat().st_size

    folder = folder.absolute()
    _dir_travel(folder, [_get_excludes(folder, list(excludes))], note, include_gitignore=True)
    left_out = sorted(each.name for each in folder.iterdir() if each.name not in taken)
    return Upload(files, sizes.total(), tuple(sizes.most_common()), tuple(left_out))


def check_upload(folder: Path, excludes: Sequence[str], *, limit: int | None = None) -> Upload:
    """The upload, if a job server takes it: at most `limit` bytes (None: Ray's own limit). Raises
    ConfigError that names the largest entries.
    """
    from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE

    found = look_at(folder, excludes)
    limit = DASHBOARD_CLIENT_MAX_SIZE if limit is None else limit
    if found.bytes <= limit:
        return found
    largest = ", ".join(
        f"{path} ({size / MIB:.1f} MiB)" for path, size in found.entries[:MOST_TOLD]
    )
    raise ConfigError(
        f"'{folder}' has {found.bytes / MIB:.1f} MiB to upload, and a Ray job server takes "
        f"{limit / MIB:.0f} MiB. Largest: {largest}. Left out already: "
        f"{', '.join(found.left_out) or 'nothing'}. Add a line such as /{found.entries[0][0]} to "
        ".rayignore, and name documents by an absolute path that the cluster sees."
    )
