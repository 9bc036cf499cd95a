// The developer's first hour with openapi-typescript and openapi-fetch.
import createClient from 'openapi-fetch';
import type { paths } from './generated/openapi-typescript';
import { BASE_URL, CLIENT_ID, CLIENT_SECRET, SUBJECT, CLASS_CODE, another, equal, judged, there } from './hour';

// A list can be CSV too: this says that it is read as JSON.
const client = createClient<paths, `application/${string}`>({ baseUrl: BASE_URL });

const { data: token } = await client.POST('/oauth/token', {
  body: { grant_type: 'client_credentials', client_id: CLIENT_ID, client_secret: CLIENT_SECRET },
  headers: { 'content-type': 'application/x-www-form-urlencoded' },
});
client.use({
  onRequest: ({ request }) => request.headers.set('authorization', `Bearer ${there(token, 'token').access_token}`),
});

const { data: schools } = await client.GET('/v1/schools', { params: { query: { fields: ['id', 'name'], sort: ['name'] } } });
const { data: windows } = await client.GET('/v1/windows', { params: { query: { state: ['open'] } } });
const { data: classes } = await client.GET('/v1/groups', { params: { query: { kind: ['class'], code: [CLASS_CODE] } } });
const { data: pupils } = await client.GET('/v1/groups/{id}/pupils', {
  params: {
    path: { id: there(classes?.data[0]?.id, 'class') },
    query: { include: ['school', 'latestJudgements', 'currentTargets'] },
  },
});
const window = there(windows?.data[0]?.code, 'open window');
const pupil = there(pupils?.data[0], 'pupil');
const id = there(pupil.id, 'id');
const school = there(schools?.data.find((one) => one.id === pupil.school?.id)?.id, 'school');
const latest = there(pupil.latestJudgements?.data.filter((judgement) => judgement.subjectCode === SUBJECT).at(-1), 'judgement');
there(pupil.currentTargets?.data.find((target) => target.subjectCode === SUBJECT)?.grade, 'target');

const post = (grade: string) =>
  client.POST('/v1/judgements', {
    params: { header: { Prefer: 'return=representation' } },
    body: { school: { id: school }, window, entries: [{ id, ...judged(grade) }] },
  });
const { error } = await post('no such grade');
equal(error?.issues?.[0]?.code, 'grade-unknown', 'the code of the issue');
const grade = another(latest.grade);
const { data } = await post(grade);
const recorded = data && 'results' in data ? data : undefined; // a stream may become a job instead, which has none
equal(recorded && recorded.created + recorded.updated, 1, 'the count of rows written');

const { data: seen } = await client.GET('/v1/judgements/{id}', { params: { path: { id: there(recorded?.results?.[0]?.id, 'result') } } });
equal(seen?.grade, grade, 'the grade');
