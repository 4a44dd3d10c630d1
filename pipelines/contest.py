"""A challenger meets the champion: who they are, what the gate is asked, and where its decision is
kept.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from components.config.loading import apply_override
from components.data.settings import DataConfig
from components.errors import ConfigError, RegistryError
from components.evaluation.gate.settings import GateConfig
from components.registry import CHALLENGER, CHAMPION, RegisteredVersion, Tracker
from components.registry.describe import with_champion
from components.registry.history import decisions_on, was_rolled_back
from components.settings import Config, validate

if TYPE_CHECKING:
    from pipelines.gate import Compared

CONFIRMED_SEEDS = "confirmed_seeds"
"""Tag of a version: the other seeds that its point was trained with, separated by commas."""

GATE_RULES = "gate/rules.json"
"""Where the run of a version keeps the section `gate` of its experiment."""


class PromotionSettings(Config):
    """The sections of an experiment that a promotion reads."""

    data: DataConfig
    gate: GateConfig = GateConfig()


@dataclass(frozen=True)
class Contest:
    """Who wants to become champion, and who is."""

    challenger: RegisteredVersion
    champion: RegisteredVersion | None

    @property
    def is_over(self) -> bool:
        """Whether the challenger is the champion."""
        return self.champion is not None and self.champion.version == self.challenger.version


def contest_of(tracker: Tracker, model_name: str, version: int | None) -> Contest:
    """The version (None: the challenger) and the champion. Raises RegistryError."""
    versions = tracker.versions(model_name)
    champion = holder_of(versions, CHAMPION)
    if version is not None:
        return Contest(tracker.resolve(f"models:/{model_name}/{version}"), champion)
    challenger = holder_of(versions, CHALLENGER)
    if challenger is None:
        raise RegistryError(
            f"version: '{model_name}' has no challenger to promote. Name the version."
        )
    return Contest(challenger, champion)


def holder_of(versions: tuple[RegisteredVersion, ...], alias: str) -> RegisteredVersion | None:
    """The version that holds the alias."""
    return next((version for version in versions if alias in version.aliases), None)


def settings_of(
    tracker: Tracker, challenger: RegisteredVersion, overrides: Sequence[str]
) -> PromotionSettings:
    """Documents and rules of the challenger's experiment, as its run keeps them."""
    wrong = [each for each in overrides if not each.startswith(("gate.", "data."))]
    if wrong:
        raise ConfigError(
            f"'{wrong[0]}' cannot be set here: a promotion takes gate.<path>=value and "
            "data.<path>=value; everything else comes with the adapters."
        )
    kept = tracker.read_dict(challenger.run_id, "config.json")
    values: dict[str, Any] = {"data": kept["data"], "gate": _rules_of(tracker, challenger)}
    for override in overrides:
        apply_override(values, override)
    return validate(PromotionSettings, values)


def _rules_of(tracker: Tracker, challenger: RegisteredVersion) -> dict[str, Any]:
    """The section `gate` as the search kept it; versions of before there was a gate have none."""
    try:
        return tracker.read_dict(challenger.run_id, GATE_RULES)
    except RegistryError:
        return {}


def confirmation_of(seed: int) -> str:
    """Where the run of a version keeps the adapter that another seed gave."""
    return f"confirmations/seed-{seed}"


def decide_contest(
    tracker: Tracker, contest: Contest, settings: PromotionSettings, cache_path: Path
) -> "Compared":
    """Let both answer the test documents: the challenger by every training of its point, its own
    and those of other seeds. Raises UserError.
    """
    from pipelines.gate import compare, undecided

    challenger, champion = contest.challenger, contest.champion
    assert champion is not None
    past = tracker.history(challenger.name)
    seeds = [seed for seed in challenger.tags.get(CONFIRMED_SEEDS, "").split(",") if seed]
    if was_rolled_back(past, challenger.version):
        reason = (
            f"version {challenger.version} was rolled back before: it is promoted again only by "
            "--force --reason '...'"
        )
        return undecided(reason, settings.gate)
    if len(seeds) < settings.gate.confirm_seeds:
        reason = (
            f"the challenger was trained with {len(seeds)} other seeds, gate.confirm_seeds asks "
            f"for {settings.gate.confirm_seeds}: a search trains them where there is a champion; "
            "to decide without: --set gate.confirm_seeds=0"
        )
        return undecided(reason, settings.gate)
    with TemporaryDirectory(prefix="prefixprop-") as scratch:
        folder = Path(scratch)
        ours, theirs = (
            tracker.download_adapter(each.model_uri, folder / str(each.version))
            for each in (challenger, champion)
        )
        others = [
            tracker.download_folder(
                challenger.run_id, confirmation_of(int(seed)), folder / f"seed-{seed}"
            )
            for seed in seeds[: settings.gate.confirm_seeds]
        ]
        return compare(
            [ours, *others],
            theirs,
            data=settings.data,
            rules=settings.gate,
            decisions_before=lambda *test_set: decisions_on(past, *test_set),
            cache_path=cache_path,
        )


def keep_decision(tracker: Tracker, contest: Contest, compared: "Compared") -> str:
    """Store the decision with the challenger's run, its line with the version; returns where the
    numbers lie.
    """
    from pipelines.decision_page import decision_page

    decision, challenger = compared.decision, contest.challenger
    number = len(tracker.history(challenger.name)) + 1
    place = f"gate/decision-{number:03d}"
    with TemporaryDirectory(prefix="prefixprop-") as scratch:
        folder = Path(scratch)
        content = json.dumps(decision.as_dict(), indent=2, allow_nan=False) + "\n"
        (folder / "decision.json").write_text(content, encoding="utf-8")
        page = decision_page(decision, contest)
        (folder / "decision.md").write_text(page, encoding="utf-8")
        tracker.log_folder(challenger.run_id, folder, place)
    several = f", over {decision.seeds} trainings of its point"
    over = several if decision.seeds > 1 else ""
    line = f"Gate: {decision.verdict}{over}: {'; '.join(decision.reasons)}."
    tags = {"gate": decision.verdict, "gate_decision": place}
    headline = None
    if decision.gain is not None and contest.champion is not None:
        value, metric = decision.gain.champion, decision.metric
        told = f"{value:.1%}" if metric == "accuracy" else f"{metric} {value:.4f}"
        said = f"champion version {contest.champion.version} {told} on the same documents"
        headline = with_champion(challenger.description, said)
    tracker.annotate(challenger, tags=tags, line=line, headline=headline)
    return f"runs:/{challenger.run_id}/{place}/decision.json"
