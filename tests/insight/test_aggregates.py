from tests.insight.conftest import *
async def test_x(world: World) -> None:
    caller = await world.caller(("Hedgerow", INTERNAL), ("Meadow", INTERNAL))
    for row in await world.rows(caller, groupBy="school,subject", window=KS2):
        print(row.school_name, row.subject, row.eligible, row.valid, row.expected_percent, row.average, row.status)
    caller = await world.caller(("Hedgerow", READ), ("Meadow", READ))
    for row in await world.rows(caller, groupBy="school,sex", window=KS2, subject="reading"):
        print(row.school_name, row.subject, row.sex, row.eligible, row.valid, row.expected_percent, row.average, row.status)
