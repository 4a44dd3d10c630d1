"""Old documents against new ones: labels, lengths, words, copies, leaks, ids. Each check is a
finding with its numbers; the settings say which of them stop a retraining.

Documents are compared by content, white space aside, so that order, further columns and line ends
are no change.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from components.data.documents import Example, has_own_id, place_of
from components.data.drift.near_copies import near_copies
from components.data.drift.quotations import held_documents
from components.data.drift.settings import DriftConfig, Verdict
from components.data.validation import text_key

FEWEST = 20
"""Documents on each side below which no distribution is compared."""
MOST_FOR_TEXT = 2000
"""Documents of each side that the classifier reads, drawn by a seed."""
TOKEN = r"\w+|[^\w\s]"
"""What the classifier reads: words in their case, and every mark."""
NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One check. `p_value` and `effect` are None where nothing was tested."""

    check: str
    verdict: Verdict
    line: str
    p_value: float | None = None
    effect: float | None = None


@dataclass(frozen=True)
class _Test:
    """A distribution's test before the correction for how many there are."""

    check: str
    p_value: float
    effect: float
    least_effect: float
    verdict: Verdict
    line: str


def compare(
    old: Sequence[Example],
    new: Sequence[Example],
    *,
    test_set: Sequence[Example] = (),
    rules: DriftConfig,
) -> tuple[Finding, ...]:
    """Findings on all documents of a retraining (`new`) beside those of the one before (`old`).
    `test_set`: the documents of `new` that are kept for testing.
    """
    added = _added(old, new)
    tests = [
        *_label_tests(old, new, added, rules),
        *_length_tests(old, new, added, rules),
        *_text_tests(old, added, rules),
    ]
    return (
        *_label_sets(old, new, rules),
        *_corrected(tests, rules),
        _copies(new, added, rules),
        _leaks(old, new, added, test_set, rules),
        _ids(old, new, rules),
    )


def _added(old: Sequence[Example], new: Sequence[Example]) -> list[Example]:
    """Documents whose text no old one has, or that repeat it more often than the old ones did."""
    left = Counter(text_key(each.content) for each in old)
    added = []
    for each in new:
        key = text_key(each.content)
        if left[key] == 0:
            added.append(each)
        else:
            left[key] -= 1
    return added


def worst(findings: Sequence[Finding]) -> Verdict:
    """stop before warn before fine."""
    verdicts = {finding.verdict for finding in findings}
    return "stop" if "stop" in verdicts else "warn" if "warn" in verdicts else "fine"


def _label_sets(
    old: Sequence[Example], new: Sequence[Example], rules: DriftConfig
) -> tuple[Finding, ...]:
    before, now = ({each.stratum for each in side} for side in (old, new))
    return tuple(
        Finding(
            check,
            verdict if labels else "fine",
            f"{words}: {', '.join(sorted(labels)) or 'none'}",
        )
        for check, verdict, labels, words in (
            ("new_labels", rules.new_labels, now - before, "labels that no old document has"),
            ("lost_labels", rules.lost_labels, before - now, "labels that no new document has"),
        )
    )


def _label_tests(
    old: Sequence[Example], new: Sequence[Example], added: Sequence[Example], rules: DriftConfig
) -> list[_Test]:
    """Labels that all documents have lost, or that are new, are findings of their own; one that
    only the added documents lack counts here.
    """
    tests, lasting = [], {each.stratum for each in old} & {each.stratum for each in new}
    for words, side in (("all", new), ("added", added)):
        if min(len(old), len(side)) < FEWEST or len(lasting) < 2:
            continue
        counts = (Counter(each.stratum for each in part) for part in (old, side))
        table = np.array([[count[label] for label in sorted(lasting)] for count in counts])
        if not table[1].any():
            continue  # new labels alone
        shares = table / table.sum(axis=1, keepdims=True)
        p_value = float(stats.chi2_contingency(table).pvalue)
        effect = float(np.abs(shares[1] - shares[0]).sum() / 2)
        line = f"shares of {len(lasting)} labels, {words} documents against the old ones"
        tests.append(_Test("labels", p_value, effect, rules.label_effect, rules.labels, line))
    return tests


def _length_tests(
    old: Sequence[Example], new: Sequence[Example], added: Sequence[Example], rules: DriftConfig
) -> list[_Test]:
    before = [len(each.content.split()) for each in old]
    tests = []
    for words, side in (("all", new), ("added", added)):
        if min(len(old), len(side)) < FEWEST:
            continue
        now = [len(each.content.split()) for each in side]
        found = stats.ks_2samp(before, now)
        line = (
            f"lengths of {words} documents: median {np.median(now):.0f} words, before "
            f"{np.median(before):.0f}"
        )
        tests.append(
            _Test(
                "lengths",
                float(found.pvalue),
                float(found.statistic),
                rules.length_effect,
                rules.lengths,
                line,
            )
        )
    return tests


def _text_tests(
    old: Sequence[Example], added: Sequence[Example], rules: DriftConfig
) -> list[_Test]:
    """A classifier two-sample test (Lopez-Paz and Oquab 2017): cross-validated answers of a linear
    classifier on words, its AUC by Mann and Whitney's test.
    """
    if min(len(old), len(added)) < FEWEST or rules.text == "fine":
        return []
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    draw = np.random.default_rng(0)
    sides = [
        [side[index].content for index in sorted(draw.permutation(len(side))[:MOST_FOR_TEXT])]
        for side in (old, added)
    ]
    texts, is_added = [*sides[0], *sides[1]], np.repeat([0, 1], [len(side) for side in sides])
    classifier = make_pipeline(
        TfidfVectorizer(
            lowercase=False, token_pattern=TOKEN, sublinear_tf=True, min_df=2, max_features=20_000
        ),
        LogisticRegression(class_weight="balanced", max_iter=500),
    )
    # Documents that came one after the other are alike: shuffled, no fold holds them all.
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    try:
        score = cross_val_predict(
            classifier,
            texts,
            is_added,
            cv=folds,
            method="decision_function",
        )
    except ValueError:
        return []  # no word occurs twice: there is nothing to tell sides apart by
    test = stats.mannwhitneyu(score[is_added == 1], score[is_added == 0], alternative="greater")
    auc = float(test.statistic) / (len(sides[0]) * len(sides[1]))
    line = f"a classifier on words tells added documents from old ones with AUC {auc:.3f}"
    return [_Test("text", float(test.pvalue), auc - 0.5, rules.text_effect, rules.text, line)]


def _corrected(tests: Sequence[_Test], rules: DriftConfig) -> list[Finding]:
    if not tests:
        return []
    corrected = stats.false_discovery_control([test.p_value for test in tests])
    return [
        Finding(
            test.check,
            test.verdict
            if q_value < rules.false_discovery_rate and test.effect >= test.least_effect
            else "fine",
            f"{test.line} (effect {test.effect:.3f} of {test.least_effect:g}, q = {q_value:.2g})",
            float(q_value),
            test.effect,
        )
        for test, q_value in zip(tests, corrected, strict=True)
    ]


def _copies(new: Sequence[Example], added: Sequence[Example], rules: DriftConfig) -> Finding:
    if rules.duplicates == "fine":
        return Finding("duplicates", "fine", "copies among the added documents were not looked for")
    fresh = {id(each) for each in added}
    lasting = [each for each in new if id(each) not in fresh]
    among = [*lasting, *added]
    copies = near_copies([each.content for each in added], [each.content for each in lasting])
    pairs = [
        (copy, among[twin]) for copy, twin in zip(added, copies, strict=True) if twin is not None
    ]
    share = len(pairs) / len(added) if added else 0.0
    verdict = rules.duplicates if share > rules.duplicate_share else "fine"
    line = f"{len(pairs)} of {len(added)} added documents copy another one"
    return Finding("duplicates", verdict, line + _named(pairs), effect=share)


def _leaks(
    old: Sequence[Example],
    new: Sequence[Example],
    added: Sequence[Example],
    test_set: Sequence[Example],
    rules: DriftConfig,
) -> Finding:
    """A year of retrainings must not end at one copy that has been there from the start."""
    tested, fresh = {id(each) for each in test_set}, {id(each) for each in added}
    others = [each for each in new if id(each) not in tested]
    held = held_documents([each.content for each in others], [each.content for each in test_set])
    pairs = [
        (other, test_set[at]) for other, at in zip(others, held, strict=True) if at is not None
    ]
    known = {each.id: each for each in old if has_own_id(each)}
    since = [
        pair
        for pair in pairs
        if fresh & {id(each) for each in pair} and not _held_before(pair, known)
    ]
    share = len({id(test) for _, test in since}) / len(test_set) if test_set else 0.0
    verdict: Verdict = "fine"
    if since and rules.leaks != "fine":
        verdict = rules.leaks if share > rules.leak_share else "warn"
    line = (
        f"{len(pairs)} documents outside the test set are (nearly) in it or hold one of it, "
        f"{len(since)} of them since the last retraining"
    )
    return Finding("leaks", verdict, line + _named(since or pairs), effect=share)


def _held_before(pair: tuple[Example, Example], known: Mapping[str, Example]) -> bool:
    """Whether two corrected documents were a leak before the correction too."""
    other, test = (known.get(each.id) for each in pair)
    if other is None or test is None:
        return False
    return held_documents([other.content], [test.content]) != [None]


def _ids(old: Sequence[Example], new: Sequence[Example], rules: DriftConfig) -> Finding:
    before, now = (sum(has_own_id(each) for each in side) for side in (old, new))
    gone = before == len(old) > 0 and now < len(new)
    line = f"{now} of {len(new)} documents have an id of their own, before {before} of {len(old)}"
    return Finding("ids", rules.ids if gone else "fine", line)


def _named(pairs: Sequence[tuple[Example, Example]]) -> str:
    shown = [f"{place_of(one)} and {place_of(other)}" for one, other in pairs[:NAMED]]
    return f" ({'; '.join(shown)}{'; ...' if len(pairs) > NAMED else ''})" if pairs else ""
