"""The rule of promotion and rollback, apart from any store: which version is in use, and which were
before it.
"""

from dataclasses import dataclass, replace

from components.errors import RegistryError


@dataclass(frozen=True)
class Champions:
    """`known` are all versions, `current` holds the alias champion, `before` held it earlier
    (latest last).
    """

    model_name: str
    known: tuple[int, ...]
    current: int | None
    before: tuple[int, ...]


def promoted(champions: Champions, version: int) -> Champions:
    """`version` becomes the champion; the one before is remembered. Raises RegistryError for a
    version that does not exist.
    """
    if version not in champions.known:
        there = ", ".join(map(str, champions.known)) or "none"
        raise RegistryError(
            f"version: '{champions.model_name}' has no version {version}. Versions: {there}."
        )
    if version == champions.current:
        return champions
    before = (
        champions.before if champions.current is None else (*champions.before, champions.current)
    )
    return replace(champions, current=version, before=before)


def rolled_back(champions: Champions) -> Champions:
    """The latest earlier champion that still exists is the champion again; the present one leaves
    the line. Raises RegistryError where there is none.
    """
    if champions.current is None:
        raise RegistryError(
            f"'{champions.model_name}' has no champion to roll back from. Promote a version first."
        )
    line = [version for version in champions.before if version in champions.known]
    while line and line[-1] == champions.current:
        line.pop()
    if not line:
        raise RegistryError(
            f"'{champions.model_name}' has no champion before version {champions.current} to go "
            "back to. Promote the version you want instead."
        )
    return replace(champions, current=line[-1], before=tuple(line[:-1]))
