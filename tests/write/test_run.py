"""perform: the data versions of what a command has locked are incremented whenever it has written, whatever the command itself does."""

from typing import Any
from uuid import UUID

import pytest

from domain.access.caller import Caller
from domain.assessment.open_close_window import WindowNow
from domain.assessment.record_judgements import JudgementsRecorded
from domain.declare.inputs import Input, Output
from domain.declare.scopes import Scope
from domain.roster.record_pupils.command import RecordedRoll
from domain.store.database import Connection
from domain.write.batch import Counts, Recorded
from domain.write.command import Command, command
from domain.write.locks import SchoolLocks
from domain.write.patch import Changed
from domain.write.run import perform
from tests.fixtures.two_trusts import TwoTrusts


class Ref(Input, kw_only=True):
    """A school, by its id and its tenant's."""

    tenant_id: str
    school_id: str
    outcome: str


@command(scope=Scope.SCHOOLS_WRITE)
async def touch_school(connection: Connection, caller: Caller, ref: Ref) -> Changed:
    """Locks a school and says what became of it, without a thought for its version."""
    locks = SchoolLocks(connection, UUID(ref.tenant_id))
    await locks.lock([UUID(ref.school_id)], [])
    return Changed(id=ref.school_id, outcome=ref.outcome, version=1)


@pytest.mark.parametrize(("outcome", "step"), [("updated", 1), ("deleted", 1), ("unchanged", 0)])
async def test_versions_are_incremented_when_something_was_written(two_trusts: TwoTrusts, outcome: str, step: int) -> None:
    tenant_id = two_trusts.tenants["North"]
    (school,) = await two_trusts.as_superuser(f"SELECT id FROM schools WHERE tenant_id = '{tenant_id}' ORDER BY id LIMIT 1")

    async def read_version() -> Any:
        ((version,),) = await two_trusts.as_superuser(f"SELECT version FROM school_versions WHERE school_id = '{school['id']}'")
        return version

    before = await read_version()
    ref = Ref(tenant_id=str(tenant_id), school_id=str(school["id"]), outcome=outcome)
    chosen: Command = touch_school
    await perform(two_trusts.database, chosen, two_trusts.clients["North"].caller, ref)
    assert await read_version() == before + step


@pytest.mark.parametrize(
    ("output", "has_written"),
    [
        (Recorded(received=2, unchanged=1, rejected=1), False),
        (Recorded(received=1, superseded=1), False),
        (Recorded(received=1, withdrawn=1), True),
        (RecordedRoll(received=1, unchanged=1), False),
        (RecordedRoll(received=1, unchanged=1, left=1), True),
        (JudgementsRecorded(received=1, unchanged=1, pupils=Counts(received=1, unchanged=1)), False),
        (JudgementsRecorded(received=1, unchanged=1, pupils=Counts(received=1, created=1)), True),
        (WindowNow(id="", code="", state="open", version=1), True),
    ],
)
def test_an_output_says_whether_something_was_written(output: Output, has_written: bool) -> None:
    assert output.has_written is has_written
