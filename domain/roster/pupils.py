"""Pupils, and the references that each client's system uses for them."""

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import (
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    cast,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import DATERANGE

from domain.access.reach import CALLER, rows_of_pupil
from domain.declare.arguments import Choice
from domain.declare.resource import Field, Filter, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import PUPIL
from domain.declare.value_types import MAX_NAME, MAX_SHORT_TEXT
from domain.declare.vocabulary import COUNT, VERSION, declare_ids
from domain.read.time_binds import THIS_YEAR
from domain.roster.code_lists import ENROLMENT_STATUS, SEX
from domain.roster.on_roll import RollOfPupil
from domain.roster.pupil_filters import HOW_NAMES_ARE_FOUND, match_name, match_reference, match_upn, upns
from domain.roster.schools import schools
from domain.roster.text_lists import list_texts
from domain.roster.upn import UPN
from domain.roster.years import YEAR_GROUP
from domain.store.metadata import metadata

POLLING_OVERLAP = timedelta(minutes=5)
"""How much earlier than the last time a client begins to read what has changed: longer than a write may take from the
time it stores, which it takes after its locks, to its commit (MARKONCE_REQUEST_SECONDS, two minutes unless it is set).
"""
CHANGED_AT = (
    "When it last changed here, or came into the reach of its school. changedAt.gte asks for what changed since an instant: begin"
    f" {POLLING_OVERLAP.seconds // 60} minutes earlier, since the longest write is seen that much later than its time."
)

pupils = Table(
    "pupils",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("school_id", Uuid, ForeignKey("schools.id"), nullable=False, comment="Main registration"),
    Column("upn", Text),
    Column("surname", Text, nullable=False),
    Column("forename", Text, nullable=False),
    Column("date_of_birth", Date, nullable=False),
    Column("sex", Text, nullable=False),
    Column("year_group", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Column("preferred_surname", Text),
    Column("preferred_forename", Text),
    Column("surname_folded", Text, nullable=False),
    Column("forename_folded", Text, nullable=False),
    Column("preferred_surname_folded", Text),
    Column("preferred_forename_folded", Text),
    Column("surname_key", Text, nullable=False),
    Column("forename_key", Text, nullable=False),
    Column("preferred_surname_key", Text, nullable=False, comment="That of the legal surname where there is no preferred one"),
    Column("preferred_forename_key", Text, nullable=False, comment="That of the legal forename where there is no preferred one"),
    Column("main_spell", DATERANGE, comment="The last spell at the main school. Null where it is not known: enrolments has it"),
    Index("pupils_by_id", "id"),
    Index("pupils_by_school", "tenant_id", "school_id", "id"),
    Index("pupils_by_name", "tenant_id", "school_id", "surname", "forename", "id"),
    Index("pupils_by_name_order", "tenant_id", "school_id", "surname_key", "forename_key", "id"),
    Index("pupils_of_tenant_by_name", "tenant_id", "surname_key", "forename_key", "id"),
    Index("pupils_of_tenant_by_preferred_name", "tenant_id", "preferred_surname_key", "preferred_forename_key", "id"),
    Index("pupils_by_folded_name", "tenant_id", "school_id", "surname_folded", "forename_folded"),
)

external_ids = Table(
    "external_ids",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("source", Uuid, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("school_id", Uuid, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("rekeyed_from", Text, comment="The reference that this one replaced when the client re-keyed the school"),
    Index("external_ids_by_id", "tenant_id", "id"),
)

_former = upns.alias()
_former_upns = list_texts(
    _former,
    _former.c.upn,
    (_former.c.received_at, _former.c.upn),
    (_former.c.tenant_id == pupils.c.tenant_id) & (_former.c.pupil_id == pupils.c.id),
    ~_former.c.current,
)

_external = external_ids.alias()
_reference = (
    select(func.min(_external.c.value))
    .where(
        _external.c.tenant_id == pupils.c.tenant_id,
        _external.c.id == pupils.c.id,
        _external.c.kind == "pupil",
        _external.c.source == CALLER,
    )
    .correlate_except(_external)
    .scalar_subquery()
)


record_changes = Table(
    "record_changes",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("pupil_id", Uuid, nullable=False),
    Column("other_id", Uuid, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Index("record_changes_by_pupil", "tenant_id", "pupil_id"),
    Index("record_changes_by_other", "other_id"),
)
_merge = record_changes.alias()
_merged_from = list_texts(
    _merge,
    cast(_merge.c.other_id, Text),
    (_merge.c.changed_at, _merge.c.other_id),
    _merge.c.tenant_id == pupils.c.tenant_id,
    _merge.c.pupil_id == pupils.c.id,
    _merge.c.kind == "merged",
)

_roll, _roll_here = RollOfPupil(pupils), RollOfPupil(pupils, pupils.c.school_id)

_OFF_ROLL = {"onRoll": (False,), "leftOn": None}
"""What is said of a pupil who is on roll nowhere within reach."""
ROLL = Choice(
    "Who is listed: current, who is on roll today at a school within reach; left, who was and is not; all, also who has not begun yet."
    " Default: current; but all in a lookup, and where the list is filtered by id, changedAt, onRoll or leftOn, or by what identifies a child.",
    {"current": _roll.is_on_roll(), "left": _roll.has_left(), "all": None},
    default="current",
    widest="all",
    widened_by=frozenset(("id", "changedAt", "onRoll", "leftOn")),
    excludes={"current": _OFF_ROLL, "left": {"onRoll": (True,), "enrolmentStatus": None}},
)
ROLL_OF_SCHOOL = replace(
    ROLL,
    doc="Who is listed: current, who is on roll here today; left, who was and is not; all, also who has not begun yet. Default: current;"
    " but all where the list is filtered by id, changedAt, onRoll or leftOn, or by what identifies a child.",
    conditions={"current": _roll_here.is_on_roll(), "left": _roll_here.has_left(), "all": None},
    excludes={"current": _OFF_ROLL},  # who has left this school may be on roll at another one
)
ROLL_OF_DAY = replace(
    ROLL,
    doc="Who of them is listed: current, who is on roll today at a school within reach; left, who was and is not; all. Default: all.",
    default="all",
)
"""Of links that name a day themselves, such as the pupils of a group."""
_PREFERRED = f"Null: the legal one, by which the pupil is then also sorted. {HOW_NAMES_ARE_FOUND}"


def _declare_name(name: str, doc: str) -> Field:
    columns = pupils.c
    match, sort_key = match_name(columns[f"{name}_folded"]), columns[f"{name}_key"]
    return Field(columns[name], doc, scope=Scope.PUPILS_NAME, filter=Filter.BODY, sort_key=sort_key, match=match, longest=MAX_NAME)


PUPIL_IDS = declare_ids(PUPIL, "pupil")

PUPILS = Resource(
    name="pupil",
    plural="pupils",
    doc="A pupil whose main registration is at a school within the caller's reach, or whom such a school shares.",
    source=pupils,
    type_number=PUPIL,
    scope=Scope.PUPILS_READ,
    order=("tenant_id", "id"),
    reach=rows_of_pupil(pupils.c.tenant_id, pupils.c.school_id, pupils.c.id),
    fields={
        "id": Field(pupils.c.id, "Stable id; it survives a new UPN and a new MIS."),
        "reference": Field(
            _reference,
            "This client's own reference for the pupil; the first of them where it has several. As a filter it finds by each.",
            filter=Filter.BODY,
            match=match_reference(external_ids, pupils.c.tenant_id, pupils.c.id),
            longest=MAX_SHORT_TEXT,
        ),
        "upn": Field(
            pupils.c.upn,
            "Unique pupil number; null for a pupil who has none. As a filter it also finds who had it before.",
            scope=Scope.PUPILS_UPN,
            filter=Filter.BODY,
            match=match_upn(pupils.c.tenant_id, pupils.c.id),
            vocabulary=UPN,
        ),
        "formerUpns": Field(
            _former_upns,
            "The UPNs that the pupil had before, the first of them first. A number that turned out to be another child's is not among them.",
            scope=Scope.PUPILS_UPN,
            filter=Filter.BODY,
            vocabulary=UPN,
        ),
        "surname": _declare_name("surname", f"Legal surname. {HOW_NAMES_ARE_FOUND}"),
        "forename": _declare_name("forename", f"Legal forename. {HOW_NAMES_ARE_FOUND}"),
        "preferredSurname": _declare_name("preferred_surname", f"Surname that the school uses instead. {_PREFERRED}"),
        "preferredForename": _declare_name("preferred_forename", f"Forename that the school uses instead. {_PREFERRED}"),
        "dateOfBirth": Field(pupils.c.date_of_birth, "Date of birth.", scope=Scope.PUPILS_BIRTH, filter=Filter.BODY),
        "sex": Field(pupils.c.sex, "F or M, as in DfE exchange.", vocabulary=SEX),
        "yearGroup": Field(
            pupils.c.year_group, "National curriculum year today: E1, E2, N1, N2, R, 1 to 14 or X.", vocabulary=YEAR_GROUP
        ),
        "collectionsBeyondBudget": Field(
            func.collections_beyond_budget(pupils.c.tenant_id, pupils.c.id, THIS_YEAR, type_=Integer),
            "By how many collection points the pupil is assessed beyond the workload budget this academic year, at all schools of the trust"
            " together. A pupil who moved may have more than any one school collects; nothing is refused for it.",
            nullable=False,
            costly=True,
            vocabulary=COUNT,
        ),
        "schoolId": Field(pupils.c.school_id, "Id of the school of main registration."),
        "onRoll": Field(
            _roll.is_on_roll(),
            "Whether the pupil is on roll today, in any status, at a school within the caller's reach. A second school (dual registration)"
            " is told of its own enrolment.",
            nullable=False,
        ),
        "leftOn": Field(
            _roll.last_day(),
            "The last day on roll of a pupil who was on roll at a school within reach and is not today. null for others.",
        ),
        "enrolmentStatus": Field(
            _roll.status(),
            "The status today: C current, M main dual, F FE college, O other provider, S subsidiary dual, G guest; the first of these where"
            " several schools within reach have the pupil on roll. null for who is not on roll today.",
            vocabulary=ENROLMENT_STATUS,
        ),
        "mergedFrom": Field(
            _merged_from,
            "The ids of the records that were merged into this one, the first of them first: a copy of the data drops these.",
            filter=Filter.NOWHERE,
            nullable=False,
        ),
        "version": Field(pupils.c.version, "Grows by one with each change.", vocabulary=VERSION),
        "changedAt": Field(pupils.c.changed_at, CHANGED_AT),
    },
    links={
        "school": Link(
            "school",
            on=((pupils.c.school_id, schools.c.id),),
            doc="The school of main registration.",
        )
    },
    links_from_others={
        "school": {
            "pupils": Link(
                "pupil",
                on=((schools.c.id, pupils.c.school_id),),
                doc="Pupils whose main registration is here.",
                many=True,
                choices={"roll": ROLL_OF_SCHOOL},
            )
        }
    },
    choices={"roll": ROLL},
)
