"""Which cell of a comparison comes next: every method's search on a task, then its seeds at the
point that was best on validation documents.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.config.comparison import ComparisonConfig
from components.config.space import named
from components.jobs.record import JobRecord, read_record
from components.jobs.repetition import INFEASIBLE, LOST
from pipelines.comparison.cells import Cell, cell_trial, keep_record, predictions_are_lost

if TYPE_CHECKING:
    from components.data import PreparedData

NO_ADAPTER = "no point gave an adapter: "


class Schedule:
    """The cells, what is known of them, and what is left. `data`: task -> PreparedData; `root`: the
    comparison's folder.
    """

    def __init__(
        self, config: ComparisonConfig, data: "Mapping[str, PreparedData]", root: Path
    ) -> None:
        self.config, self.data, self.root = config, data, root
        self.records: dict[str, JobRecord] = {}
        self.taken: set[str] = set()
        self.cells: dict[tuple[Any, ...], Cell] = {}
        for task, method in self.pairs():
            self._read(self.search_cells(task, method))
            self._read(self.final_cells(task, method))

    def pairs(self) -> Iterator[tuple[str, str]]:
        """(task, method) in the order of the file."""
        for task in self.config.tasks:
            for method in self.config.methods:
                yield task, method

    def search_cells(self, task: str, method: str) -> tuple[Cell, ...]:
        return tuple(
            self._cell(task, method, point, seed=self.config.search.seed, final=False)
            for point in self.config.methods[method].points
        )

    def final_cells(self, task: str, method: str) -> tuple[Cell, ...]:
        """The seeds at the chosen point; empty while it is not known, and where no point gave an
        adapter.
        """
        point = self.chosen(task, method)
        return (
            ()
            if point is None
            else tuple(
                self._cell(task, method, point, seed=seed, final=True) for seed in self.config.seeds
            )
        )

    def chosen(self, task: str, method: str) -> Mapping[str, Any] | None:
        """The point with the best validation metric, the first of equals; None before its search
        has ended, where all its points diverged or failed, and where one was lost with its workers:
        it might have been the best.

        A point whose evaluation on test documents failed was trained all the same: the choice must
        not depend on it.
        """
        found = [(cell, self.records.get(cell.key)) for cell in self.search_cells(task, method)]
        if any(record is None or record.outcome == LOST for _, record in found):
            return None
        usable = [
            (cell, record)
            for cell, record in found
            if record is not None and record.progress.best_metrics and record.outcome != "diverged"
        ]
        training = found[0][0].trial.config.training
        sign = 1.0 if training.mode == "max" else -1.0
        best = max(
            usable,
            key=lambda item: sign * item[1].progress.best_metrics[training.metric],
            default=None,
        )
        return None if best is None else best[0].trial.point

    def problems(self, task: str, method: str) -> list[str]:
        """What is missing of a method's results, in words: seeds without one, and points that its
        search had to do without (then the choice was of fewer than the other methods had).
        """
        searched, found = self.search_cells(task, method), []
        if self.chosen(task, method) is None:
            reasons = dict.fromkeys(
                f"{record.outcome}, {record.reason}"
                for cell in searched
                if (record := self.records.get(cell.key))
            )
            lost = any(reason.startswith(LOST) for reason in reasons)
            said = "points were lost, run the same command again: " if lost else NO_ADAPTER
            return [said + "; ".join(reasons) if reasons else "not run"]
        for cell in searched:
            record = self.records[cell.key]
            unknown = record.outcome in ("failed", INFEASIBLE)
            if unknown and not record.progress.best_metrics:
                point = named(cell.trial.point)
                found.append(f"search point {point}: {record.outcome}, {record.reason}")
        for cell in self.final_cells(task, method):
            final = self.records.get(cell.key)
            if final is None or final.final is None:
                found.append(
                    f"seed {cell.seed}: "
                    f"{final.outcome + ', ' + final.reason if final else 'not run'}"
                )
        return found

    def next_cell(self) -> Cell | None:
        """The first cell that has something left to do and that nobody works on; it counts as
        worked on from now.
        """
        for task, method in self.pairs():
            for cell in (*self.search_cells(task, method), *self.final_cells(task, method)):
                if cell.key not in self.taken and not self.is_done(cell):
                    self.taken.add(cell.key)
                    return cell
        return None

    def is_done(self, cell: Cell) -> bool:
        """Whether nothing is left to do, or this run has given the cell up."""
        record = self.records.get(cell.key)
        return record is not None and (
            cell.is_covered_by(record) or record.outcome in ("failed", INFEASIBLE, LOST)
        )

    def ended(self, cell: Cell, record: JobRecord) -> None:
        """Keep what became of a cell. A failed or lost one is told in this run and tried again by
        the next.
        """
        self.records[cell.key] = record
        self.taken.discard(cell.key)
        if record.trained:
            keep_record(cell, record)

    def counts(self) -> tuple[int, int]:
        """(cells done, all cells). A method none of whose points gave an adapter has no seeds to
        train.
        """
        done = size = 0
        for task, method in self.pairs():
            searches, finals = self.search_cells(task, method), self.final_cells(task, method)
            hopeless = not finals and all(self.is_done(cell) for cell in searches)
            size += len(searches) + (0 if hopeless else len(self.config.seeds))
            done += sum(self.is_done(cell) for cell in (*searches, *finals))
        return done, size

    def _cell(
        self, task: str, method: str, point: Mapping[str, Any], *, seed: int, final: bool
    ) -> Cell:
        """The same object for the same arguments: the driver asks for all cells every second."""
        known = (task, method, json.dumps(point, sort_keys=True), seed, final)
        if known not in self.cells:
            self.cells[known] = self._new_cell(task, method, point, seed=seed, final=final)
        return self.cells[known]

    def _new_cell(
        self, task: str, method: str, point: Mapping[str, Any], *, seed: int, final: bool
    ) -> Cell:
        config = self.config.train_config(task, method, point=point, seed=seed, searching=not final)
        data = self.data[task]
        batch = config.training.batch_size(self.config.cluster.num_workers)
        trial = cell_trial(
            config,
            point,
            folder=self.root / "cells" / task / method,
            train_batch_size=batch,
            data_fingerprint=data.fingerprint,
        )
        return Cell(task, method, seed, final, trial, batch, data.fingerprint, data.folder)

    def _read(self, cells: tuple[Cell, ...]) -> None:
        """What is known of the cells; one whose answers are damaged counts as not evaluated."""
        for cell in cells:
            record = read_record(cell.trial.folder)
            if record is not None:
                lost = record.final is not None and predictions_are_lost(cell)
                self.records[cell.key] = replace(record, final=None) if lost else record
