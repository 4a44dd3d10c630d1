"""One retraining: new documents? -> drift -> the champion on what is new -> a small search round
the champion, which ends with the gate.

Every stage takes and gives values; what must survive a kill stands in the record of this retraining
(records.py), in the snapshot of its documents and in the search's own folder.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from components.config import ExperimentConfig, config_sha256, resolved
from components.config.retraining import RetrainingConfig
from components.data.documents import Example
from components.data.drift.checks import Finding, compare, worst
from components.errors import ClusterError, ConfigError, DataError, RegistryError
from components.registry import (
    CHAMPION,
    Outcome,
    RegisteredVersion,
    TolerantTracker,
    Tracker,
    open_tracker,
    run_tags,
)
from components.registry.history import decision_about
from pipelines.contest import holder_of
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
from pipelines.retraining.limits import check_tokens, check_trials, deadline
from pipelines.retraining.records import Record, Records, Status
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
    tracking_uri: str
    records: Records
    record: Record
    documents: Documents
    old: list[Example]
    """The documents of the last success."""
    lease: Lease
    state_path: Path
    ray_address: str | None
    say: Say

    @property
    def snapshot(self) -> Path:
        return Path(self.record.snapshot)

    def noted(self, **facts: Any) -> "Retraining":
        """The same with facts that a later try goes on from, written down now."""
        record = replace(self.record, report={**self.record.report, **facts})
        self.records.begin(record)
        return replace(self, record=record)


@dataclass(frozen=True)
class Ended:
    """How a retraining ended: `status` as in RetrainReport."""

    status: str
    reason: str
    version: int
    findings: tuple[Finding, ...]
    quality: Quality | None
    promotion: PromotionReport | None


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
    so. A kill at any point is continued by the same call. Raises ConfigError where the gate or a
    limit forbids it, DataError where the documents cannot be used or have drifted further than the
    rules allow, ClusterError where another retraining of this name is at work; nothing is
    registered then.
    """
    started = time.monotonic()
    if config.gate is None:
        raise ConfigError("gate: a retraining needs the gate; take 'gate: null' out.")
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
            if previous is not None:
                keep_only(previous, config)
            return RetrainReport(spec.name, "nothing to do", reason, time.monotonic() - started)
        tracker = open_tracker(config.registry.kind, tracking_uri)
        tracker.check()
        record = begin(spec, config, records, documents)
        work = Retraining(
            spec=spec,
            config=config,
            tracker=tracker,
            tracking_uri=tracking_uri,
            records=records,
            record=record,
            documents=documents,
            old=old,
            lease=lease,
            state_path=state_path,
            ray_address=ray_address,
            say=say,
        )
        with in_its_run(work) as run_id, deadline(spec.limits):
            ended = carry_out(work, run_id)
        removed = keep_only(work.snapshot, config)
        if removed:
            say(f"{len(removed)} folders of documents that are no longer used are removed")
        return RetrainReport(
            name=spec.name,
            status=ended.status,
            reason=ended.reason,
            seconds=time.monotonic() - started,
            findings=ended.findings,
            quality=ended.quality,
            version=ended.version,
            promotion=ended.promotion,
        )


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
    tracker, config, key = work.tracker, work.config, work.record.key
    tracker.ensure_experiment(config.name, config.description)
    whose = {"kind": "retraining", "retraining_key": key}
    run_id = tracker.find_run(config.name, whose)
    if run_id is None:
        run_id = tracker.start_run(
            config.name,
            run_name=f"retrain {work.spec.name} {time.strftime('%d %b %H:%M')}",
            config=resolved(config),
            params={"retraining": work.spec.name},
            tags=whose
            | run_tags(
                config_sha256=work.record.config_sha256,
                data_fingerprint=work.record.data_fingerprint,
                kind="retraining",
            ),
        )
    else:
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


def still_held(lease: Lease) -> bool:
    """Whether record and run are still this process's to write."""
    try:
        lease.check()
    except ClusterError:
        return False
    return True


def carry_out(work: Retraining, run_id: str) -> Ended:
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
    return Ended(status, reason, version, findings, quality, promotion)


def drift(work: Retraining) -> tuple[Finding, ...]:
    """What has changed since the last success. Raises DataError where the rules say stop."""
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


def with_champion(work: Retraining) -> tuple[Retraining, RegisteredVersion | None]:
    """The champion that this retraining starts from, whichever try it is."""
    tracker, name = work.tracker, work.config.model_name
    if "champion" not in work.record.report:
        champion = champion_of(tracker, name)
        return work.noted(champion=None if champion is None else champion.version), champion
    noted = work.record.report["champion"]
    return work, None if noted is None else tracker.resolve(f"models:/{name}/{noted}")


def champion_of(tracker: Tracker, model_name: str) -> RegisteredVersion | None:
    """The version in use; None where there is none."""
    try:
        versions = tracker.versions(model_name)
    except RegistryError:
        return None
    return holder_of(versions, CHAMPION)


def adapter_of(work: Retraining, champion: RegisteredVersion) -> Path:
    """The champion's adapter folder, fetched once."""
    folder = work.snapshot.parent / f"champion-{champion.version}"
    if not (folder / "adapter").is_dir():
        work.tracker.download_adapter(champion.model_uri, folder)
    return folder / "adapter"


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


def search_round(
    work: Retraining, champion: RegisteredVersion | None
) -> tuple[int, PromotionReport | None]:
    """Search and let the gate decide; the version, and what became of it (None: an earlier try knew
    it).
    """
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
        resume=has_unfinished_search(config),
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


def has_unfinished_search(config: ExperimentConfig) -> bool:
    """Whether a killed try left a search of exactly this configuration."""
    from components.tuning.search_folder import unfinished

    found = unfinished(Path(config.cluster.storage_path).resolve(), config.name)
    return any(each.config_sha256 == config_sha256(config) for each in found)


def registered_by(work: Retraining, config: ExperimentConfig) -> int | None:
    """The version that a search of exactly this configuration, ended by a try that was killed
    afterwards, has registered; None where there is none.
    """
    from components.tuning.search_folder import searches

    storage = Path(config.cluster.storage_path).resolve()
    ended = {
        each.search_id
        for each in searches(storage, config.name)
        if each.state == "done" and each.config_sha256 == config_sha256(config)
    }
    if not ended:
        return None
    versions = work.tracker.versions(config.model_name)
    return next(
        (each.version for each in reversed(versions) if each.tags.get("search_id") in ended), None
    )


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
    return (action if action in ("held", "rejected") else "promoted"), reason


def _settings_sha256(spec: RetrainingConfig, config: ExperimentConfig) -> str:
    content = [resolved(spec), config_sha256(config)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _listed(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{path.rpartition('.')[2]} {value:g}" for path, value in point.items())
