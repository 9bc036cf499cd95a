"""Planned rolls: rolls of the coming academic year, which wait for their day.

record_pupils/plan.py writes them, record_pupils/due_rolls.py applies them on their day.
"""

from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
)

from domain.access.client_names import find_client_name
from domain.access.reach import rows_of_school
from domain.declare.errors import ERROR_CODES
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT, PLANNED_ROLL
from domain.declare.vocabulary import COUNT, PERCENT, Vocabulary, declare_ids, declare_list
from domain.roster.schools import schools
from domain.roster.text_order import sort_by_text
from domain.roster.years import ACADEMIC_YEAR, academic_year_text
from domain.store.metadata import metadata

PLANNED, APPLIED, REFUSED = "planned", "applied", "refused"

planned_rolls = Table(
    "planned_rolls",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("school_id", Uuid, nullable=False),
    Column("client_id", Uuid, nullable=False),
    Column("as_of", Date, nullable=False),
    Column("academic_year", SmallInteger, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("max_leavers", SmallInteger),
    Column("row_count", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("done_at", DateTime(timezone=True)),
    Column("problem", Text),
    Column("issue_codes", ARRAY(Text), nullable=False),
    Column("replaced_by", Uuid),
    *(Column(name, Integer) for name in ("created", "updated", "unchanged", "superseded", "rejected", "leavers")),
    Index("planned_rolls_by_id", "id"),
    Index("planned_rolls_by_school", "tenant_id", "school_id", "id"),
)
p = planned_rolls.c

_client_name = find_client_name(p.client_id)


def _parse_problem_code(text: str) -> str:
    code = text.strip().lower()
    if code not in ERROR_CODES:
        raise ValueError("It is the code of an error, such as too-many-leavers; GET /problems lists them.")
    return code


_PROBLEM_CODE = Vocabulary(_parse_problem_code)

PLANNED_ROLLS = Resource(
    name="plannedRoll",
    plural="plannedRolls",
    slug="planned-rolls",
    versioned=False,
    doc="A roll of the coming academic year, which changes nothing until its day and is applied then by itself.",
    source=planned_rolls,
    type_number=PLANNED_ROLL,
    scope=Scope.PUPILS_READ,
    order=("tenant_id", "id"),
    reach=rows_of_school(p.tenant_id, p.school_id),
    condition=p.replaced_by.is_(None),
    fields={
        "id": Field(p.id, "Id of the planned roll."),
        "schoolId": Field(p.school_id, "Id of its school."),
        "asOf": Field(p.as_of, "The day of the roll, on which it is applied."),
        "academicYear": Field(
            academic_year_text(p.academic_year), "Its academic year, such as 2027-28.", nullable=False, vocabulary=ACADEMIC_YEAR
        ),
        "complete": Field(p.complete, "Whether pupils who are absent from it leave on the day before."),
        "maxLeavers": Field(
            p.max_leavers, "How many percent may leave at once; null for the school's own setting.", vocabulary=PERCENT
        ),
        "state": Field(
            p.state,
            "planned: it waits for its day. applied: it was recorded, and the counts say what became of its rows. refused: nothing of it"
            " was written, for the reason in problem.",
            vocabulary=declare_list(PLANNED, APPLIED, REFUSED),
        ),
        "rowCount": Field(p.row_count, "How many rows were sent and accepted.", vocabulary=COUNT),
        "client": Field(_client_name, "Name of the client that sent it.", sort_key=sort_by_text(_client_name)),
        "clientId": Field(p.client_id, "Id of that client: names may be used again.", vocabulary=declare_ids(CLIENT, "client")),
        "receivedAt": Field(p.received_at, "When it arrived."),
        "doneAt": Field(p.done_at, "When it was applied or refused; null while it is planned."),
        "problem": Field(
            p.problem,
            "The code of the error for which it was refused (GET /problems/{code} explains it).",
            vocabulary=_PROBLEM_CODE,
        ),
        "issueCodes": Field(
            p.issue_codes,
            "The codes of the issues of its rejected rows, once it was applied: those when it was sent, and those on its day.",
            vocabulary=_PROBLEM_CODE,
        ),
        "created": Field(
            p.created, "Rows that made a new pupil; null unless it was applied, as of the other counts.", vocabulary=COUNT
        ),
        "updated": Field(p.updated, "Rows that changed a pupil.", vocabulary=COUNT),
        "unchanged": Field(p.unchanged, "Rows that changed nothing.", vocabulary=COUNT),
        "superseded": Field(p.superseded, "Rows that are older than what was sent of their pupil since.", vocabulary=COUNT),
        "rejected": Field(
            p.rejected,
            "Rows that were rejected, when it was sent or on its day. A pupil to whom one points stays on roll.",
            vocabulary=COUNT,
        ),
        "left": Field(p.leavers, "Pupils whom it took off roll, since it is complete and they are not in it.", vocabulary=COUNT),
    },
    links={
        "school": Link(
            "school",
            ((p.school_id, schools.c.id),),
            "The school.",
            reverse="plannedRolls",
            reverse_doc="Its rolls of the coming year, and what became of former ones.",
        )
    },
)
