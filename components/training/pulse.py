"""How far this process is: a number that grows with every micro-batch, trained on or evaluated.

It means nothing by itself; whoever watches the process sees whether it still moves
(components/jobs/watchdog.py).
"""


class Pulse:
    """Beats so far. One for the process, whatever it trains side by side."""

    def __init__(self) -> None:
        self.beats = 0

    def beat(self) -> None:
        self.beats += 1


PULSE = Pulse()
