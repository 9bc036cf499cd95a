"""Common scales and crosswalks: the one language in which a trust compares schools that judge in different schemes.

A scale is a list of bands in order, and says from which of them on a pupil is expected or higher. A crosswalk maps the grades of one
version of a scheme to bands. Both are drafted and signed by a named person, are in force from a day on, and are replaced and never
edited: the last signed one whose day has come is in force. The code of a band keeps its meaning in later scales, so that crosswalks
outlive the scale that they were drafted for.
"""

from typing import Any

from sqlalchemy import ARRAY, Column, Date, DateTime, Index, Integer, SmallInteger, Table, Text, Uuid

from domain.access.reach import rows_of_tenant
from domain.assessment.schemes import schemes
from domain.assessment.subjects import codes_of
from domain.declare.resource import Field, LabelOf, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT, COMMON_SCALE, CROSSWALK, SCHEME
from domain.declare.value_types import MAX_SHORT_TEXT
from domain.declare.vocabulary import VERSION, declare_ids
from domain.store.metadata import metadata


def _list_signature_columns() -> list[Column[Any]]:
    return [
        Column("created_at", DateTime(timezone=True), nullable=False),
        Column("from_on", Date),
        Column("signed_at", DateTime(timezone=True)),
        Column("first_signed_at", DateTime(timezone=True), comment="What orders those that hold from the same day"),
        Column("signed_by", Text),
        Column("signer_role", Text),
        Column("signed_client_id", Uuid),
        Column("version", Integer, nullable=False),
    ]


common_scales = Table(
    "common_scales",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("bands", ARRAY(Text), nullable=False),
    Column("band_labels", ARRAY(Text), nullable=False),
    Column("expected_from", Text, nullable=False),
    Column("expected_label", Text),
    Column("higher_from", Text),
    Column("higher_label", Text),
    *_list_signature_columns(),
    Index("common_scales_by_id", "id"),
)
crosswalks = Table(
    "crosswalks",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("scale_id", Uuid, nullable=False),
    Column("scheme_version_no", SmallInteger, nullable=False),
    Column("scheme_id", Uuid, nullable=False),
    Column("scheme_version", SmallInteger, nullable=False),
    *_list_signature_columns(),
    Index("crosswalks_by_id", "id"),
    Index("crosswalks_by_version", "tenant_id", "scheme_version_no", "from_on"),
)
crosswalk_grades = Table(
    "crosswalk_grades",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("crosswalk_id", Uuid, primary_key=True),
    Column("grade_no", SmallInteger, primary_key=True),
    Column("grade", Text, nullable=False),
    Column("band", Text, comment="null: not mapped"),
)
s, k, m = common_scales.c, crosswalks.c, crosswalk_grades.c


def _declare_signature(c: Any) -> dict[str, Field]:
    return {
        "createdAt": Field(c.created_at, "When it was drafted."),
        "fromOn": Field(c.from_on, "The day from which it is in force, until a later one is; null while it is a draft."),
        "signedAt": Field(c.signed_at, "When it was signed, or its signature renewed; null while it is a draft."),
        "signedBy": Field(c.signed_by, "Who signed it, as the sender named them.", longest=MAX_SHORT_TEXT),
        "signerRole": Field(c.signer_role, "What they were when they signed.", longest=MAX_SHORT_TEXT),
        "signedClientId": Field(
            c.signed_client_id, "Id of the client that sent the signature.", vocabulary=declare_ids(CLIENT, "client")
        ),
        "version": Field(c.version, "Grows by one with each signature.", vocabulary=VERSION),
    }


COMMON_SCALES = Resource(
    name="commonScale",
    plural="commonScales",
    slug="common-scales",
    doc="A common scale of a trust, or of a school that has none: bands in which results of different schemes are compared.",
    source=common_scales,
    type_number=COMMON_SCALE,
    scope=Scope.SCHEMES_READ,
    order=("tenant_id", "id"),
    reach=rows_of_tenant(s.tenant_id),
    fields={
        "id": Field(s.id, "Stable id."),
        "name": Field(s.name, "Name.", longest=MAX_SHORT_TEXT),
        "bands": Field(s.bands, "Codes of the bands, the lowest first."),
        "bandLabels": Field(s.band_labels, "What each band means, in the order of `bands`."),
        "expectedFrom": Field(s.expected_from, "The lowest band that meets the expected standard.", longest=MAX_SHORT_TEXT),
        "expectedLabel": Field(s.expected_label, "The trust's own name of that standard, such as 4+.", longest=MAX_SHORT_TEXT),
        "higherFrom": Field(
            s.higher_from, "The lowest band that meets the higher standard; null: the scale has none.", longest=MAX_SHORT_TEXT
        ),
        "higherLabel": Field(s.higher_label, "The trust's own name of that standard, such as 5+.", longest=MAX_SHORT_TEXT),
        **_declare_signature(s),
    },
)

CROSSWALKS = Resource(
    name="crosswalk",
    plural="crosswalks",
    doc="A crosswalk: to which band of a common scale each grade of one version of a scheme belongs.",
    source=crosswalks,
    type_number=CROSSWALK,
    scope=Scope.SCHEMES_READ,
    order=("tenant_id", "id"),
    reach=rows_of_tenant(k.tenant_id),
    fields={
        "id": Field(k.id, "Stable id."),
        "scaleId": Field(k.scale_id, "Id of the scale that it was drafted for."),
        "schemeId": Field(k.scheme_id, "Id of the scheme.", vocabulary=declare_ids(SCHEME, "scheme")),
        "schemeCode": Field(
            LabelOf(
                schemes,
                ((k.tenant_id, schemes.c.tenant_id), (k.scheme_id, schemes.c.id)),
                "code",
                codes=codes_of(schemes, "scheme"),
            ),
            "The scheme's code.",
        ),
        "schemeVersion": Field(k.scheme_version, "The version of the scheme, from 1.", vocabulary=VERSION),
        **_declare_signature(k),
    },
    links={
        "scale": Link(
            "commonScale",
            ((k.tenant_id, s.tenant_id), (k.scale_id, s.id)),
            "The scale.",
            reverse="crosswalks",
            reverse_doc="The crosswalks that were drafted for it.",
            nullable=False,
            target_in_reach=True,
            source_in_reach=True,
        ),
    },
)

CROSSWALK_GRADES = Resource(
    name="crosswalkGrade",
    plural="crosswalkGrades",
    slug="crosswalk-grades",
    doc="The band of one grade in a crosswalk.",
    source=crosswalk_grades,
    scope=Scope.SCHEMES_READ,
    order=("tenant_id", "crosswalk_id", "grade_no"),
    reach=rows_of_tenant(m.tenant_id),
    fields={
        "grade": Field(m.grade, "The code of the grade.", longest=MAX_SHORT_TEXT),
        "band": Field(m.band, "The code of the band; null: the grade is not mapped.", longest=MAX_SHORT_TEXT),
    },
    links={
        "crosswalk": Link(
            "crosswalk",
            ((m.tenant_id, k.tenant_id), (m.crosswalk_id, k.id)),
            "The crosswalk.",
            reverse="grades",
            reverse_doc="The band of each grade.",
            nullable=False,
            target_in_reach=True,
            source_in_reach=True,
        ),
    },
)
