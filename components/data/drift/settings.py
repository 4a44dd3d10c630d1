"""Settings of what may change between two retrainings: the section `drift` of a retraining."""

from typing import Annotated, Literal

from pydantic import Field

from components.settings import Config, Fraction

Verdict = Literal["stop", "warn", "fine"]
Effect = Annotated[float, Field(gt=0.0, le=1.0)]


class DriftConfig(Config):
    """What a change of each kind leads to. A change of a distribution counts where it is
    significant (false discoveries controlled over all tests) and its effect is at least as large as
    given, so that many documents do not turn trifles into alarms.
    """

    new_labels: Verdict = "stop"
    """Labels that no old document has."""
    lost_labels: Verdict = "stop"
    """Labels that no new document has."""
    labels: Verdict = "warn"
    """Shares of the labels: chi-square test; effect: the share of documents that would need another
    label for the old shares (total variation).
    """
    label_effect: Effect = 0.15
    lengths: Verdict = "warn"
    """Lengths in words: Kolmogorov and Smirnov's test, effect D."""
    length_effect: Effect = 0.2
    text: Verdict = "warn"
    """Language, domain, format: can a classifier on words tell added documents from old ones?
    Effect: how far its AUC lies above 0.5.
    """
    text_effect: Effect = 0.2
    duplicates: Verdict = "warn"
    """Share of added documents that copy another one, new or old, word for word or nearly."""
    duplicate_share: Fraction = 0.1
    leaks: Verdict = "stop"
    """Documents of the test set that have turned up among the others since: word for word, nearly,
    or quoted in a longer one.
    """
    leak_share: Fraction = 0.01
    """Share of the test set that may have, with a warning; those that were there before count not.
    """
    ids: Verdict = "warn"
    """The source has stopped giving ids: a corrected text is another document then, also of the
    test set.
    """
    false_discovery_rate: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.01
    """Share of false alarms among the distributions that are called changed."""
