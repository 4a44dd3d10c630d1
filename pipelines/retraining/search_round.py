"""The search of a retraining: round the champion's point, once, whatever was killed before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.config import ExperimentConfig, config_sha256
from components.registry import RegisteredVersion
from pipelines.reports import PromotionReport
from pipelines.retraining.limits import check_tokens, check_trials
from pipelines.retraining.round_champion import on_snapshot, point_of, round_champion
from pipelines.retraining.work import Retraining, adapter_of


def search_round(
    work: Retraining, champion: RegisteredVersion | None
) -> tuple[int, PromotionReport | None]:
    """Search and let the gate decide; the version, and what became of it (None: an earlier try knew
    it).
    """
    from components.tuning.search_folder import is_unfinished
    from pipelines.search import search

    config = to_search(work, champion)
    known = registered_by(work, config)
    if known is not None:
        return known, None
    check_trials(work.spec.limits, config)
    if work.spec.limits.tokens is not None:
        from pipelines.search import prepare_data

        check_tokens(work.spec.limits, config, prepare_data(config, work.say))
    report = search(
        config,
        tracking_uri=work.tracking_uri,
        ray_address=work.ray_address,
        resume=is_unfinished(storage_of(config), config.name, config_sha256(config)),
        say=work.say,
        state_path=work.state_path,
        before_change=work.lease.check,
    )
    return report.model_version, report.promotion


def to_search(work: Retraining, champion: RegisteredVersion | None) -> ExperimentConfig:
    """The experiment on this retraining's documents: its own search where there is no champion,
    else one round the champion's point.
    """
    config = on_snapshot(work.config, work.snapshot)
    if champion is None:
        return config
    adapter = adapter_of(work, champion)
    point = point_of(adapter, work.tracker.read_dict(champion.run_id, "config.json"))
    work.say(f"searching round champion version {champion.version}: {_listed(point)}")
    return round_champion(config, point, adapter, work.spec.round_champion)


def registered_by(work: Retraining, config: ExperimentConfig) -> int | None:
    """The version that a search of exactly this configuration, ended by a try that was killed
    afterwards, has registered; None where there is none.
    """
    from components.tuning.search_folder import searches

    sha256 = config_sha256(config)
    ended = {
        each.search_id
        for each in searches(storage_of(config), config.name)
        if each.state == "done" and each.config_sha256 == sha256
    }
    if not ended:
        return None
    versions = work.tracker.versions(config.model_name)
    return next(
        (each.version for each in reversed(versions) if each.tags.get("search_id") in ended), None
    )


def storage_of(config: ExperimentConfig) -> Path:
    return Path(config.cluster.storage_path).resolve()


def _listed(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{path.rpartition('.')[2]} {value:g}" for path, value in point.items())
