"""What stops each school of a trust from being aggregated today, and who can mend it: counts only, of schools where the client holds
aggregates:internal.
"""

from typing import Annotated, Any, Literal

import msgspec

from domain.access.caller import Caller
from domain.access.reach import set_caller_first
from domain.aggregates.aggregate_rows import AggregateScale
from domain.declare.errors import NotFound
from domain.declare.ids import parse_id
from domain.declare.inputs import Output, describe
from domain.declare.scopes import Scope
from domain.store.database import Database
from domain.support import clock

ObstacleCode = Literal[
    "nobody-on-roll", "not-collected", "nothing-judged", "no-standard", "standard-later", "no-crosswalk", "not-mapped"
]
Mender = Literal["school", "trust"]
_MENDERS: dict[ObstacleCode, tuple[Mender, Scope]] = {
    "nobody-on-roll": ("school", Scope.PUPILS_WRITE),
    "not-collected": ("trust", Scope.WINDOWS_WRITE),
    "nothing-judged": ("school", Scope.JUDGEMENTS_WRITE),
    "no-standard": ("trust", Scope.SCHEMES_WRITE),
    "standard-later": ("trust", Scope.SCHEMES_WRITE),
    "no-crosswalk": ("trust", Scope.SCHEMES_WRITE),
    "not-mapped": ("trust", Scope.SCHEMES_WRITE),
}


class Obstacle(Output, kw_only=True):
    """What stops a school from being aggregated, or some of its values, over the open and closed windows of this academic year.

    nobody-on-roll: no roll says who is there today; not-collected: no window has collected anything from it; nothing-judged: no value was
    recorded; no-standard: no grade of the scheme says whether it is expected; standard-later: a later version of it will;
    no-crosswalk: no signed crosswalk maps it to the common scale; not-mapped: the crosswalk maps some of its grades to no band.
    """

    code: Annotated[ObstacleCode, describe("What it is.")]
    mender: Annotated[Mender, describe("Who can mend it: the school, or its trust.")]
    scope: Annotated[str, describe("The scope that mending it needs.")]
    scheme: Annotated[str | None, describe("The scheme's code, where it is about one.")]
    scheme_version: Annotated[int | None, describe("The version of the scheme.")]
    judged: Annotated[int, describe("How many values it keeps out of percentages.")]


class ReadySchool(Output, kw_only=True):
    """A school, and what stops it from being aggregated today; `ready` where nothing does."""

    school_id: str
    school_urn: int
    school_name: str
    ready: bool
    judged: Annotated[int, describe("How many values were recorded this academic year, in subjects that count.")]
    obstacles: list[Obstacle]


class TrustReadiness(Output, kw_only=True):
    """For every school of a trust where the client holds aggregates:internal, what stops it from being aggregated today, and who can
    mend it. Counts only, over the windows of this academic year that have opened."""

    trust_id: str
    on: Annotated[str, describe("The day: today.")]
    scale: Annotated[AggregateScale | None, describe("The common scale in force; null where none is.")]
    schools: list[ReadySchool]


_READ = set_caller_first("""
    SELECT (SELECT json_agg(json_build_object('schoolId', s.id, 'schoolUrn', s.urn, 'schoolName', s.name, 'judged', r.judged, 'code', r.obstacle,
        'scheme', r.scheme, 'schemeVersion', r.scheme_version, 'keptOut', r.kept_out) ORDER BY s.urn, r.obstacle, r.scheme, r.scheme_version)
        FROM count_readiness($2, $3, $4, $5) r JOIN schools s ON s.id = r.school_id)::text AS schools,
    (SELECT json_build_object('id', k.id, 'name', k.name, 'expectedLabel', k.expected_label, 'higherLabel', k.higher_label)
        FROM common_scales k WHERE k.tenant_id = $2 AND k.id = find_scale($2, $4))::text AS scale
    WHERE c.s IS NOT NULL OFFSET 0
""")


class _Row(msgspec.Struct, rename="camel"):
    school_id: str
    school_urn: int
    school_name: str
    judged: int
    code: ObstacleCode | None
    scheme: str | None
    scheme_version: int | None
    kept_out: int


async def read_readiness(database: Database, caller: Caller, trust: str) -> TrustReadiness:
    """Returns what stops the schools of a trust, which is named by its id; a school that has no trust by its own.

    Raises Forbidden without aggregates:internal, NotFound where it is held at none of its schools.
    """
    caller.require_scope(Scope.AGGREGATES_INTERNAL, "readiness")
    trust_id = parse_id(trust)
    if trust_id is None:
        raise NotFound()
    now = clock.read_now()
    today = clock.find_day(now)
    found: Any = await database.read(_READ, caller.client_id, trust_id, clock.find_start_year(today), today, now)
    if found["schools"] is None:
        raise NotFound()
    schools: dict[str, ReadySchool] = {}
    for row in msgspec.json.decode(found["schools"], type=list[_Row]):
        school = schools.setdefault(
            row.school_id,
            ReadySchool(
                school_id=row.school_id,
                school_urn=row.school_urn,
                school_name=row.school_name,
                ready=True,
                judged=row.judged,
                obstacles=[],
            ),
        )
        if row.code is not None:
            school.ready = False
            school.obstacles.append(_describe_obstacle(row, row.code))
    scale = None if found["scale"] is None else msgspec.json.decode(found["scale"], type=AggregateScale)
    return TrustReadiness(trust_id=str(trust_id), on=str(today), scale=scale, schools=[*schools.values()])


def _describe_obstacle(row: _Row, code: ObstacleCode) -> Obstacle:
    mender, scope = _MENDERS[code]
    return Obstacle(
        code=code, mender=mender, scope=scope, scheme=row.scheme, scheme_version=row.scheme_version, judged=row.kept_out
    )
