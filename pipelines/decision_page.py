"""The gate's decision as a page that a person reads (Markdown)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.evaluation.gate.decision import Decision
    from pipelines.contest import Contest

SAID = {
    "promote": "is promoted",
    "hold": "is held: nothing changes",
    "reject": "is rejected: nothing changes",
}


def _compared(decision: "Decision", against: str) -> tuple[str, ...]:
    line = (
        f"{decision.seeds} trainings of its point were compared with {against} on "
        f"{decision.documents:,} test documents: decision {decision.number} on them, which may "
        f"spend a chance of error of {decision.alpha:.4f}."
    )
    return line, ""


def decision_page(decision: "Decision", contest: "Contest") -> str:
    """The verdict first, then why, then every rule with its numbers."""
    challenger, champion = contest.challenger, contest.champion
    against = "no champion" if champion is None else f"champion version {champion.version}"
    lines = [
        f"# {challenger.name}: version {challenger.version} {SAID[decision.verdict]}",
        "",
        *(_compared(decision, against) if decision.documents else ()),
        *(f"* {reason}" for reason in decision.reasons),
        "",
    ]
    if decision.gain is not None and decision.mcnemar is not None:
        gain, test, level = decision.gain, decision.mcnemar, 1 - 2 * decision.alpha
        lines += [
            f"| | champion | challenger | gain | {level:.1%} interval |",
            "|---|---|---|---|---|",
            f"| test {decision.metric} | {gain.champion:.4f} | {gain.challenger:.4f} | "
            f"{gain.gain:+.4f} | {gain.low:+.4f} to {gain.high:+.4f} |",
            "",
            f"Only the challenger is right on {test.only_first} documents, only the champion on "
            f"{test.only_second} (McNemar's exact test, p = {test.p_value:.3g}).",
            "",
        ]
    if decision.checks:
        lines += ["| rule | holds | numbers |", "|---|---|---|"]
        lines += [
            f"| {check.rule} | {'yes' if check.passed else '**no**'} | {check.line} |"
            for check in decision.checks
        ]
        lines.append("")
    return "\n".join(lines)
