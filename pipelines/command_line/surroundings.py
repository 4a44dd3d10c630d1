"""What a command makes of its surroundings before anything else: which texts are secrets here, and
that a proxy does not stand before this machine's own servers.
"""

from collections.abc import MutableMapping

from components.loopback import direct_loopback
from components.secrets import keep_secret, secret_values


def settle(environ: MutableMapping[str, str]) -> None:
    """Put them right in this process's environment, which workers and jobs inherit."""
    keep_secret(secret_values(environ))
    environ.update(direct_loopback(environ))
