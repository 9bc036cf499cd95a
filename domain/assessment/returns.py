"""Returns: how many judgements each school has sent to a window, and how many are missing.

The pupils that a school must judge are those of the census, as in the aggregates (migration 0007). The figures are
about single schools and subjects and are not suppressed. They are for staff: a row needs windows:read and
judgements:read at its school, and aggregates:read shows none.
"""

from sqlalchemy import ARRAY, Boolean, Column, DateTime, Integer, MetaData, SmallInteger, Table, Text, Uuid, and_, select

from domain.access.reach import rows_of_school
from domain.assessment.subjects import JUDGED, aspects, code_of, codes_of, subjects
from domain.assessment.window_state import has_opened
from domain.assessment.windows import windows
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT
from domain.declare.vocabulary import COUNT, declare_ids
from domain.roster.pupils import PUPIL_IDS
from domain.roster.school_numbers import URN
from domain.roster.schools import schools
from domain.roster.text_order import sort_by_text

MAX_MISSING_LISTED = 200
"""The number of missing pupils that a row lists, as in the view."""

returns = Table(
    "returns",
    MetaData(),
    Column("tenant_id", Uuid, nullable=False),
    Column("window_no", SmallInteger, nullable=False),
    Column("window_code", Text, nullable=False),
    Column("school_id", Uuid, nullable=False),
    Column("school_urn", Integer, nullable=False),
    Column("school_name", Text, nullable=False),
    Column("subject_no", SmallInteger, nullable=False),
    Column("aspect_no", SmallInteger, nullable=False),
    Column("expected", Integer, nullable=False),
    Column("received", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
    Column("missing_pupil_ids", ARRAY(Uuid), nullable=False),
    Column("missing_cut", Boolean, nullable=False),
    Column("last_push_at", DateTime(timezone=True)),
    Column("last_client", Text),
    Column("last_rejected", Integer),
    Column("state", Text, nullable=False),
    Column("opens_at", DateTime(timezone=True), nullable=False),
    Column("closes_at", DateTime(timezone=True), nullable=False),
    Column("last_client_id", Uuid),
    comment="A view over the census, the pins, the judgements and the receipts",
)
v = returns.c

_staff = rows_of_school(v.tenant_id, v.school_id, tests_each_row=True)
"""As a join PostgreSQL would count every school before it knows which are within reach."""

_name_key = select(schools.c.name_key).where(schools.c.id == v.school_id).correlate_except(schools).scalar_subquery()

RETURNS = Resource(
    name="return",
    plural="returns",
    versioned=False,
    doc="What a school has handed in to a window in a subject and aspect that it collects; there are none before it opens. The school must be reached"
    " with windows:read as well.",
    source=returns,
    scope=Scope.JUDGEMENTS_READ,
    order=("tenant_id", "window_no", "school_id", "subject_no", "aspect_no"),
    weight=2_000,
    reach=lambda scope: and_(_staff(scope), _staff(Scope.WINDOWS_READ)),
    also_needs=(Scope.WINDOWS_READ,),
    condition=has_opened(v),
    fields={
        "windowCode": Field(v.window_code, "The window's code.", codes=codes_of(windows, "window")),
        "schoolId": Field(v.school_id, "The school's id."),
        "schoolUrn": Field(v.school_urn, "The school's unique reference number.", vocabulary=URN),
        "schoolName": Field(v.school_name, "The school's name.", sort_key=_name_key),
        "subject": Field(code_of(subjects, v.tenant_id, v.subject_no), "The subject's code.", vocabulary=JUDGED),
        "aspect": Field(code_of(aspects, v.tenant_id, v.aspect_no), "The aspect."),
        "expected": Field(v.expected, "Pupils on roll here on the census date, in the window's year groups.", vocabulary=COUNT),
        "received": Field(v.received, "Of these, pupils with a grade, or a status that says why there is none.", vocabulary=COUNT),
        "missing": Field(v.missing, "Of these, pupils with neither: expected less received.", vocabulary=COUNT),
        "missingPupilIds": Field(
            v.missing_pupil_ids,
            f"Ids of missing pupils, of those within reach today, at most {MAX_MISSING_LISTED}.",
            scope=Scope.PUPILS_READ,
            vocabulary=PUPIL_IDS,
        ),
        "missingCut": Field(v.missing_cut, "Whether missing pupils are left out of missingPupilIds."),
        "lastPushAt": Field(v.last_push_at, "When rows last arrived for it, accepted or not."),
        "lastClient": Field(v.last_client, "Name of the client they came from.", sort_key=sort_by_text(v.last_client)),
        "lastClientId": Field(
            v.last_client_id, "Id of that client: names may be used again.", vocabulary=declare_ids(CLIENT, "client")
        ),
        "lastRejected": Field(v.last_rejected, "How many of them were rejected.", vocabulary=COUNT),
    },
    links={
        "window": Link(
            "window",
            ((v.tenant_id, windows.c.tenant_id), (v.window_no, windows.c.no)),
            "The window.",
            reverse="returns",
            reverse_doc="What each school has handed in, by subject and aspect.",
        ),
        "school": Link("school", ((v.school_id, schools.c.id),), "The school."),
    },
)
