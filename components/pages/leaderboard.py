"""Every trial as a line of a table, the best evaluation first."""

from components.pages import quantities
from components.pages.marks import GLYPHS, WORDS, trial_colours
from components.pages.markup import escaped, link, table
from components.pages.ranking import best_first, searched, value_of, varied
from components.pages.values import SearchPage, TrialLine


def leaderboard(page: SearchPage) -> str:
    """The table as HTML: rank, trial, its searched values, how it ended, best value and costs."""
    paths = varied(page) or searched(page)
    names = quantities.short_names(searched(page))
    colours = trial_colours(page)
    header = (
        "",
        "trial",
        *(names[path] for path in paths),
        "outcome",
        f"best {page.metric}",
        "at step",
        "tokens",
        "time",
        "peak memory",
        "trained parameters",
    )
    rows = [
        (
            "best" if place == 1 and value_of(trial) is not None else "",
            _cells(trial, place, paths, colours),
        )
        for place, trial in enumerate(best_first(page), start=1)
    ]
    return table(header, rows, kind="leaderboard")


def _cells(
    trial: TrialLine, place: int, paths: tuple[str, ...], colours: dict[str, str]
) -> tuple[str, ...]:
    known = value_of(trial) is not None
    name = link(trial.url, trial.name)
    values = (
        escaped(quantities.setting(trial.point[path])) if path in trial.point else quantities.NONE
        for path in paths
    )
    mark = f'<span style="color:{colours[trial.name]}">&#{GLYPHS[trial.outcome]};</span>'
    reason = f'<div class="reason">{escaped(trial.reason)}</div>' if trial.reason else ""
    size = trial.trainable_parameters
    return (
        str(place) if known else quantities.NONE,
        name + (' <span class="badge">registered</span>' if trial.registered else ""),
        *values,
        f"{mark} {escaped(WORDS[trial.outcome])}{reason}",
        quantities.score(trial.best_value),
        quantities.NONE if trial.best_step is None else f"{trial.best_step:,}",
        quantities.tokens(trial.tokens),
        quantities.duration(trial.seconds),
        quantities.memory(trial.peak_memory_bytes),
        quantities.NONE if size is None else f"{size:,}",
    )
