// The developer's first hour with @hey-api/openapi-ts.
import { getJudgement, issueToken, listGroups, listPupilsOfGroup, listSchools, listWindows, recordJudgements } from './generated/hey-api';
import { client } from './generated/hey-api/client.gen';
import { BASE_URL, CLIENT_ID, CLIENT_SECRET, SUBJECT, CLASS_CODE, another, equal, judged, there } from './hour';

client.setConfig({ baseUrl: BASE_URL });
const { data: token } = await issueToken({
  body: { grant_type: 'client_credentials', client_id: CLIENT_ID, client_secret: CLIENT_SECRET },
});
client.setConfig({ auth: there(token, 'token').access_token });

const { data: schools } = await listSchools({ query: { fields: ['id', 'name'], sort: ['name'] } });
const { data: windows } = await listWindows({ query: { state: ['open'] } });
const { data: classes } = await listGroups({ query: { kind: ['class'], code: [CLASS_CODE] } });
const { data: pupils } = await listPupilsOfGroup({
  path: { id: there(classes?.data[0]?.id, 'class') },
  query: { include: ['school', 'latestJudgements', 'currentTargets'] },
});
const window = there(windows?.data[0]?.code, 'open window');
const pupil = there(pupils?.data[1], 'pupil');
const id = there(pupil.id, 'id');
const school = there(schools?.data.find((one) => one.id === pupil.school?.id)?.id, 'school');
const latest = there(pupil.latestJudgements?.data.filter((judgement) => judgement.subjectCode === SUBJECT).at(-1), 'judgement');
there(pupil.currentTargets?.data.find((target) => target.subjectCode === SUBJECT)?.grade, 'target');

const post = (grade: string) =>
  recordJudgements({
    headers: { Prefer: 'return=representation' },
    body: { school: { id: school }, window, entries: [{ id, ...judged(grade) }] },
  });
const { error } = await post('no such grade');
equal(error?.issues?.[0]?.code, 'grade-unknown', 'the code of the issue');
const grade = another(latest.grade);
const { data } = await post(grade);
const recorded = data && 'results' in data ? data : undefined; // a stream may become a job instead, which has none
equal(recorded && recorded.created + recorded.updated, 1, 'the count of rows written');

const { data: seen } = await getJudgement({ path: { id: there(recorded?.results?.[0]?.id, 'result') } });
equal(seen?.grade, grade, 'the grade');
