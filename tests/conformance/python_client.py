"""The developer's first hour with openapi-python-client."""

import os
from datetime import UTC, datetime

from markonce_client import AuthenticatedClient, Client
from markonce_client.api.assessment import get_judgement, list_windows, record_judgements
from markonce_client.api.authentication import issue_token
from markonce_client.api.roster import list_groups, list_pupils_of_group, list_schools
from markonce_client.models import (
    JudgementBatch,
    JudgementEntry,
    JudgementsRecorded,
    Problem,
    PupilLink,
    SchoolField,
    SchoolRef,
    SchoolSort,
    TokenRequest,
    TokenRequestGrantType,
)

base_url = os.environ["BASE_URL"]
asked = TokenRequest(
    grant_type=TokenRequestGrantType.CLIENT_CREDENTIALS,
    client_id=os.environ["CLIENT_ID"],
    client_secret=os.environ["CLIENT_SECRET"],
)
token = issue_token.sync(client=Client(base_url=base_url), body=asked)
client = AuthenticatedClient(base_url=base_url, token=token.access_token)

schools = list_schools.sync(client=client, fields=[SchoolField.ID, SchoolField.NAME], sort=[SchoolSort.NAME_DESC])
(window,) = list_windows.sync(client=client, state=["open"]).data
group, *_ = list_groups.sync(client=client, kind=["class"], code=["4A"]).data
links = [PupilLink.SCHOOL, PupilLink.LATEST_JUDGEMENTS, PupilLink.CURRENT_TARGETS]
pupils = list_pupils_of_group.sync(group.id, client=client, include=links)
pupil = pupils.data[2]
(school,) = [school for school in schools.data if school.id == pupil.school.id]
*_, latest = (judgement for judgement in pupil.latest_judgements.data if judgement.subject_code == "reading")
assert any(target.subject_code == "reading" and target.grade for target in pupil.current_targets.data)


def post(grade: str) -> JudgementsRecorded | Problem | None:
    entry = JudgementEntry(id=pupil.id, subject="reading", grade=grade, actor="staff-42", recorded_at=datetime.now(UTC))
    batch = JudgementBatch(school=SchoolRef(id=school.id), window=window.code, entries=[entry])
    return record_judgements.sync(client=client, body=batch, prefer="return=representation")


grade = "GDS" if latest.grade == "EXS" else "EXS"
problem, recorded = post("no such grade"), post(grade)
assert isinstance(problem, Problem), problem
assert problem.issues[0].code == "grade-unknown", problem
assert isinstance(recorded, JudgementsRecorded), recorded
assert recorded.created + recorded.updated == 1, recorded

seen = get_judgement.sync(client=client, id=recorded.results[0].id)
assert seen.grade == grade, seen
