"""What every section of settings is made of, and nothing that knows a section: a strict base, the
usual types, validation with errors that name the dotted path, sections chosen from a table.
"""

from components.settings.base import (
    Config,
    Count,
    Fraction,
    Name,
    PositiveInt,
    Rate,
    Seed,
    Texts,
)
from components.settings.chosen import Chosen, choice_tag, one_of
from components.settings.file_paths import (
    FilePath,
    FolderPath,
    disk_problem,
    expand_path,
    writable_folder,
    writing,
)
from components.settings.overrides import set_option
from components.settings.paths import check_path, config_paths, did_you_mean, section, set_path
from components.settings.validation import resolved, validate

__all__ = [
    "Chosen",
    "Config",
    "Count",
    "FilePath",
    "FolderPath",
    "Fraction",
    "Name",
    "PositiveInt",
    "Rate",
    "Seed",
    "Texts",
    "check_path",
    "choice_tag",
    "config_paths",
    "did_you_mean",
    "disk_problem",
    "expand_path",
    "one_of",
    "resolved",
    "section",
    "set_option",
    "set_path",
    "validate",
    "writable_folder",
    "writing",
]
