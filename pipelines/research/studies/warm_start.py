"""The study of warm starts: after new documents, does training from the champion's values reach the
champion's quality sooner than training from scratch? And which rows does a shorter prefix keep?

For each seed: a champion on the old documents -> on all of them a cold training and warm ones, and
the champion cut shorter, not trained further; all evaluated on the same validation documents. The
fact a newcomer gets wrong: a warm training is the champion before its first step, so that "again"
only means something after one; the curves start at 0 tokens to show what the first steps undo.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.config import DataConfig, ExperimentConfig, TrainConfig
from components.config.study import WarmStartStudyConfig
from components.config.training import TrainingConfig
from components.data.documents import Example, SplitName
from components.errors import ConfigError
from components.evaluation.repeated import paired_difference
from pipelines.research.studies.grown_documents import old_and_all
from pipelines.research.studies.shorter_prefix import WAYS, cut_adapter, norms
from pipelines.research.studies.study import StudyOutcome
from pipelines.research.studies.study_session import StudySession, answers_of, changed

if TYPE_CHECKING:
    from components.data import PreparedData

COLD = "cold"
CUT = ("prefix_propagation", "prefix_tuning")
"""Methods whose prefix is cut here: every row has values of its own in every layer."""
Splits = Mapping[SplitName, Sequence[Example]]


def check(config: ExperimentConfig) -> None:
    """Refuse what cannot work before any weight is read. Raises ConfigError."""
    settings, adapter = _settings(config), config.adapter
    if config.data.task != "classification":
        raise ConfigError(
            f"data.task is {config.data.task}; the study of warm starts is of texts with labels."
        )
    if config.training.warm_start is not None:
        raise ConfigError(
            "training.warm_start is set by the study itself, from its own champions. Remove it."
        )
    if settings.shorter_length is None:
        return
    if adapter.method not in CUT or getattr(adapter, "reparametrization", "none") != "none":
        raise ConfigError(
            f"study.warm_start.shorter_length: the rows of adapter.method {adapter.method} are not "
            f"cut; take one of {', '.join(CUT)} without reparametrization, or null."
        )
    if settings.shorter_length >= adapter.prefix_length:
        raise ConfigError(
            f"study.warm_start.shorter_length: {settings.shorter_length} is not shorter than "
            f"adapter.prefix_length {adapter.prefix_length}."
        )


def run(study: StudySession) -> StudyOutcome:
    """All trainings, then figures and findings."""
    from components.tasks import split_examples
    from pipelines.research.studies.warm_start_figures import figures
    from pipelines.research.studies.warm_start_findings import findings

    settings = _settings(study.config)
    splits = split_examples(study.config.data, study.session.tokenizer)
    seeds = {str(seed): _OneSeed(study, splits, seed) for seed in settings.seeds}
    numbers: dict[str, Any] = {
        "metric": study.config.training.metric,
        "mode": study.config.training.mode,
        "learning_rate": study.config.optimizer.learning_rate,
        "epochs": study.config.training.epochs,
        "max_tokens": study.config.data.max_tokens,
        "prefix_length": study.config.adapter.prefix_length,
        "shorter_length": settings.shorter_length,
        "seeds": {seed: each.trained() for seed, each in seeds.items()},
    }
    numbers["differences"] = _differences(list(seeds.values()))
    return StudyOutcome(findings(numbers), figures(numbers), numbers, metrics(numbers))


class _OneSeed:
    """One champion and what is trained after it. `results`: arm -> its training."""

    def __init__(self, study: StudySession, splits: Splits, seed: int) -> None:
        self.study, self.seed, self.settings = study, seed, _settings(study.config)
        folder = study.folder / "documents" / str(seed)
        old, grown = old_and_all(
            splits, folder, share=self.settings.added_share, seed=seed, like=study.config.data
        )
        base = study.config.train_config().model_copy(update={"seed": seed})
        self.before = _on(base, old)
        self.now = _on(base, grown)
        self.results: dict[str, Mapping[str, Any]] = {}

    def trained(self) -> dict[str, Any]:
        """Every arm's curve, and when it reached the champion's quality again."""
        study = self.study
        old, grown = study.data(self.before.data), study.data(self.now.data)
        champion = study.trained(f"champion-{self.seed}", self.before, old)
        best = _best_of(champion["history"], self.before.training)
        whole = study.adapter(f"champion-{self.seed}", self.before, old)
        warm = changed(self.now, training__warm_start=str(whole))
        cuts = self._cuts(warm, whole)
        started = {COLD: self.now} | {
            f"warm x{factor:g}": changed(
                warm, optimizer__learning_rate=warm.optimizer.learning_rate * factor
            )
            for factor in self.settings.warm_rate_factors
        }
        return {
            "documents": self._documents(old, grown),
            "champion": _told(champion, self.before),
            "arms": {
                name: self._arm(name, config, grown, best) for name, config in started.items()
            },
            "cut": {way: self._start(f"cut {way}", config, grown) for way, config in cuts.items()},
        }

    def _documents(self, old: "PreparedData", grown: "PreparedData") -> dict[str, int]:
        measured = self.now.training.evaluation_documents or len(grown.splits["validation"])
        return {
            "old": len(old.splits["train"]),
            "all": len(grown.splits["train"]),
            "validation": measured,
            "test": len(grown.splits["test"]),
        }

    def _cuts(self, warm: TrainConfig, whole: Path) -> dict[str, TrainConfig]:
        """Way of choosing rows -> settings that start from the champion cut so."""
        length = self.settings.shorter_length
        if length is None:
            return {}
        found = {}
        for way, choose in WAYS.items():
            target = whole.with_name(f"adapter-{length}-{way}")
            folder = cut_adapter(whole, choose(norms(whole), length), target)
            found[way] = changed(
                warm, adapter__prefix_length=length, training__warm_start=str(folder)
            )
        return found

    def _start(self, name: str, config: TrainConfig, data: "PreparedData") -> dict[str, float]:
        """Accuracy and NLL before the first step."""
        found = self.study.at_start(f"start-{self._cell(name)}", config, data)
        return {measure: found[measure] for measure in ("accuracy", "nll")}

    def _cell(self, name: str) -> str:
        return f"{name.replace(' ', '-')}-{self.seed}"

    def _arm(
        self, name: str, config: TrainConfig, data: "PreparedData", champion: Mapping[str, float]
    ) -> dict[str, Any]:
        start = self._start(name, config, data)
        self.results[name] = trained = self.study.trained(self._cell(name), config, data)
        told = _told(trained, config)
        return told | {
            "start": start,
            "reached": {
                measure: reached(told["curve"], measure, value)
                for measure, value in champion.items()
            },
        }


def reached(curve: Sequence[Mapping[str, float]], measure: str, value: float) -> dict[str, Any]:
    """Trained tokens until `measure` was first as good as `value` (`first`), and from which on it
    stayed so (`lasting`), by the evaluations of `curve`; None where it never was.
    """
    good = [
        point[measure] <= value if measure == "nll" else point[measure] >= value for point in curve
    ]
    tokens = [point["tokens"] for point in curve]
    first = next((at for at, holds in zip(tokens, good, strict=True) if holds), None)
    last_bad = max((index for index, holds in enumerate(good) if not holds), default=-1)
    return {"first": first, "lasting": tokens[last_bad + 1] if last_bad + 1 < len(good) else None}


def _told(trained: Mapping[str, Any], config: TrainConfig) -> dict[str, Any]:
    answers = answers_of([dict(trained)])
    return {
        "learning_rate": config.optimizer.learning_rate,
        "prefix_length": config.adapter.prefix_length,
        "curve": [
            {
                "tokens": point["tokens"],
                "accuracy": point["validation/accuracy"],
                "nll": point["validation/nll"],
            }
            for point in trained["history"]
        ],
        "best": _best_of(trained["history"], config.training),
        "test": {name: answers.measure(name) for name in ("accuracy", "nll")},
        "seconds": trained["training_seconds"],
    }


def _best_of(history: Sequence[Mapping[str, float]], training: TrainingConfig) -> dict[str, float]:
    """Validation accuracy and NLL of the evaluation whose adapter was kept."""
    choose = max if training.mode == "max" else min
    kept = choose(history, key=lambda point: point[training.metric])
    return {name: kept[f"validation/{name}"] for name in ("accuracy", "nll")}


def _differences(seeds: Sequence[_OneSeed]) -> dict[str, Any]:
    """Test accuracy and NLL of every arm minus the cold one's."""
    answers = {
        name: answers_of([dict(each.results[name]) for each in seeds]) for name in seeds[0].results
    }
    return {
        name: {
            measure: asdict(paired_difference(of_arm, answers[COLD], measure))
            for measure in ("accuracy", "nll")
        }
        for name, of_arm in answers.items()
        if name != COLD
    }


def metrics(numbers: Mapping[str, Any]) -> dict[str, float]:
    """What the tracking run shows: mean test accuracy of every arm."""
    seeds = list(numbers["seeds"].values())
    return {
        f"{name.replace(' ', '_')}/test_accuracy": sum(
            each["arms"][name]["test"]["accuracy"] for each in seeds
        )
        / len(seeds)
        for name in seeds[0]["arms"]
    }


def _on(config: TrainConfig, data: DataConfig) -> TrainConfig:
    return config.model_copy(update={"data": data})


def _settings(config: ExperimentConfig) -> WarmStartStudyConfig:
    assert config.study.warm_start is not None
    return config.study.warm_start
