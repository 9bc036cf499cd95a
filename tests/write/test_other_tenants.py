"""Commands that name what is another tenant's: nothing is written, and the answer is the one for what is nowhere."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from msgspec import structs

from domain import RESOURCES
from domain.declare.errors import DomainError
from domain.declare.ids import new_id
from tests.fixtures.command_requests import ENTRY
from tests.fixtures.two_trusts import AUTUMN, OWN_GRADES, SCHOOLS, SUMMER, TRUSTS, TwoTrusts, batch, upn, window


@dataclass(frozen=True)
class Names:
    """What a body may name: things of another tenant, or things that are nowhere."""

    urn: int
    school: str
    trust: str
    uid: int
    pupil: str
    upn: str
    reference: str
    window: str
    window_code: str
    scheme: str


JUDGED = {"subject": "reading", "grade": OWN_GRADES[0]["code"]}
AIMED = {
    "subject": "reading",
    "grade": OWN_GRADES[0]["code"],
    "scheme": "own",
    "basis": "teacher",
    "horizon": {"academicYear": "2025-26", "point": "KS2"},
}
HERE = {"reference": "Alder-0"}
"""A pupil of the caller's own, at Alder."""


def planned(tenant: Any, **line: Any) -> dict[str, Any]:
    return window(tenant, SUMMER) | {"code": "new", "collects": [{"subject": "science", "scheme": "ks2-science-ta"} | line]}


def trespasses(n: Names) -> dict[str, tuple[str, Any]]:
    """Every way a body of a client of North can name what is another tenant's, by what it tries."""
    own = {"trust": {"groupUid": TRUSTS["North"]}}
    pupil_names = {"id": n.pupil, "upn": n.upn, "reference": n.reference}
    schools = {"urn": {"urn": n.urn}, "id": {"id": n.school}}
    tenants = {
        "uid": {"trust": {"groupUid": n.uid}},
        "trust id": {"trust": {"id": n.trust}},
        "school": {"school": {"id": n.school}},
    }
    tries: dict[str, tuple[str, Any]] = {
        "roll: a pupil's id": ("record_pupils", batch("Alder", [ENTRY | {"id": n.pupil}], asOf="2024-10-01")),
        "judgement: the window's id": ("record_judgements", batch("Alder", [HERE | JUDGED], window=n.window)),
        "judgement: the window's code": ("record_judgements", batch("Alder", [HERE | JUDGED], window=n.window_code)),
        "target: the scheme": ("record_targets", batch("Alder", [HERE | AIMED | {"scheme": n.scheme}])),
        "window: a collecting school": ("create_window", planned(own, schools=[{"id": n.school}])),
        "window: the scheme": ("create_window", planned(own, scheme=n.scheme)),
        "open": ("open_window", {"id": n.window}),
        "close": ("close_window", {"id": n.window}),
        "reopen": ("reopen_window", {"id": n.window}),
    }
    for how, school in schools.items():
        tries[f"roll: the school's {how}"] = ("record_pupils", {"school": school, "asOf": "2024-10-01", "entries": [ENTRY]})
        tries[f"roll: an entry's school's {how}"] = (
            "record_pupils",
            batch("Alder", [ENTRY | {"school": school}], asOf="2024-10-01"),
        )
        tries[f"judgement: the school's {how}"] = (
            "record_judgements",
            {"school": school, "window": AUTUMN, "entries": [HERE | JUDGED]},
        )
        tries[f"target: the school's {how}"] = ("record_targets", {"school": school, "entries": [HERE | AIMED]})
    for key, value in pupil_names.items():
        tries[f"judgement: a pupil's {key}"] = ("record_judgements", batch("Alder", [JUDGED | {key: value}], window=AUTUMN))
        tries[f"target: a pupil's {key}"] = ("record_targets", batch("Alder", [AIMED | {key: value}]))
    for how, tenant in tenants.items():
        tries[f"scheme: the {how}"] = ("create_scheme", {"tenant": tenant, "code": "new", "name": "New", "template": "effort"})
        tries[f"window: the {how}"] = ("create_window", planned(tenant))
    return tries


TRIES = list(trespasses(Names(0, "", "", 0, "", "", "", "", "", "")))
SMUGGLED = [tried for tried in TRIES if re.search("a pupil's|the window's|the scheme|collecting", tried)]
"""Those that name what is South's inside a batch or window of North's, which no reach makes right."""


@pytest_asyncio.fixture(scope="module")
async def named(two_trusts: TwoTrusts) -> tuple[Names, Names]:
    """What South alone has, and what nobody has."""
    ref = {"trust": {"groupUid": TRUSTS["South"]}}
    await two_trusts.do("South", "create_scheme", {"tenant": ref, "code": "souths", "name": "South's", "template": "effort"})
    opened = await two_trusts.do("South", "create_window", planned(ref) | {"code": "souths"})
    await two_trusts.do("South", "open_window", {"id": opened["id"]})
    rows = await two_trusts.rows(two_trusts.database, two_trusts.clients["South"].caller, RESOURCES["pupil"])
    pupil = next(row for row in rows if row["upn"] == upn("Damson", 0))
    souths = Names(
        urn=SCHOOLS["Damson"],
        school=str(two_trusts.schools["Damson"]),
        trust=str(two_trusts.tenants["South"]),
        uid=TRUSTS["South"],
        pupil=pupil["id"],
        upn=pupil["upn"],
        reference=pupil["reference"],
        window=opened["id"],
        window_code="souths",
        scheme="souths",
    )
    school, trust, nobody, never = (str(new_id(number)) for number in (3, 1, 4, 8))
    return souths, Names(199999, school, trust, 4999, nobody, upn("Damson", 99), "nobody", never, "nowhere", "nothing")


CLIENTS = {"North": TRIES, "guest": TRIES, "everything": SMUGGLED}
"""By client, what it may not do: the tenant's own client reaches nothing of South, the guest lacks the scopes there, and for the one that reaches
everything only the tenant of the batch is in the way."""


@pytest.mark.parametrize(("client", "tried"), [(client, tried) for client, tries in CLIENTS.items() for tried in tries])
async def test_a_command_that_names_what_is_anothers_writes_nothing_and_answers_as_if_it_were_absent(
    client: str, tried: str, two_trusts: TwoTrusts, named: tuple[Names, Names]
) -> None:
    answers = []
    before = await contents(two_trusts)
    for names in named:
        command, document = trespasses(names)[tried]
        with pytest.raises(DomainError) as refused:
            await two_trusts.do(client, command, document)
        issues = [structs.replace(issue, reference=None) for issue in refused.value.issues]  # the row's own, which it repeats
        answers.append((type(refused.value), refused.value.code, refused.value.detail, issues))
    assert answers[0] == answers[1]
    assert await contents(two_trusts) == before
    assert await two_trusts.as_superuser(_STRAY) == []


async def contents(two_trusts: TwoTrusts) -> dict[str, str]:
    """A fingerprint of every table."""
    names = [row["relname"] for row in await two_trusts.as_superuser(_TABLES)]
    (row,) = await two_trusts.as_superuser("SELECT " + ", ".join(f"({_HASH.format(name)}) AS {name}" for name in names))
    return dict(row)


_STRAY = """
SELECT id FROM receipts n WHERE NOT EXISTS (
    SELECT 1 FROM reach r WHERE r.client_id = n.client_id AND r.tenant_id = n.tenant_id AND r.school_id = n.school_id
)
"""
"""A batch that is refused leaves receipts, at schools its client reaches."""
_TABLES = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
    " AND relname <> 'receipts'"
)
_HASH = "SELECT md5(COALESCE(string_agg(t::text, '' ORDER BY t::text), '')) FROM {} t"
