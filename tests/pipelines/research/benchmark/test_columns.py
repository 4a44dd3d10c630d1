"""Tables of search, data and startup: as many cells as columns, and what was extrapolated says
so.
"""

from typing import Any

from pipelines.research.benchmark.columns import data_columns, search_columns, startup_columns

SPREAD = {"median": 1.0, "min": 0.5, "max": 2.0}


def search_side(trials: int) -> dict[str, Any]:
    plain = {
        "seconds_for_the_grid": 40.0,
        "trials_per_hour": 2000.0,
        "cpu_seconds": 30.0,
        "peak_memory_bytes": 3e9,
        "trials_run": trials,
    }
    return plain | {"beyond_training_seconds": SPREAD}


def search_case(peer_trials: int) -> dict[str, Any]:
    peer = "one TorchTrainer per trial, plain loop, 2 at a time"
    return {
        "case": "tiny",
        "peer": peer,
        "ours": search_side(24),
        "theirs": search_side(peer_trials),
        "ratio": 9.0,
        "largest_difference": 0.0,
    }


def test_rows_are_as_wide_as_their_heads() -> None:
    names = (
        "prepared_documents_per_second",
        "prepare_again_seconds",
        "batched_documents_per_second",
        "padding_share",
        "padding_share_grouped",
    )
    side = dict.fromkeys(names, SPREAD)
    data = {
        "case": "generated",
        "ours": side,
        "theirs": side,
        "ratio": 1.0,
        "cpu_ratio": 1.0,
        "batching_ratio": 9.0,
    }
    startup = [
        {"case": "help", "ours": SPREAD | {"cpu_seconds": 0.2}, "target_seconds": 0.7},
        {"case": "first_step_tiny", "ours": SPREAD, "warm": SPREAD},
    ]
    for head, rows in (
        search_columns([search_case(6)]),
        data_columns([data]),
        startup_columns(startup),
    ):
        assert rows and all(len(row) == len(head) for row in rows)


def test_what_reads_each_document_once_stands_beside_the_two() -> None:
    without = search_columns([search_case(6)])[1][0]
    read_once = {"read_once": search_side(24), "ratio_read_once": 31.4}
    (row,) = search_columns([search_case(6) | read_once])[1]
    assert without[-1] == "-" and row[-1] == "40, 2,000, 31.4, 30 s"


def test_a_peer_that_ran_a_part_of_the_grid_says_so() -> None:
    (part,), (whole,) = search_columns([search_case(6)])[1], search_columns([search_case(24)])[1]
    assert "(6 run)" in " ".join(part) and "run)" not in " ".join(whole)
