"""Assessment windows: what is collected, when, from whom, and why. `state` decides what is accepted (window_state.py).

Planning a window pins the scheme version of each school, subject and aspect it collects; so does changing its terms.
"""

from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from domain.access.reach import rows_of_tenant
from domain.assessment.code_lists import WINDOW_STATE
from domain.assessment.seasons import SEASON, derive_season
from domain.assessment.subjects import codes_of
from domain.assessment.window_state import derive_closed_at, derive_state
from domain.assessment.window_templates import WINDOW_TEMPLATE
from domain.declare.resource import Field, Filter, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import WINDOW
from domain.declare.value_types import MAX_SHORT_TEXT
from domain.declare.vocabulary import VERSION
from domain.roster import years
from domain.roster.text_order import sort_by_text
from domain.store.metadata import metadata

windows = Table(
    "windows",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("no", SmallInteger, nullable=False),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("academic_year", SmallInteger, nullable=False),
    Column("census_on", Date, nullable=False),
    Column("opens_at", DateTime(timezone=True), nullable=False),
    Column("closes_at", DateTime(timezone=True), nullable=False),
    Column("accept_until", DateTime(timezone=True)),
    Column("closed_at", DateTime(timezone=True)),
    Column("state", Text, nullable=False),
    Column("statutory", Boolean, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("frequency_reasons", JSONB),
    Column("year_groups", ARRAY(Text), nullable=False),
    Column("published_at", DateTime(timezone=True)),
    Column("version", Integer, nullable=False),
    Column("template", Text),
    Column("season", Text),
    Column("audience", Text),
    Column("source", Text),
    Column("changed_at", DateTime(timezone=True), comment="Null where it was changed last before anybody kept it"),
    UniqueConstraint("tenant_id", "no"),
    UniqueConstraint("tenant_id", "code"),
    Index("windows_by_id", "id"),
)

pins = Table(
    "pins",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("window_no", SmallInteger, primary_key=True),
    Column("school_id", Uuid, primary_key=True),
    Column("subject_no", SmallInteger, primary_key=True),
    Column("aspect_no", SmallInteger, primary_key=True),
    Column("scheme_version_no", SmallInteger, nullable=False),
    comment="The scheme version of each school, subject and aspect, fixed when the window is planned or its terms change",
)

WINDOWS = Resource(
    name="window",
    plural="windows",
    doc="An assessment window of a trust or school.",
    source=windows,
    type_number=WINDOW,
    scope=Scope.WINDOWS_READ,
    order=("tenant_id", "id"),
    reach=rows_of_tenant(windows.c.tenant_id),
    is_lookup_table=True,
    named_by="code",
    fields={
        "id": Field(windows.c.id, "Stable id."),
        "code": Field(
            windows.c.code,
            "Code, unique in the tenant, such as 2017-18/KS2.",
            codes=codes_of(windows, "window"),
            sort_key=sort_by_text(windows.c.code),
        ),
        "name": Field(windows.c.name, "Name.", sort_key=sort_by_text(windows.c.name), longest=MAX_SHORT_TEXT),
        "academicYear": Field(
            years.academic_year_text(windows.c.academic_year),
            "Academic year, such as 2017-18.",
            nullable=False,
            vocabulary=years.ACADEMIC_YEAR,
        ),
        "censusOn": Field(
            windows.c.census_on, "Who is on roll on this day is eligible, with the school, trust and characteristics of this day."
        ),
        "opensAt": Field(windows.c.opens_at, "When it opens by itself, or when it was opened earlier."),
        "closesAt": Field(windows.c.closes_at, "When it closes by itself, unless it is closed earlier."),
        "acceptUntil": Field(windows.c.accept_until, "Values recorded before it closed are taken until then."),
        "closedAt": Field(derive_closed_at(windows.c), "When it closed, by itself or early; null while it is not closed."),
        "state": Field(
            derive_state(windows.c),
            "planned, open, closed or locked, at the time of the request; this decides what is accepted.",
            nullable=False,
            vocabulary=WINDOW_STATE,
        ),
        "season": Field(derive_season(windows.c), "The season whose collection it is.", nullable=False, vocabulary=SEASON),
        "statutory": Field(windows.c.statutory, "Whether the collection is required by law."),
        "template": Field(
            windows.c.template,
            "The statutory collection that it is made from; null where it is none.",
            vocabulary=WINDOW_TEMPLATE,
        ),
        "source": Field(windows.c.source, "What a statutory collection is required by.", filter=Filter.NOWHERE),
        "purpose": Field(windows.c.purpose, "What the values are for.", is_prose=True),
        "audience": Field(windows.c.audience, "Who reads the values; null where nobody has said it.", is_prose=True),
        "decision": Field(windows.c.decision, "The decision they inform.", is_prose=True),
        "frequencyReasons": Field(
            windows.c.frequency_reasons,
            "Why it is held beyond the workload budget; null where nobody had to say.",
            filter=Filter.NOWHERE,
            members={
                "actions": "The actions that its frequency informs.",
                "timeToSetAndAnalyse": "The time taken to set, collate, analyse and interpret it.",
                "timeToAct": "The time taken to act on it.",
            },
        ),
        "yearGroups": Field(windows.c.year_groups, "National curriculum years it collects.", vocabulary=years.YEAR_GROUP),
        "publishedAt": Field(windows.c.published_at, "When its results were published."),
        "version": Field(windows.c.version, "Grows by one with each change.", vocabulary=VERSION),
    },
)
