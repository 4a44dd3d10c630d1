"""What a library raises over somebody else's checkpoint, as one line of ours."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from components.errors import UserError

Refuse = Callable[[str], UserError]
"""Makes the error of a reason."""

HIDDEN_ADVICE = ("weights_only", "trust_remote_code")
"""Settings that would run somebody else's code: no message passes such advice on."""

MOST_CHARACTERS = 200


@contextmanager
def told(refuse: Refuse, what: str) -> Iterator[None]:
    """Raise refuse(`what` and the reason) for whatever the block raises; want of memory is nobody's
    fault and stays what it is.
    """
    try:
        yield
    except BaseException as error:
        # Panics of Rust (tokenizers) are no Exceptions.
        foreign = isinstance(error, Exception) or type(error).__name__ == "PanicException"
        if not foreign or isinstance(error, MemoryError | UserError) or _wants_memory(error):
            raise
        raise refuse(f"{what}: {reason_of(error)}") from error


def _wants_memory(error: BaseException) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)


def reason_of(error: Any) -> str:
    """An error in one short line that ends with a full stop, without advice that this project does
    not give.
    """
    whole = " ".join(str(error).split())
    if not whole or any(advice in whole for advice in HIDDEN_ADVICE):
        return f"{type(error).__name__}."
    name = f"{type(error).__name__} " if len(whole) < 20 else ""
    return f"{name}{whole[:MOST_CHARACTERS]}".rstrip(".") + "."
