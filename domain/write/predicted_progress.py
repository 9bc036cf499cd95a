"""Predicted progress, which is recorded nowhere: an input that carries it is refused with the reason.

A progress score compares a pupil's result with the average result of all pupils who had the same one before. It is known only once every
school's results are. Sources: Ofsted, School inspection update, March 2017 (inspectors ask for no predictions of progress scores);
Department for Education, Making data work: report of the Teacher Workload Advisory Group, 2018.
"""

import re

_PROGRESS = re.compile(r"progress|valueadded|p8$|^p8")
_PREDICTED = re.compile(r"predict|forecast|project|expect|estimat|anticipat|likely")
PREDICTED_PROGRESS = (
    "Predicted progress is not recorded: a progress score compares with the results of all pupils, which nobody knows before. A teacher's"
    " predicted grade is a judgement with the aspect predicted, and a goal is a target. Sources: Ofsted, School inspection update,"
    " March 2017; Department for Education, Making data work, 2018."
)


def is_predicted_progress(name: str) -> bool:
    """Whether the name of a field, column, subject, aspect or scheme is of predicted progress, however it is written."""
    plain = re.sub(r"[^a-z0-9]+", "", name.casefold())
    return plain == "flightpath" or bool(_PROGRESS.search(plain) and _PREDICTED.search(plain))
