"""Searches: trial slots that keep worker group and backbone between trials, searchers, trial schedulers. The only components package that imports ray."""
