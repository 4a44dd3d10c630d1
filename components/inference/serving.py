"""What a registered adapter is told where it is loaded (MLflow's `model_config`), and what one
request may ask of it.

The defaults are stored with the model; a value given at load time takes the place of its own. The
fact a newcomer gets wrong: MLflow has read and parsed a request before the model sees it, so these
limits bound the work and not the upload; that is for the proxy before the server.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from components.errors import ConfigError, DataError
from components.settings import Config, PositiveInt, Texts, validate

LARGEST_BATCH = 64


class ServingConfig(Config):
    """The model's `model_config`."""

    cache_path: str | None = None
    """Folder of lengthened backbones; null: that of the user."""
    max_documents: PositiveInt = 1_000
    """Documents (questions) in one request."""
    max_characters: PositiveInt = 1_000_000
    """Characters of one text."""
    max_bytes: PositiveInt = 32 * 1024**2
    """Bytes of all texts of a request, in UTF-8."""
    follow: str | None = None
    """models:/<name>@<alias>: answer by the version that holds the alias, also after it moved;
    null: by this one for ever.
    """
    also: Texts = ()
    """Further adapters of the same task on the same backbone, which answer every request too:
    models:/<name>@<alias> (resolved when the model is loaded) or models:/<name>/<version>.
    """
    follow_seconds: Annotated[float, Field(ge=0.05, le=86_400.0)] = 30.0
    """How often the alias is looked at."""


def serving_config(values: Mapping[str, Any] | None) -> ServingConfig:
    """What the model was stored and loaded with. Raises ConfigError naming the setting."""
    try:
        return validate(ServingConfig, dict(values or {}))
    except ConfigError as error:
        raise ConfigError(f"model_config: {error}") from error


def check_request(
    records: Sequence[Mapping[str, Any]], columns: Mapping[str, str], limits: ServingConfig
) -> None:
    """Raise DataError for a request that holds more than it may, or what is no text. `columns`: the
    types of the signature, `string` or `list of string`.
    """
    if len(records) > limits.max_documents:
        raise DataError(
            f"request: {len(records):,} documents, at most {limits.max_documents:,} are answered "
            "at once. Send fewer, or load the model with a larger model_config.max_documents."
        )
    total = 0
    for number, record in enumerate(records, start=1):
        for text in _texts(record, columns, number):
            if len(text) > limits.max_characters:
                raise DataError(
                    f"request: a text of document {number} has {len(text):,} characters, at most "
                    f"{limits.max_characters:,} are read. Cut it, or load the model with a larger "
                    "model_config.max_characters."
                )
            total += _size(text, number)
    if total > limits.max_bytes:
        raise DataError(
            f"request: {total:,} bytes of text, at most {limits.max_bytes:,} are answered at once. "
            "Send fewer documents, or load the model with a larger model_config.max_bytes."
        )


def batch_size_of(params: Mapping[str, Any], default: int) -> int:
    """Documents in a batch, of a request's parameters. Raises DataError."""
    found = params.get("batch_size", default)
    if not 0 < int(found) <= LARGEST_BATCH:
        raise DataError(f"request: batch_size is {found}, expected 1 to {LARGEST_BATCH}.")
    return int(found)


def _texts(record: Mapping[str, Any], columns: Mapping[str, str], number: int) -> Iterator[str]:
    for column, kind in columns.items():
        value = record[column]
        # Lists come as numpy arrays.
        several = kind == "list of string" and isinstance(value, Iterable)
        for text in value if several and not isinstance(value, str) else [value]:
            if not isinstance(text, str):
                raise DataError(
                    f"request: column '{column}' of document {number} holds "
                    f"{type(text).__name__}, expected {kind}."
                )
            yield text


def _size(text: str, number: int) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise DataError(
            f"request: a text of document {number} holds half a character (\\ud800 to \\udfff), "
            "which no UTF-8 text has. Encode it again."
        ) from error
