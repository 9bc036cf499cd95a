"""Scopes of fields: held nowhere, a field is refused by name; held at some schools, it is null elsewhere, and neither a filter nor an order tells more."""

import json
from dataclasses import replace
from typing import Any

import pytest

from domain import RESOURCES
from domain.access.caller import Caller
from domain.declare.errors import Forbidden
from domain.declare.ids import new_id
from domain.read import prepared
from domain.read.checks import check_scopes
from domain.read.query import Condition, FieldValue, ListQuery, Order, PageRows, Query, RowQuery, ToMany
from tests.fixtures.two_trusts import TwoTrusts

MASKED = {
    ("pupil", "upn"): ("pupils:upn", {"Birch"}),
    ("pupil", "surname"): ("pupils:name", {"Alder"}),
    ("pupil", "forename"): ("pupils:name", {"Alder"}),
    ("pupil", "preferredSurname"): ("pupils:name", {"Alder"}),
    ("pupil", "preferredForename"): ("pupils:name", {"Alder"}),
    ("pupil", "dateOfBirth"): ("pupils:birth", {"Cedar"}),
    ("judgement", "againstTarget"): ("targets:read", {"Birch"}),
    ("judgement", "targetOutcome"): ("targets:read", {"Birch"}),
    ("judgement", "againstTargetId"): ("targets:read", {"Birch"}),
}
"""Every field with a scope of its own, and at which schools the client `mixed` holds it; those of receipts, returns and discounts, and
former UPNs, actors and who locked targets, are tried in tests/assessment, those of changes of records and planned pupils in tests/roster."""


def test_every_field_with_a_scope_of_its_own_is_tried() -> None:
    declared = {
        (name, key): field.scope
        for name, resource in RESOURCES.items()
        for key, field in resource.fields.items()
        if field.scope
        and name not in ("receipt", "return", "discount", "recordChange", "plannedPupil")
        and key not in ("formerUpns", "actor", "lockedBy")
    }
    assert declared == {key: scope for key, (scope, _) in MASKED.items()}


@pytest.mark.parametrize(("name", "key"), MASKED)
def test_a_scope_held_nowhere_is_refused_with_its_field(name: str, key: str) -> None:
    resource, (scope, _) = RESOURCES[name], MASKED[name, key]
    field, shown = resource.fields[key], (("id", FieldValue(resource.fields["id"])),)
    caller = Caller(new_id(20), frozenset({"pupils:read", "judgements:read", "schools:read", resource.scope.value}))
    page = ListQuery(resource, (("data", PageRows(shown)),))
    check_scopes([page], caller)
    school, back = RESOURCES["school"], RESOURCES["pupil"].links["judgements" if name == "judgement" else "school"]
    asking: list[Query] = [
        ListQuery(resource, (("data", PageRows(((key, FieldValue(field)),))),)),
        RowQuery(resource, (), ((key, FieldValue(field)),)),
        replace(page, where=(Condition(key, field, ("x",)),)),
        replace(page, order=(Order(key, field, False),)),
        RowQuery(school, (), (("below", ToMany(back, replace(page, order=(Order(key, field, True),)))),)),
    ]
    for root in asking:
        with pytest.raises(Forbidden) as refused:
            check_scopes([root], caller)
        assert [(issue.at, issue.code) for issue in refused.value.issues] == [(f"{name}.{key}", "scope-missing")]
        assert f"{name}.{key} needs {scope}" in refused.value.detail


@pytest.mark.parametrize(("name", "key"), MASKED)
async def test_a_scope_held_at_some_schools_shows_filters_and_sorts_nothing_elsewhere(
    name: str, key: str, two_trusts: TwoTrusts
) -> None:
    """A pupil is at the school of main registration and at those that share the pupil; elsewhere the field is null, whatever is asked."""
    resource, (_, held) = RESOURCES[name], MASKED[name, key]
    field, mixed = resource.fields[key], two_trusts.clients["mixed"].caller
    truth = {
        row["id"]: row[key] for row in await two_trusts.rows(two_trusts.database, two_trusts.clients["North"].caller, resource)
    }
    at = await find_schools(two_trusts)
    subject = "id" if name in ("pupil", "school") else "pupilId" if "pupilId" in resource.fields else "schoolId"
    rows = await two_trusts.rows(two_trusts.database, mixed, resource)
    visible = {row["id"] for row in rows if at[row[subject]] & held}
    hidden = [row["id"] for row in rows if row["id"] not in visible]
    assert visible
    assert hidden
    assert {row["id"]: row[key] for row in rows} == {
        id_: truth[id_] if id_ in visible else None for id_ in [row["id"] for row in rows]
    }

    async def ids(**asked: Any) -> list[str]:
        page = ListQuery(resource, (("data", PageRows((("id", FieldValue(resource.fields["id"])),))),), first=1000, **asked)
        (body,) = await prepared.read([page], two_trusts.database, mixed.client_id, two_trusts.cursors, scopes=mixed.scopes)
        return [row["id"] for row in json.loads(body or b"")["data"]]

    values = {value for id_, value in truth.items() if value is not None}
    assert values, "no row of tests/fixtures/two_trusts.py has a value"
    assert values & {truth[id_] for id_ in hidden}
    # in the order of those who did not sort; where there is a key to sort by, it is null where the scope is not held
    nulls = [row["id"] for row in rows if (row[key] is None if field.sort_key is None else row["id"] in hidden)]
    for value in values:
        assert set(await ids(where=(Condition(key, field, (field.parse_filter(value),)),))) <= visible
    for descending in (False, True) if field.sortable else ():
        ordered = await ids(order=(Order(key, field, descending),))
        assert ordered[-len(nulls) :] == nulls


async def find_schools(two_trusts: TwoTrusts) -> dict[str, set[str]]:
    """By id of a pupil or school, the names of the schools at which it is seen."""
    rows = await two_trusts.as_superuser("SELECT id, school_id FROM pupils UNION SELECT pupil_id, school_id FROM shared_pupils")
    names = {id_: name for name, id_ in two_trusts.schools.items()}
    found = {str(id_): {name} for id_, name in names.items()}
    for row in rows:
        found.setdefault(str(row["id"]), set()).add(names[row["school_id"]])
    return found
