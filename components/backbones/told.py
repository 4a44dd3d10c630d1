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
    except (MemoryError, UserError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise refuse(f"{what}: {reason_of(error)}") from error


def reason_of(error: Any) -> str:
    """An error in one short line that ends with a full stop, without advice that this project does
    not give.
    """
    whole = " ".join(str(error).split())
    if not whole or any(advice in whole for advice in HIDDEN_ADVICE):
        return f"{type(error).__name__}."
    name = f"{type(error).__name__} " if len(whole) < 20 else ""
    return f"{name}{whole[:MOST_CHARACTERS]}".rstrip(".") + "."
