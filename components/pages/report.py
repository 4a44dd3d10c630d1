"""A search as one HTML file that needs nothing else: no network, no script, pictures inside.

It is read in a browser and inside MLflow's artifact viewer, a frame without permissions: links may
not open there, so their addresses are written out too.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.pages import quantities
from components.pages.canvas import best_of, headline
from components.pages.champion import against_champion
from components.pages.cost import cost_and_quality
from components.pages.curves import learning_curves
from components.pages.leaderboard import leaderboard
from components.pages.markup import escaped, facts, link, picture, section, table
from components.pages.ranking import told_counts, value_of
from components.pages.report_style import STYLE
from components.pages.settings_picture import searched_settings
from components.pages.values import Score, SearchPage

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def report_html(page: SearchPage) -> str:
    """The whole page. Texts of the page's values are escaped, whatever they hold."""
    title = f"{page.experiment}: {headline(page)}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escaped(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{_head(page)}
{_cards(page)}
{_pictures(page)}
{section("Trials, best first", leaderboard(page))}
<div class="columns">
{section("What was decided", _decision(page))}
{section("On the test documents", _tested(page))}
{section("Calibration", _numbers(page.calibration))}
{section("Data", _data(page))}
{section("How to repeat it", _repeat(page))}
{section("Where to look", _links(page))}
</div>
</body>
</html>
"""


def _head(page: SearchPage) -> str:
    about = f"<p>{escaped(page.description)}</p>" if page.description else ""
    started = f"search of {page.started}" if page.started else "search"
    return (
        f'<header><p class="kind">{escaped(started)}</p><h1>{escaped(page.experiment)}</h1>'
        f"{about}</header>"
    )


def _cards(page: SearchPage) -> str:
    """The answers that most readers came for."""
    best = best_of(page)
    better = "lower" if page.mode == "min" else "higher"
    if best is None:
        first = _card("Best trial", "none", told_counts(page))
    else:
        step = "" if best.best_step is None else f" at step {best.best_step:,}"
        told = f"{best.name}: {page.metric}{step} ({better} is better)"
        first = _card("Best trial", quantities.score(value_of(best)), told)
    cards = [first]
    challenger = next((score for score in page.scores if score.kind == "challenger"), None)
    if challenger is not None:
        told = f"{page.test_metric} of {challenger.name}{_interval(challenger)}"
        cards.append(_card("On test documents", quantities.score(challenger.value), told))
    registered = page.registered or "nothing"
    before = f"champion before: {page.champion_before or 'none'}" if page.registered else ""
    told = "; ".join(each for each in (page.alias and f"now {page.alias}", before) if each)
    cards.append(_card("Registered", registered, told))
    if page.gate is not None:
        cards.append(_card("Gate", page.gate.verdict, next(iter(page.gate.reasons), "")))
    cost = f"{quantities.tokens(page.tokens)} tokens"
    cards.append(_card("Cost", cost, f"in {quantities.duration(page.seconds)}"))
    cards.append(_card("Trials", str(len(page.trials)), told_counts(page)))
    return f'<div class="cards">{"".join(cards)}</div>'


def _card(name: str, value: str, told: str) -> str:
    return (
        f'<div class="card"><div class="name">{escaped(name)}</div>'
        f'<div class="value">{escaped(value)}</div><div class="told">{escaped(told)}</div></div>'
    )


def _pictures(page: SearchPage) -> str:
    made: list[tuple[Figure | None, str]] = [
        (learning_curves(page), "learning curves of all trials"),
        (against_champion(page), "challenger, champion and baselines on test documents"),
    ]
    if best_of(page) is not None:
        made[1:1] = [
            (searched_settings(page), "the metric over the searched settings"),
            (cost_and_quality(page), "the metric against tokens"),
        ]
    shown = [picture(figure, told) for figure, told in made if figure is not None]
    return f'<div class="pictures">{"".join(shown)}</div>'


def _interval(score: Score) -> str:
    if score.low is None or score.high is None:
        return ""
    return f" (95%: {quantities.score(score.low)} to {quantities.score(score.high)})"


def _decision(page: SearchPage) -> str:
    """The gate's verdict with every rule, and what became of the version."""
    said = facts(
        {
            "registered": escaped(page.registered or "nothing"),
            "alias": escaped(page.alias),
            "champion before": escaped(page.champion_before or "none"),
            "verdict": "" if page.gate is None else f"<b>{escaped(page.gate.verdict)}</b>",
        }
    )
    if page.gate is None:
        return said
    reasons = "".join(f"<li>{escaped(reason)}</li>" for reason in page.gate.reasons)
    rules = table(
        ("rule", "holds", "numbers"),
        (
            (
                "" if rule.holds else "broken",
                (escaped(rule.name), "yes" if rule.holds else "<b>no</b>", escaped(rule.line)),
            )
            for rule in page.gate.rules
        ),
    )
    return said + (f"<ul>{reasons}</ul>" if reasons else "") + (rules if page.gate.rules else "")


def _tested(page: SearchPage) -> str:
    scores = table(
        (page.test_metric, "value", "95% interval"),
        (
            (
                score.kind,
                (
                    escaped(score.name),
                    quantities.score(score.value),
                    _interval(score).removeprefix(" (95%: ").removesuffix(")") or quantities.NONE,
                ),
            )
            for score in page.scores
        ),
    )
    return (scores if page.scores else "") + _numbers(page.test_metrics)


def _numbers(values: Mapping[str, float]) -> str:
    found = {name: quantities.score(value) for name, value in values.items()}
    return facts(found) if found else ""


def _data(page: SearchPage) -> str:
    shown = {name: escaped(text) for name, text in page.data.items()}
    return facts(shown) if shown else ""


def _repeat(page: SearchPage) -> str:
    command = f"<pre>{escaped(page.command)}</pre>" if page.command else ""
    return command + (facts({"code": escaped(page.code_version)}) if page.code_version else "")


def _links(page: SearchPage) -> str:
    shown = {
        text: f"{link(address, 'open')} <code>{escaped(address)}</code>"
        for text, address in page.links.items()
    }
    return facts(shown) if shown else ""
