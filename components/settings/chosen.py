"""Settings that are chosen from a table which is read when a value arrives, not when the class is
made: an entry that is added to the table is known everywhere at once.

`Chosen` is a whole section whose class follows from one of its own settings (adapter.method);
`one_of` checks a name (backbone.family).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import AfterValidator, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from components.settings.base import Config

UNKNOWN = "unknown_choice"
"""Error type whose message is complete: path, what was given, what is known."""


def choice_tag(name: str) -> str:
    """How an error's location names the chosen entry, which is no part of the dotted path."""
    return f"<{name}>"


def one_of(path: str, known: Callable[[], Iterable[str]]) -> AfterValidator:
    """Validator of a name that must be in a table."""

    def check(name: str) -> str:
        if name not in (names := list(known())):
            raise _unknown(path, name, names)
        return name

    return AfterValidator(check)


def _unknown(path: str, given: Any, known: Iterable[str]) -> PydanticCustomError:
    shown = json.dumps(given, default=str).replace("{", "{{").replace("}", "}}")
    message: Any = f"{path} {shown} is unknown. Known: {', '.join(known)}."
    return PydanticCustomError(UNKNOWN, message)


@dataclass(frozen=True)
class Chosen:
    """Annotation of a section whose class `classes()[section[key]]` says."""

    path: str
    """Where the section stands: `adapter`."""
    key: str
    default: str
    """What a section without the key is."""
    classes: Callable[[], Mapping[str, type[Config]]]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(self._validated)

    def _validated(self, value: Any, info: core_schema.ValidationInfo) -> Config:
        classes = self.classes()
        name = value.get(self.key, self.default) if isinstance(value, dict) else None
        if not isinstance(value, dict):
            name = getattr(value, self.key, None)
        if not isinstance(name, str) or name not in classes:
            given = name if name is not None else value
            raise _unknown(f"{self.path}.{self.key}", given, classes)
        if isinstance(value, classes[name]):
            return value
        try:
            if info.mode == "json":
                return classes[name].model_validate_json(json.dumps(value))
            return classes[name].model_validate(value)
        except ValidationError as error:
            raise ValidationError.from_exception_data(
                error.title,
                cast("Any", [_tagged(name, item) for item in error.errors(include_url=False)]),
                input_type="json" if info.mode == "json" else "python",
            ) from error


def _tagged(name: str, item: Mapping[str, Any]) -> InitErrorDetails:
    return InitErrorDetails(
        type=item["type"],
        loc=(choice_tag(name), *item["loc"]),
        input=item["input"],
        ctx=item.get("ctx", {}),
    )
