"""Searches: trial slots that keep worker group and backbone between trials, searchers, trial
schedulers. The only components package that imports ray.
"""

INSIDE_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray sets in the processes of a submitted job, and nowhere else."""
