"""Studies: many small trainings and measurements that answer one question, one recipe per question.

`STUDIES` names the module that answers each. A module offers `run(study)`; study.py opens the
tracking run and writes the report, study_session.py trains, measurements.py keeps what was
measured: a study that was interrupted goes on where it stopped, with the same command.
"""

STUDIES: dict[str, str] = {
    "kernel": "pipelines.research.studies.kernel",
    "length": "pipelines.research.studies.length",
    "warm_start": "pipelines.research.studies.warm_start",
}
