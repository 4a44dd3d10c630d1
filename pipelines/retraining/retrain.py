"""One retraining: new documents? -> drift -> the champion on what is new -> a small search round
the champion, which ends with the gate.

Every stage takes and gives values; what must survive a kill stands in the record of this retraining
(records.py), in the snapshot of its documents and in the search's own folder.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.config import ExperimentConfig, config_sha256, resolved
from components.config.retraining import RetrainingConfig
from components.data.documents import Example
from components.errors import ConfigError, DataError
from components.registry import (
    Outcome,
    RegisteredVersion,
    TolerantTracker,
    open_tracker,
    run_tags,
)
from components.registry.history import REFUSED, decision_about
from pipelines.failures import one_line
from pipelines.promote import STATE
from pipelines.reports import PromotionReport, RetrainReport
from pipelines.retraining.champion_quality import Quality, log_quality, quality_on
from pipelines.retraining.documents import (
    Documents,
    changed_documents,
    new_documents,
    read_snapshot,
    read_source,
    with_kept_test_set,
    write_snapshot,
)
from pipelines.retraining.forgetting import keep_only
from pipelines.retraining.limits import deadline
from pipelines.retraining.monitoring import tell_monitoring
from pipelines.retraining.records import Record, Records, Status
from pipelines.retraining.search_round import search_round
from pipelines.retraining.work import Retraining, Say, adapter_of, run_of, still_held, with_champion
from pipelines.scheduling.database import shared_engine
from pipelines.scheduling.lease import held

if TYPE_CHECKING:
    from components.data.drift.checks import Finding


def retrain(
    spec: RetrainingConfig,
    config: ExperimentConfig,
    *,
    tracking_uri: str,
    ray_address: str | None = None,
    state_path: Path = STATE,
    say: Say = print,
) -> RetrainReport:
    """Retrain the experiment `config` where there is something new, and promote what the gate lets
    through.

    Unchanged documents and settings since the last success: nothing is done, and the report says
    so. A kill at any point is continued by the same call. Raises, before anything is registered,
    ConfigError (no gate, a limit), DataError (documents that cannot be used, or have drifted
    further than the rules allow) and ClusterError (another retraining of this name is at work).
    """
    where: dict[str, Any] = {"tracking_uri": tracking_uri, "ray_address": ray_address, "say": say}
    try:
        report = retrained(spec, config, state_path=state_path, **where)
    except Exception:
        tell_monitoring(spec.name, "failed", config, quality=None, **where)
        raise
    tell_monitoring(spec.name, "done", config, quality=report.quality, **where)
    return report


def retrained(
    spec: RetrainingConfig,
    config: ExperimentConfig,
    *,
    tracking_uri: str,
    ray_address: str | None,
    state_path: Path,
    say: Say,
) -> RetrainReport:
    """What `retrain` does, but for telling monitoring."""
    started = time.monotonic()
    if config.gate is None:
        raise ConfigError("gate: a retraining needs the gate; take 'gate: null' out.")
    engine = shared_engine(tracking_uri, state_path)
    with held(engine, f"retrain {spec.name}") as lease:
        records = Records(engine)
        last = records.last_done(spec.name)
        previous = None if last is None else Path(last.snapshot)
        documents = with_kept_test_set(read_source(config), config, previous)
        old = [] if previous is None else read_snapshot(previous)
        reason = nothing_to_do(spec, config, documents, last, old)
        if reason is not None and previous is not None:
            say(f"nothing to do: {reason}")
            keep_only(previous, config)
            return RetrainReport(spec.name, "nothing to do", reason, time.monotonic() - started)
        tracker = open_tracker(config.registry.kind, tracking_uri)
        tracker.check()
        work = Retraining(
            spec=spec,
            config=config,
            tracker=tracker,
            tracking_uri=tracking_uri,
            records=records,
            record=begin(spec, config, records, documents),
            documents=documents,
            old=old,
            lease=lease,
            state_path=state_path,
            ray_address=ray_address,
            say=say,
        )
        report = worked(work)
    return replace(report, seconds=time.monotonic() - started)


def worked(work: Retraining) -> RetrainReport:
    """Carry the retraining out in its run and its time, then forget what is no longer used."""
    with in_its_run(work) as run_id, deadline(work.spec.limits):
        report = carry_out(work, run_id)
    removed = keep_only(work.snapshot, work.config)
    if removed:
        work.say(f"{len(removed)} folders of documents that are no longer used are removed")
    return report


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


@contextmanager
def in_its_run(work: Retraining) -> Iterator[str]:
    """One MLflow run that shows decision and reasons, the same one for every try; yields its id.
    However the block ends stands in it and in the record.
    """
    tracker, key = work.tracker, work.record.key
    run_id, was_there = run_of(
        tracker,
        work.config,
        work.spec.name,
        {"kind": "retraining", "retraining_key": key},
        run_name=f"retrain {work.spec.name} {time.strftime('%d %b %H:%M')}",
        tags=run_tags(
            config_sha256=work.record.config_sha256,
            data_fingerprint=work.record.data_fingerprint,
        ),
    )
    if was_there:
        tracker.resume_run(run_id, {"resumed": "true"})
    try:
        yield run_id
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        outcome: Outcome = "interrupted" if interrupted else "failed"
        reason = "interrupted" if interrupted else one_line(error)
        if still_held(work.lease):
            latest = work.records.find(key)
            kept = work.record.report if latest is None else latest.report
            status: Status = "stopped" if isinstance(error, DataError) else "failed"
            work.records.end(key, status, kept | {"reason": reason})
            TolerantTracker(tracker).finish(run_id, outcome, reason)
        raise


def carry_out(work: Retraining, run_id: str) -> RetrainReport:
    """Drift, the champion on what is new, search with its gate."""
    findings = drift(work)
    work.tracker.log_dict(run_id, {"findings": [asdict(each) for each in findings]}, "drift.json")
    work, champion = with_champion(work)
    quality = follow_champion(work, champion)
    version, promotion = search_round(work, champion)
    status, reason = outcome_of(work, version, promotion)
    if promotion is not None and promotion.decision is not None:
        work.tracker.log_dict(run_id, promotion.decision.as_dict(), "decision.json")
    work.tracker.set_tags(run_id, {"verdict": status, "version": str(version)})
    work.lease.check()
    facts = {"version": version, "outcome": status, "reason": reason}
    work.records.end(work.record.key, "done", work.record.report | facts)
    work.tracker.finish(run_id, "completed", f"version {version} {status}: {reason}")
    work.say(f"{work.spec.name}: version {version} {status}: {reason}")
    return RetrainReport(
        name=work.spec.name,
        status=status,
        reason=reason,
        seconds=0.0,
        findings=findings,
        quality=quality,
        version=version,
        promotion=promotion,
    )


def drift(work: Retraining) -> "tuple[Finding, ...]":
    """What has changed since the last success. Raises DataError where the rules say stop."""
    from components.data.drift.checks import compare, worst

    if not work.old:
        work.say("first retraining: there are no documents to compare with")
        return ()
    findings = compare(
        work.old,
        work.documents.all,
        test_set=work.documents.splits["test"],
        rules=work.spec.drift,
    )
    for finding in findings:
        if finding.verdict != "fine":
            work.say(f"{finding.verdict}: {finding.check}: {finding.line}")
    if worst(findings) == "stop":
        stops = "; ".join(each.line for each in findings if each.verdict == "stop")
        raise DataError(
            f"drift: {stops}. Fix the documents, or allow it in the retraining's section drift; "
            "nothing was trained."
        )
    return findings


def follow_champion(work: Retraining, champion: RegisteredVersion | None) -> Quality | None:
    """Measure the champion on documents that came since the last success. Done once: a later try
    has no quality to tell.
    """
    if champion is None or not work.old or "followed" in work.record.report:
        return None
    quality = quality_on(
        adapter_of(work, champion),
        champion.version,
        new_documents(work.old, work.documents.all),
        cache_path=Path(work.config.cluster.cache_path).resolve(),
    )
    if quality is not None:
        work.say(
            f"champion version {quality.version} on {quality.documents} new documents: accuracy "
            f"{quality.accuracy:.3f}"
        )
        number = work.records.count_done(work.spec.name) + 1
        log_quality(work.tracker, work.config, work.spec.name, quality, number=number)
    work.noted(followed=True)
    return quality


def outcome_of(
    work: Retraining, version: int, promotion: PromotionReport | None
) -> tuple[str, str]:
    """Status and reason, of the gate just now or as the history has them."""
    if promotion is not None and promotion.action is not None:
        action, reason = promotion.action, promotion.reason
    else:
        entry = decision_about(work.tracker.history(work.config.model_name), version)
        assert entry is not None  # a search ends after the gate
        action, reason = entry.action, entry.reason
    return (action if action in REFUSED else "promoted"), reason


def _settings_sha256(spec: RetrainingConfig, config: ExperimentConfig) -> str:
    content = [resolved(spec), config_sha256(config)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
