"""One retraining: new documents? -> drift -> a small search round the champion -> the gate.

Every stage takes and gives values; what must survive a kill stands in the record of this retraining
(records.py), in the snapshot of its documents and in the search's own folder.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.config import ExperimentConfig, config_sha256, resolved
from components.config.retraining import RetrainingConfig
from components.data.documents import Example
from components.data.drift.checks import Finding, compare, worst
from components.errors import DataError, RegistryError
from components.registry import CHAMPION, RegisteredVersion, Tracker, open_tracker, run_tags
from pipelines.experiments import load_experiment
from pipelines.promote import STATE, holder_of, promote
from pipelines.reports import PromotionReport, RetrainReport
from pipelines.retraining.documents import (
    Documents,
    changed_documents,
    read_snapshot,
    read_source,
    with_kept_test_set,
    write_snapshot,
)
from pipelines.retraining.records import Record, Records
from pipelines.retraining.round_champion import on_snapshot, point_of, round_champion
from pipelines.scheduling.database import shared_engine
from pipelines.scheduling.lease import Lease, held

Say = Callable[[str], None]


@dataclass(frozen=True)
class Retraining:
    """A retraining that is at work."""

    spec: RetrainingConfig
    config: ExperimentConfig
    """The experiment as its file has it."""
    tracker: Tracker
    records: Records
    record: Record
    documents: Documents
    state_path: Path
    ray_address: str | None

    @property
    def snapshot(self) -> Path:
        return Path(self.record.snapshot)


def retrain(
    spec: RetrainingConfig,
    *,
    tracking_uri: str,
    ray_address: str | None = None,
    state_path: Path = STATE,
    say: Say = print,
) -> RetrainReport:
    """Retrain where there is something new, and promote what the gate lets through.

    Unchanged documents and settings since the last success: nothing is done, and the report says
    so. A kill at any point is continued by the same call. Raises DataError where the documents
    cannot be used or have drifted further than the rules allow, ClusterError where another
    retraining of this name is at work; nothing is registered then.
    """
    started = time.monotonic()
    config = load_experiment(spec.experiment, spec.overrides)
    engine = shared_engine(tracking_uri, state_path)
    with held(engine, f"retrain {spec.name}") as lease:
        records = Records(engine)
        loaded = read_source(config)
        last = records.last_done(spec.name)
        previous = None if last is None else Path(last.snapshot)
        documents = with_kept_test_set(loaded, config, previous)
        old = [] if previous is None else read_snapshot(previous)
        reason = nothing_to_do(spec, config, documents, last, old)
        if reason is not None:
            say(f"nothing to do: {reason}")
            return RetrainReport(spec.name, "nothing to do", reason, time.monotonic() - started)
        tracker = open_tracker(config.registry.kind, tracking_uri)
        tracker.check()
        record = begin(spec, config, records, documents)
        work = Retraining(
            spec, config, tracker, records, record, documents, state_path, ray_address
        )
        try:
            status, reason, findings, version, promotion = carry_out(
                work, old, lease, say, tracking_uri
            )
        except BaseException as error:
            latest = records.find(record.key)
            kept = record.report if latest is None else latest.report
            records.end(
                record.key,
                "stopped" if isinstance(error, DataError) else "failed",
                kept | {"reason": str(error) or type(error).__name__},
            )
            raise
        seconds = time.monotonic() - started
        return RetrainReport(spec.name, status, reason, seconds, findings, version, promotion)


def nothing_to_do(
    spec: RetrainingConfig,
    config: ExperimentConfig,
    documents: Documents,
    last: Record | None,
    old: list[Example],
) -> str | None:
    """Why nothing has to be done; None where something has."""
    if last is None or last.config_sha256 != _settings_sha256(spec, config):
        return None
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(last.ended_at))
    if last.data_fingerprint == documents.fingerprint:
        return f"documents and settings are those of {when}"
    changed = changed_documents(old, documents.all)
    if changed < spec.min_new_documents:
        return (
            f"{changed} documents have changed since {when}, min_new_documents is "
            f"{spec.min_new_documents}"
        )
    return None


def begin(
    spec: RetrainingConfig, config: ExperimentConfig, records: Records, documents: Documents
) -> Record:
    """Write the documents and the record down, or find them as a killed try left them."""
    settings = _settings_sha256(spec, config)
    key = hashlib.sha256(
        json.dumps([spec.name, documents.fingerprint, settings]).encode()
    ).hexdigest()
    known = records.find(key)
    folder = (
        Path(config.cluster.storage_path).resolve() / config.name / "retraining" / spec.name / key
    )
    if not folder.is_dir():
        write_snapshot(documents, folder)
    record = Record(
        key=key,
        name=spec.name,
        status="running",
        started_at=time.time(),
        ended_at=None,
        data_fingerprint=documents.fingerprint,
        config_sha256=settings,
        snapshot=str(folder),
        report={} if known is None or known.status == "done" else known.report,
    )
    records.begin(record)
    return record


def carry_out(
    work: Retraining, old: list[Example], lease: Lease, say: Say, tracking_uri: str
) -> tuple[str, str, tuple[Finding, ...], int | None, PromotionReport | None]:
    """Drift, search, gate; returns the parts of the report."""
    findings = drift(work, old, say)
    version = work.record.report.get("version")
    if version is None:
        version = search_round_champion(work, say)
        work.records.begin(_with_report(work.record, {"version": version}))
    lease.check()
    promotion = decide(work, version, tracking_uri)
    status, reason = _outcome(promotion)
    log_run(work, findings, promotion, status, reason)
    work.records.end(
        work.record.key, "done", {"version": version, "outcome": status, "reason": reason}
    )
    say(f"{work.spec.name}: {status}: {reason}")
    return status, reason, findings, version, promotion


def drift(work: Retraining, old: list[Example], say: Say) -> tuple[Finding, ...]:
    """What has changed since the last success. Raises DataError where the rules say stop."""
    if not old:
        say("first retraining: there are no documents to compare with")
        return ()
    findings = compare(
        old,
        work.documents.all,
        test_set=work.documents.splits["test"],
        rules=work.spec.drift,
    )
    for finding in findings:
        if finding.verdict != "fine":
            say(f"{finding.verdict}: {finding.check}: {finding.line}")
    if worst(findings) == "stop":
        stops = "; ".join(each.line for each in findings if each.verdict == "stop")
        raise DataError(
            f"drift: {stops}. Fix the documents, or allow it in the retraining's section drift; "
            "nothing was trained."
        )
    return findings


def search_round_champion(work: Retraining, say: Say) -> int:
    """Search, registered as a challenger (the first time: champion); returns the version."""
    from pipelines.search import search

    config = on_snapshot(work.config, work.snapshot)
    champion = champion_of(work.tracker, config.model_name)
    if champion is not None:
        folder = work.snapshot.parent / f"champion-{champion.version}"
        if not (folder / "adapter").is_dir():
            work.tracker.download_adapter(champion.model_uri, folder)
        kept = work.tracker.read_dict(champion.run_id, "config.json")
        point = point_of(folder / "adapter", kept)
        config = round_champion(config, point, folder / "adapter", work.spec.round_champion)
        say(f"searching round champion version {champion.version}: {_listed(point)}")
    report = search(
        config,
        tracking_uri=work.tracker.tracking_uri,
        ray_address=work.ray_address,
        resume=has_unfinished_search(config),
        say=say,
    )
    return report.model_version


def has_unfinished_search(config: ExperimentConfig) -> bool:
    """Whether a killed try left a search of exactly this configuration."""
    from components.errors import ConfigError
    from components.tuning.search_folder import unfinished_search

    try:
        unfinished_search(
            Path(config.cluster.storage_path).resolve(), config.name, config_sha256(config)
        )
    except ConfigError:
        return False
    return True


def champion_of(tracker: Tracker, model_name: str) -> RegisteredVersion | None:
    """The version in use; None where there is none."""
    try:
        versions = tracker.versions(model_name)
    except RegistryError:
        return None
    return holder_of(versions, CHAMPION)


def decide(work: Retraining, version: int, tracking_uri: str) -> PromotionReport | None:
    """The gate's decision; None where the version is the first champion already."""
    champion = champion_of(work.tracker, work.config.model_name)
    if champion is not None and champion.version == version:
        return None
    rules = [
        f"gate.{name}={json.dumps(value)}"
        for name, value in work.config.gate.model_dump(mode="json").items()
    ]
    return promote(
        work.config.model_name,
        version=version,
        tracking_uri=tracking_uri,
        overrides=rules,
        cache_path=Path(work.config.cluster.cache_path),
        state_path=work.state_path,
    )


def log_run(
    work: Retraining,
    findings: tuple[Finding, ...],
    promotion: PromotionReport | None,
    status: str,
    reason: str,
) -> None:
    """One run that shows decision and reasons."""
    tracker, config = work.tracker, work.config
    tracker.ensure_experiment(config.name, config.description)
    run_id = tracker.start_run(
        config.name,
        run_name=f"retrain {work.spec.name} {time.strftime('%d %b %H:%M')}",
        config=resolved(config),
        params={"retraining": work.spec.name},
        tags=run_tags(
            config_sha256=work.record.config_sha256,
            data_fingerprint=work.record.data_fingerprint,
            kind="retraining",
        )
        | {"verdict": status},
    )
    tracker.log_dict(run_id, {"findings": [asdict(each) for each in findings]}, "drift.json")
    if promotion is not None and promotion.decision is not None:
        tracker.log_dict(run_id, promotion.decision.as_dict(), "decision.json")
    tracker.finish(run_id, "completed", reason)


def _outcome(promotion: PromotionReport | None) -> tuple[str, str]:
    if promotion is None:
        return "promoted", "the model had no champion: there is nothing to compare with"
    if promotion.decision is None:
        return "promoted", f"version {promotion.version} is the champion"
    names = {"promote": "promoted", "hold": "held", "reject": "rejected"}
    return names[promotion.decision.verdict], "; ".join(promotion.decision.reasons)


def _settings_sha256(spec: RetrainingConfig, config: ExperimentConfig) -> str:
    content = [resolved(spec), config_sha256(config)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _with_report(record: Record, report: Mapping[str, Any]) -> Record:
    return Record(**{**vars(record), "report": dict(report)})


def _listed(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{path.rpartition('.')[2]} {value:g}" for path, value in point.items())
