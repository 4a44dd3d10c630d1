"""What the history knows of decisions and test sets."""

from hashlib import sha256

from components.registry.history import (
    Action,
    HistoryEntry,
    decisions_on,
    entries_of,
    entry_now,
    sketch_of,
    tag_of,
)


def hashes(*documents: str) -> list[str]:
    return [sha256(each.encode()).hexdigest() for each in documents]


def decided(action: Action, test_set: str, documents: list[str]) -> HistoryEntry:
    return entry_now(
        action,
        2,
        champion_before=1,
        champion_after=1,
        reason="",
        test_set=test_set,
        test_documents=sketch_of(documents),
    )


def test_a_test_set_of_which_documents_were_changed_has_decided_before() -> None:
    before = hashes(*(f"document {number}" for number in range(200)))
    after = hashes(*(f"document {number}" for number in range(5, 200)), "corrected")
    other = hashes(*(f"another {number}" for number in range(200)))
    past = [decided("held", "a", before), decided("promoted", "b", after)]
    assert decisions_on(past, "c", sketch_of(after)) == 2
    assert decisions_on(past, "d", sketch_of(other)) == 0
    assert decisions_on(past, "a", ()) == 1, "an entry of before there were sketches"
    assert decisions_on([decided("forced", "a", before)], "a", sketch_of(before)) == 0


def test_an_entry_with_its_sketch_fits_into_a_tag_and_comes_back() -> None:
    entry = decided("held", "a" * 64, hashes(*map(str, range(1000))))
    assert len(entry.text()) < 2000
    assert entries_of({tag_of(1): entry.text(), "other": "x"}) == (entry,)
