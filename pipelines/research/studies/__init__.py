"""Studies: many small trainings and measurements that answer one question, one recipe per question.

`STUDIES` names the module that answers each. A module offers `run(study, session)`; `study`
(study.py)
opens the tracking run, keeps what was measured and writes the report. Every training and every
other measurement is kept (measurements.py): a study that was interrupted goes on where it stopped,
with the
same command.
"""

STUDIES: dict[str, str] = {
    "kernel": "pipelines.research.studies.kernel",
    "length": "pipelines.research.studies.length",
}
