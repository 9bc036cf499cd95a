"""What planned rolls say, row by row, until their day: pupils, spells on roll and spells of characteristics, as they were sent.

record_pupils/plan.py writes them. Those that a later plan says instead are hidden.
They are deleted when their roll is applied, refused or withdrawn, and those about an old
identity when the pupil gets a new one.
"""

from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    ColumnElement,
    Date,
    Index,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    case,
    cast,
    exists,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from domain.access.reach import CALLER, rows_of_pupil, rows_of_school
from domain.declare.ids import parse_id
from domain.declare.resource import Field, Filter, KeyValues, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import SCHOOL
from domain.declare.vocabulary import COUNT, Vocabulary, declare_ids, declare_list
from domain.roster.characteristics import KINDS, make_value_field
from domain.roster.code_lists import ENROLMENT_STATUS, SEX
from domain.roster.enrolments import MAX_LEAVING_REASON
from domain.roster.planned_rolls import planned_rolls
from domain.roster.pupils import PUPIL_IDS, pupils
from domain.roster.schools import schools
from domain.roster.upn import UPN
from domain.roster.years import YEAR_GROUP
from domain.store.metadata import metadata

planned_pupils = Table(
    "planned_pupils",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("planned_roll_id", Uuid, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("school_id", Uuid, nullable=False),
    Column("pupil_id", Uuid),
    Column("reference", Text),
    Column("upns", ARRAY(Text), nullable=False),
    Column("entry", JSONB, nullable=False),
    Column("outcome", Text),
    Column("replaced_by", ARRAY(Uuid), nullable=False),
    Index("planned_pupils_by_pupil", "tenant_id", "pupil_id"),
)
planned_enrolments, planned_characteristics = (
    Table(
        f"planned_{name}",
        MetaData(),
        Column("tenant_id", Uuid, primary_key=True),
        Column("planned_roll_id", Uuid, primary_key=True),
        Column("n", Integer, primary_key=True),
        Column("m", Integer, primary_key=True),
        Column("school_id", Uuid, nullable=False),
        Column("from_on", Date, nullable=False),
        Column("to_on", Date),
        *own_columns,
        comment="A view: the spells in planned_pupils.entry",
    )
    for name, own_columns in (
        ("enrolments", (Column("status", Text, nullable=False), Column("leaving_reason", Text))),
        ("characteristics", (Column("kind", Text, nullable=False), Column("value", Text, nullable=False))),
    )
)
x, e, c = planned_pupils.c, planned_enrolments.c, planned_characteristics.c


def _make_id(row: Any) -> ColumnElement[str]:
    """Returns in SQL the public id of a planned row: that of its roll, and its number there."""
    roll_id: ColumnElement[str] = cast(row.planned_roll_id, Text)
    return roll_id + "-" + cast(row.n, Text)


def parse_planned_row_id(text: str) -> KeyValues | None:
    """Returns the natural key that a public id encodes, None for any other text."""
    roll, _, number = text.rpartition("-")
    roll_id = parse_id(roll)
    if roll_id is None or not (number.isascii() and number.isdigit() and len(number) < 9 and str(int(number)) == number):
        return None
    return (x.planned_roll_id, roll_id), (x.n, int(number))


def _check_id(text: str) -> str:
    if parse_planned_row_id(text) is None:
        raise ValueError("The id is one that the API gave.")
    return text


_ROW_ID = Vocabulary(_check_id)


def _read(name: str) -> ColumnElement[str]:
    text: ColumnElement[str] = x.entry[name].astext
    return text


def _show(name: str, doc: str, scope: Scope) -> Field:
    """Returns the field of a text that identifies a person: no list is filtered or sorted by it."""
    return Field(_read(name), doc, scope=scope, filter=Filter.NOWHERE)


def _find_pupil() -> ColumnElement[Any]:
    """Returns in SQL the id of the row's pupil, where within reach."""
    p = pupils.alias()
    is_reached = rows_of_pupil(p.c.tenant_id, p.c.school_id, p.c.id)(Scope.PUPILS_READ)
    of_row = and_(p.c.tenant_id == x.tenant_id, p.c.id == x.pupil_id, is_reached)
    return select(p.c.id).where(of_row).correlate_except(p).scalar_subquery()


def _find_reference() -> ColumnElement[Any]:
    """Returns in SQL the row's reference, where the caller sent it."""
    r = planned_rolls.alias()
    own: Select[Any] = select(literal_column("1")).select_from(r)
    own = own.where(r.c.tenant_id == x.tenant_id, r.c.id == x.planned_roll_id, r.c.client_id == CALLER)
    is_own = exists(own.correlate_except(r))
    return case((is_own, x.reference), else_=None)


_has_upn = _read("upn").is_not(None)
_former_upns = case((_has_upn, x.upns[2:12]), else_=x.upns)


def _reach_standing_rows(scope: Scope | None) -> ColumnElement[bool]:
    """Returns the predicate for rows within reach that no later plan says instead."""
    return and_(rows_of_school(x.tenant_id, x.school_id)(scope), func.cardinality(x.replaced_by) == 0)


PLANNED_PUPILS = Resource(
    name="plannedPupil",
    plural="plannedPupils",
    slug="planned-pupils",
    versioned=False,
    doc="A row of a planned roll, as it was sent. It is gone when the roll was applied or withdrawn: what became of it is among the pupils then.",
    source=planned_pupils,
    scope=Scope.PUPILS_READ,
    order=("tenant_id", "planned_roll_id", "n"),
    reach=_reach_standing_rows,
    parse_key=parse_planned_row_id,
    fields={
        "id": Field(_make_id(x), "Id of the row; a roll that replaces this one has others.", nullable=False, vocabulary=_ROW_ID),
        "plannedRollId": Field(x.planned_roll_id, "Id of the planned roll."),
        "number": Field(x.n, "The place of the row among those of its school that were accepted, from 0.", vocabulary=COUNT),
        "schoolId": Field(x.school_id, "Id of the school.", vocabulary=declare_ids(SCHOOL, "school")),
        "pupilId": Field(
            _find_pupil(),
            "Id of the pupil whom the row meant when it was sent, where within reach; null for a new one.",
            vocabulary=PUPIL_IDS,
        ),
        "outcome": Field(
            x.outcome,
            "What would have become of it if the roll had been recorded when it was sent: created, updated, unchanged or superseded.",
            vocabulary=declare_list("created", "updated", "unchanged", "superseded"),
        ),
        "reference": Field(_find_reference(), "The sender's own id of the pupil, for the sender.", filter=Filter.NOWHERE),
        "upn": Field(case((_has_upn, x.upns[1]), else_=None), "The UPN sent.", scope=Scope.PUPILS_UPN, filter=Filter.NOWHERE),
        "formerUpns": Field(_former_upns, "The former UPNs sent.", scope=Scope.PUPILS_UPN, filter=Filter.NOWHERE, vocabulary=UPN),
        "surname": _show("surname", "Legal surname.", Scope.PUPILS_NAME),
        "forename": _show("forename", "Legal forename.", Scope.PUPILS_NAME),
        "preferredSurname": _show("preferredSurname", "Preferred surname; null also where none was sent.", Scope.PUPILS_NAME),
        "preferredForename": _show("preferredForename", "Preferred forename; null also where none was sent.", Scope.PUPILS_NAME),
        "dateOfBirth": Field(cast(_read("dateOfBirth"), Date), "Date of birth.", scope=Scope.PUPILS_BIRTH, filter=Filter.NOWHERE),
        "sex": Field(_read("sex"), "F or M, as in DfE exchange.", nullable=False, vocabulary=SEX),
        "yearGroup": Field(
            _read("yearGroup"), "National curriculum year in the academic year of the roll.", nullable=False, vocabulary=YEAR_GROUP
        ),
        "saysEnrolments": Field(
            x.entry.has_key("enrolments"),
            "Whether the row says the spells on roll; if not, the stored ones stay.",
            nullable=False,
        ),
        "sameChild": Field(
            func.coalesce(cast(_read("sameChild"), Boolean), literal_column("false")),
            "Whether it says that it is the same child though facts differ.",
            nullable=False,
        ),
        "actor": Field(_read("actor"), "Who says so.", scope=Scope.AUDIT_READ, filter=Filter.NOWHERE),
    },
    links={
        "school": Link("school", ((x.school_id, schools.c.id),), "The school."),
        "plannedRoll": Link(
            "plannedRoll",
            ((x.tenant_id, planned_rolls.c.tenant_id), (x.planned_roll_id, planned_rolls.c.id)),
            "The planned roll.",
            reverse="pupils",
            reverse_doc="Its rows, until it is applied, refused or withdrawn.",
        ),
        "pupil": Link(
            "pupil",
            ((x.tenant_id, pupils.c.tenant_id), (x.pupil_id, pupils.c.id)),
            "The pupil whom the row meant when it was sent, where within reach.",
        ),
    },
)


def _link_to_row(row: Any, reverse: str, doc: str) -> dict[str, Link]:
    on = tuple((row[name], x[name]) for name in ("tenant_id", "planned_roll_id", "n"))
    return {"plannedPupil": Link("plannedPupil", on, "The row of the roll.", reverse=reverse, reverse_doc=doc)}


PLANNED_ENROLMENTS = Resource(
    name="plannedEnrolment",
    plural="plannedEnrolments",
    slug="planned-enrolments",
    versioned=False,
    doc="A spell on roll in a row of a planned roll.",
    source=planned_enrolments,
    scope=Scope.PUPILS_READ,
    order=("tenant_id", "planned_roll_id", "n", "m"),
    reach=rows_of_school(e.tenant_id, e.school_id),
    fields={
        "plannedPupilId": Field(_make_id(e), "Id of the row.", nullable=False, vocabulary=_ROW_ID),
        "status": Field(
            e.status,
            "C current, M main dual, S subsidiary dual, G guest, F also at an FE college, O also at another provider.",
            vocabulary=ENROLMENT_STATUS,
        ),
        "from": Field(e.from_on, "First day on roll."),
        "to": Field(e.to_on, "Last day on roll; null where no end is known."),
        "leavingReason": Field(e.leaving_reason, "Why it ends, in the school's words.", longest=MAX_LEAVING_REASON),
    },
    links=_link_to_row(e, "enrolments", "The spells on roll that it says."),
)

PLANNED_CHARACTERISTICS = Resource(
    name="plannedCharacteristic",
    plural="plannedCharacteristics",
    slug="planned-characteristics",
    versioned=False,
    doc="A spell of a characteristic in a row of a planned roll.",
    source=planned_characteristics,
    scope=Scope.PUPILS_SENSITIVE,
    order=("tenant_id", "planned_roll_id", "n", "m"),
    reach=rows_of_school(c.tenant_id, c.school_id),
    fields={
        "plannedPupilId": Field(_make_id(c), "Id of the row.", nullable=False, vocabulary=_ROW_ID),
        "kind": Field(c.kind, f"Which characteristic: {', '.join(KINDS)}.", vocabulary=declare_list(*KINDS)),
        "value": make_value_field(c.kind, c.value),
        "from": Field(c.from_on, "First day."),
        "to": Field(c.to_on, "Last day; null: until the next spell of this kind."),
    },
    links=_link_to_row(c, "characteristics", "The spells of characteristics that it says."),
)
