"""A training as a job: what is asked, what is told of it, its record on disk, its run in the
tracker, and workers that carry it out (slots on a Ray cluster, or this process).

Search, compare, study and train only say which job is next.
"""

INSIDE_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray sets in the processes of a submitted job, and nowhere else."""
