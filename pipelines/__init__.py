"""Workflows: what happens, in order."""

from pathlib import Path


def code_folders() -> tuple[Path, ...]:
    """The two packages that a Ray cluster needs to run this program's code on its workers."""
    here = Path(__file__).resolve().parent
    return (here.parent / "components", here)
