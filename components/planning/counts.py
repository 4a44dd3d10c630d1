"""How many trials, documents and classes an experiment has, as far as its settings tell."""

import math

from components.config.experiment import ExperimentConfig
from components.config.search import Choice, Grid, Integer
from components.config.space import domain_size
from components.data.settings import DataConfig


def number_of_trials(config: ExperimentConfig) -> int:
    """Trials of the whole search at most: every combination of a grid, or the draws times the size
    of any grid among them; no point twice.
    """
    sizes = [
        domain_size(domain)
        for domain in config.search.space.values()
        if config.search.searcher == "grid" or isinstance(domain, Grid)
    ]
    if config.search.searcher == "grid":
        return math.prod(sizes)
    finite = all(
        isinstance(domain, Choice | Grid | Integer) for domain in config.search.space.values()
    )
    points = math.prod(domain_size(domain) for domain in config.search.space.values())
    trials = math.prod(sizes) * config.search.num_trials
    return min(trials, points) if finite else trials


def num_labels_of(data: DataConfig) -> int | None:
    """How many classes there are, as far as the settings tell."""
    if data.installed_source is not None:
        return len(data.installed_source.libraries)
    generated = data.letters or data.needle
    return generated.labels if generated is not None else None


def training_documents(data: DataConfig) -> int | None:
    """How many there are at most, as far as the settings tell."""
    documents = data.max_documents
    if (source := data.installed_source) is not None:
        carved = (
            len(source.libraries)
            * source.documents_per_library
            * (1.0 - data.test_fraction)
            * (1.0 - data.validation_fraction)
        )
        documents = min(documents or math.ceil(carved), math.ceil(carved))
    if (needle := data.needle) is not None:
        documents = min(documents or needle.train_documents, needle.train_documents)
    if (letters := data.letters) is not None:
        documents = min(documents or letters.train_documents, letters.train_documents)
    return documents
