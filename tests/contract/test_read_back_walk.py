"""Whatever can be written can be read back by somebody who may: every field of every input is written, and found where this table says; or it is no fact
that is stored, and the table says what it is. A new field of an input needs a line here."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import inspect

from domain import COMMANDS, RESOURCES
from tests.fixtures.small_trust import TRUST, URNS, Trust, asked, entry, roll, sent, upn

NAMES = "names a row that is there"
ORDER = "says how to carry out the request"
PUPIL = {
    "reference": "pupil.reference",
    "upn": "pupil.upn",
    "formerUpns": "pupil.formerUpns",
    "surname": "pupil.surname",
    "forename": "pupil.forename",
    "preferredSurname": "pupil.preferredSurname",
    "preferredForename": "pupil.preferredForename",
    "dateOfBirth": "pupil.dateOfBirth",
    "sex": "pupil.sex",
    "yearGroup": "pupil.yearGroup",
    **{f"enrolments.{name}": f"enrolment.{name}" for name in ("from", "to", "status", "leavingReason")},
    **{f"characteristics.{name}": f"pupilCharacteristic.{name}" for name in ("kind", "value", "from", "to")},
    "id": NAMES,
    "sameChild": "recordChange.field",
    "actor": "recordChange.actor",
}
PUBLIC_KEYS = {f"publicKeys.{name}": f"publicKey.{name}" for name in ("kty", "kid", "use", "alg", "crv", "x", "y", "n", "e")}
GRADE = {
    f"grades.{name}": f"grade.{name}"
    for name in ("code", "label", "rank", "value", "points", "yearGroup", "band", "eligible", "valid", "expected", "higher")
} | {"grades.validFrom": "grade.validFrom", "grades.validTo": "grade.validTo"}
WINDOW = {
    name: f"window.{name}"
    for name in (
        "name",
        "censusOn",
        "opensAt",
        "closesAt",
        "acceptUntil",
        "purpose",
        "audience",
        "decision",
        "season",
        "yearGroups",
    )
}
CODED = {name: name for name in ("name", "nationalCode", "retired")}
READ: dict[str, dict[str, str]] = {
    "record_pupils": {f"entries.{name}": where for name, where in PUPIL.items()},
    "record_groups": {
        **{f"entries.{name}": f"group.{name}" for name in ("code", "name", "kind")},
        **{f"entries.members.{name}": f"groupMember.{name}" for name in ("from", "to")},
        "academicYear": "group.academicYear",
    },
    "update_group": {name: f"group.{name}" for name in ("code", "name", "kind")},
    "record_judgements": {
        **{f"pupils.{name}": where for name, where in PUPIL.items()},
        **{
            f"entries.{name}": f"judgement.{name}"
            for name in ("grade", "mark", "status", "recordedAt", "actor", "source", "method", "aspect")
        },
        "entries.subject": "judgement.subjectCode",
        "entries.window": "judgement.windowCode",
        "entries.withdrawn": "judgement.status",
        "window": "judgement.windowCode",
    },
    "record_targets": {
        **{f"entries.{name}": f"target.{name}" for name in ("grade", "basis", "visibility", "recordedAt", "actor", "aspect")},
        "entries.subject": "target.subjectCode",
        "entries.scheme": "target.schemeCode",
        "entries.horizon.academicYear": "target.horizonYear",
        "entries.horizon.point": "target.horizonPoint",
    },
    **{f"create_{noun}": {name: f"{noun}.{name}" for name in ("code", "name", "nationalCode")} for noun in ("subject", "aspect")},
    **{f"update_{noun}": {name: f"{noun}.{name}" for name in CODED} for noun in ("subject", "aspect")},
    "create_scheme": {
        **GRADE,
        "code": "scheme.code",
        "name": "scheme.name",
        "template": "scheme.template",
        "copyOf": "grade.code",
        "rounding": "schemeVersion.rounding",
    },
    "create_subject": {
        "code": "subject.code",
        "name": "subject.name",
        "nationalCode": "subject.nationalCode",
        "combines.subjects": "conjunctionPart.subjectCode",
        "combines.threshold": "conjunctionPart.threshold",
        "combines.higherThreshold": "conjunctionPart.higherThreshold",
        "combines.weight": "conjunctionPart.weight",
        "combines.required": "conjunctionPart.required",
        "leastWeight": "subject.leastWeight",
    },
    "create_common_scale": {
        "name": "commonScale.name",
        "bands.code": "commonScale.bands",
        "bands.label": "commonScale.bandLabels",
        "expectedFrom": "commonScale.expectedFrom",
        "expectedLabel": "commonScale.expectedLabel",
        "higherFrom": "commonScale.higherFrom",
        "higherLabel": "commonScale.higherLabel",
    },
    "create_crosswalk": {
        "scheme": "crosswalk.schemeCode",
        "schemeVersion": "crosswalk.schemeVersion",
        "scale": "crosswalk.scaleId",
        "grades.grade": "crosswalkGrade.grade",
        "grades.fromGrade": "crosswalkGrade.grade",
        "grades.toGrade": "crosswalkGrade.grade",
        "grades.band": "crosswalkGrade.band",
    },
    "sign_common_scale": {
        "name": "commonScale.signedBy",
        "role": "commonScale.signerRole",
        "fromOn": "commonScale.fromOn",
    },
    "sign_crosswalk": {
        "name": "crosswalk.signedBy",
        "role": "crosswalk.signerRole",
        "fromOn": "crosswalk.fromOn",
    },
    "declare_scheme_progress": {
        "method": "scheme.progressMethod",
        "statement": "scheme.progressStatement",
        "name": "scheme.progressDeclaredBy",
    },
    "create_scheme_version": {
        **GRADE,
        "academicYears": "schemeVersion.academicYears",
        "rounding": "schemeVersion.rounding",
        "standard": "schemeVersion.expectedStatus",
    },
    "create_window": {
        **WINDOW,
        **{name: f"window.{name}" for name in ("code", "academicYear", "statutory", "template", "frequencyReasons")},
        **{f"frequencyReasons.{name}": "window.frequencyReasons" for name in ("actions", "timeToSetAndAnalyse", "timeToAct")},
        "collects.subject": "windowSubject.subjectCode",
        "collects.aspect": "windowSubject.aspect",
        "collects.scheme": "windowSubject.schemeCode",
        "collects.schools": "windowSubject.schoolId",
    },
    "update_window": WINDOW,
    "reopen_window": {"closesAt": "window.closesAt", "reason": "windowStateChange.reason", "actor": "windowStateChange.actor"},
    **{f"{verb}_window": {"reason": "windowStateChange.reason", "actor": "windowStateChange.actor"} for verb in ("lock", "unlock")},
    "record_collection_answer": {
        "subject": "collectionAnswer.subjectCode",
        **{
            name: f"collectionAnswer.{name}"
            for name in (
                *("aspect", "windowKind", "purpose", "audience", "decision", "impact", "verdict", "decidedBy", "reviewOn"),
                *("typedSeconds", "importedSeconds", "carriedSeconds"),
            )
        },
    },
    "open_window": {"reason": "windowStateChange.reason", "actor": "windowStateChange.actor"},
    "create_window_discount": {"reason": "discount.reason", "author": "discount.author"},
    **{f"{verb}_target": {"reason": "targetChange.reason", "actor": "targetChange.lockedBy"} for verb in ("lock", "unlock")},
    "withdraw_discount": {"author": "discount.withdrawnBy"},
    "preview_window": dict.fromkeys(("level", "sizesFrom", "attainmentFrom"), "GET /v1/windows/{id}/publication-preview"),
    "publish_window": {
        **{name: f"publication.{name}" for name in ("kind", "level", "sizesFrom", "attainmentFrom", "daysAfterClosing")},
        **{name: f"publicationChange.{name}" for name in ("reason", "actor")},
    },
    **{
        f"{verb}_publication": {name: f"publicationChange.{name}" for name in ("reason", "actor")}
        for verb in ("withdraw", "release")
    },
    "create_client": {name: f"client.{name}" for name in ("name", "origins")} | PUBLIC_KEYS,
    "set_client_keys": PUBLIC_KEYS | {"overlapHours": "the secrets of GET /v1/me, for the client itself"},
    "rotate_client_secret": {"overlapHours": "the secrets of GET /v1/me, for the client itself"},
    "create_grant": {
        **{name: f"grant.{name}" for name in ("scopes", "purpose", "approvedBy", "kind", "agreementVersion", "expiresAt")},
        "client": "grant.clientId",
        "target.trust": "grant.targetId",
    },
    "narrow_grant": {name: f"grant.{name}" for name in ("scopes", "expiresAt")},
    "extend_grant": {"expiresAt": "grant.expiresAt"},
    "update_school": {name: f"school.{name}" for name in ("shortName", "maxLeaversPercent", "rollYear", "sourceClient")},
    "update_pupil": {
        name: where for name, where in PUPIL.items() if where.startswith("pupil.") and name not in ("reference", "formerUpns")
    }
    | {name: PUPIL[name] for name in ("sameChild", "actor")},
    "release_pupil_upn": {"upn": NAMES},
    "distinguish_pupil": {
        "otherId": "recordChange.otherPupilId",
        "different": "recordChange.outcome",
        "actor": "recordChange.actor",
    },
    "record_school_references": {
        "entries.reference": "pupil.reference",
        **{f"entries.{name}": NAMES for name in ("oldReference", "upn", "surname", "forename", "dateOfBirth")},
    },
    "reidentify_pupil": {name: f"pupil.{name}" for name in ("surname", "forename", "dateOfBirth", "sex", "upn", "reference")},
    "split_pupil": {
        **{
            name: where
            for name, where in PUPIL.items()
            if "." in where and name not in ("reference", "formerUpns", "sameChild", "actor")
        },
        **{f"remaining{name[0].upper()}{name[1:]}": where for name, where in PUPIL.items() if "." in name},
        "references.reference": "pupil.reference",
    },
}
"""By command and field, the field that shows it, or what it is instead."""
NOT_STORED = {
    **dict.fromkeys(
        ("asOf", "complete", "maxLeavers", "entries.expectedVersion", "expectedVersion", "confirmation", "lockedWindows"), ORDER
    ),
    **dict.fromkeys(
        ("id", "entries.id", "entries.reference", "entries.upn", "into", "intoVersion", "groups", "targets", "windows"), NAMES
    ),
}


def list_fields(type_: inspect.Type, path: str = "") -> Iterator[str]:
    """Every field of an input, with dots; of an object that names a school, tenant or pupil, the object."""
    if isinstance(type_, inspect.Metadata):
        yield from list_fields(type_.type, path)
    elif isinstance(type_, inspect.UnionType):
        structs = [member for member in type_.types if isinstance(member, inspect.StructType | inspect.ListType)]
        yield from list_fields(structs[0], path) if structs else iter((path,))
    elif isinstance(type_, inspect.ListType):
        yield from list_fields(type_.item_type, path)
    elif isinstance(type_, inspect.StructType) and type_.cls.__name__ not in ("SchoolRef", "TenantRef", "TrustRef", "PupilKey"):
        for field in type_.fields:
            yield from list_fields(field.type, f"{path}.{field.encode_name}".lstrip("."))
    else:
        yield path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_writable_field_has_a_place_where_it_is_read(name: str) -> None:
    fields, table = set(list_fields(inspect.type_info(COMMANDS[name].input))), READ.get(name, {})
    named = {path for path in fields if path.split(".")[-1] in ("school", "tenant", "schools", "pupil") and path not in table}
    left = {path for path in fields - named if path not in table and path not in NOT_STORED and ".members." not in path}
    assert left == set(), "READ names where each field of the input is read, NOT_STORED what is not stored."
    for path, where in table.items():
        assert path in fields or any(field.startswith(f"{path}.") for field in fields), f"{name} has no field {path}"
        resource, dot, field = where.partition(".")
        assert not dot or field in RESOURCES[resource].fields, f"{where} cannot be read"


TENANT = {"trust": {"groupUid": TRUST}}
SCHOOL = {"urn": URNS["Oak"]}
OWN = [
    {
        "code": "1",
        "label": "One",
        "rank": 1,
        "value": 1.5,
        "points": 3,
        "yearGroup": "6",
        "band": "low",
        "eligible": True,
        "valid": True,
    },
    {"code": "2", "label": "Two", "rank": 2, "expected": True, "higher": True, "validFrom": "2015-09-01", "validTo": "2030-08-31"},
]
NEW = entry(
    1,
    formerUpns=[upn(1, temporary=True)],
    preferredForename="Sammy",
    preferredSurname="Other",
    enrolments=[{"from": "2014-09-01", "to": "2018-05-20", "status": "C", "leavingReason": "moved"}],
    characteristics=[{"kind": "sen", "value": "K", "from": "2016-09-01", "to": "2017-08-31"}],
)
WRITTEN: list[tuple[str, str, dict[str, Any]]] = [
    ("create_subject", "/v1/subjects", {"tenant": TENANT, "code": "latin", "name": "Latin", "nationalCode": "LAT"}),
    ("create_aspect", "/v1/aspects", {"tenant": TENANT, "code": "homework", "name": "Homework", "nationalCode": "HW"}),
    ("create_scheme", "/v1/schemes", {"tenant": TENANT, "code": "own", "name": "Own", "rounding": 1, "grades": OWN}),
    (
        "create_window",
        "/v1/windows",
        {
            "tenant": TENANT,
            "code": "walk",
            "name": "A walk",
            "academicYear": "2017-18",
            "censusOn": "2018-05-14",
            "opensAt": "2098-05-14T08:00:00Z",
            "closesAt": "2099-07-31T17:00:00Z",
            "acceptUntil": "2099-08-31T17:00:00Z",
            "statutory": False,
            "season": "summer",
            "audience": "Teachers and parents",
            "purpose": "A purpose",
            "decision": "A decision",
            "yearGroups": ["6"],
            "collects": [{"subject": "latin", "aspect": "homework", "scheme": "own"}, {"subject": "latin", "scheme": "own"}],
            "frequencyReasons": {"actions": "An action", "timeToSetAndAnalyse": "An hour", "timeToAct": "A day"},
        },
    ),
    ("record_pupils", "/v1/pupils", roll("Oak", [NEW])),
    (
        "record_groups",
        "/v1/groups",
        {
            "school": SCHOOL,
            "academicYear": "2017-18",
            "asOf": "2017-09-05",
            "entries": [
                {
                    "code": "6W",
                    "name": "6 Willow",
                    "kind": "class",
                    "members": [{"reference": "P1", "from": "2017-09-05", "to": "2018-01-31"}],
                }
            ],
        },
    ),
    (
        "record_judgements",
        "/v1/judgements",
        {
            "school": SCHOOL,
            "window": "walk",
            "entries": [
                {
                    "reference": "P1",
                    "subject": "latin",
                    "aspect": "homework",
                    "grade": "2",
                    "mark": 12.5,
                    "recordedAt": "2018-05-15T09:00:00Z",
                    "actor": "T1",
                    "source": "book",
                    "method": "test",
                },
                {"reference": "P1", "subject": "latin", "status": "exempt"},
            ],
        },
    ),
    (
        "record_targets",
        "/v1/targets",
        {
            "school": SCHOOL,
            "entries": [
                {
                    "reference": "P1",
                    "subject": "latin",
                    "aspect": "homework",
                    "scheme": "own",
                    "grade": "2",
                    "basis": "benchmark",
                    "visibility": "family",
                    "horizon": {"academicYear": "2018-19", "point": "Summer"},
                    "recordedAt": "2018-05-15T09:00:00Z",
                    "actor": "T2",
                }
            ],
        },
    ),
]


def list_values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from list_values(inner, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from list_values(inner, path)
    else:
        yield path, value


async def read_all(client: Any, name: str) -> tuple[list[Any], list[Any]]:
    """Every row of a resource, as REST and as GraphQL show it, with what is shown where it is named alone."""
    resource = RESOURCES[name]
    fields = list(resource.fields)
    rows: list[Any] = []
    params: dict[str, Any] = {"fields": ",".join(fields), "first": 1000} | dict.fromkeys(resource.choices, "all")
    answer = await client.get(f"/v1/{resource.path}", params=params)
    assert answer.status_code == 200, answer.text
    rows = answer.json()["data"]
    shown = " ".join(f"{n} {{ {' '.join(f.members)} }}" if f.members else n for n, f in resource.fields.items())
    choices = "".join(f", {choice}: all" for choice in resource.choices)
    nodes = (await asked(client, f"{{ {resource.plural}(first: 1000{choices}) {{ nodes {{ {shown} }} }} }}"))[resource.plural][
        "nodes"
    ]
    return rows, nodes


def holds(rows: list[Any], field: str, value: Any) -> bool:
    found = [each for row in rows for each in (row[field] if isinstance(row[field], list) else [row[field]])]
    found += [member for each in found if isinstance(each, dict) for member in each.values()]
    return value in found


async def test_what_was_written_is_read_back_in_both_interfaces(small_trust: Trust) -> None:
    client = await small_trust.client("all", f"trust:{TRUST}=all")
    for name, path, document in WRITTEN:
        await sent(client, path, document, 201 if name.startswith("create") else 200)
        if name == "create_window":
            (row,) = (await client.get("/v1/windows")).json()["data"]
            await sent(client, f"/v1/windows/{row['id']}/open")
    kept: dict[str, tuple[list[Any], list[Any]]] = {}
    tried = 0
    for name, _, document in WRITTEN:
        for path, value in list_values(document):
            where = READ[name].get(path) or READ[name].get(path.rpartition(".")[0], "")
            resource, dot, field = where.partition(".")
            if not dot or path == "opensAt":  # opening the window moved it
                continue
            kept[resource] = kept.get(resource) or await read_all(client, resource)
            for rows in kept[resource]:
                assert holds(rows, field, value), (name, path, value, json.dumps(rows)[:2000])
            tried += 1
    assert tried > 80
