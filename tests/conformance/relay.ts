// The developer's first hour with relay-compiler and relay-runtime. What babel-plugin-relay does in a bundle, the imports of artifacts do here.
import { Environment, Network, RecordSource, Store, commitMutation, fetchQuery, type GraphQLResponse, type GraphQLTaggedNode } from 'relay-runtime';
import type { relayClassQuery } from './generated/relay/relayClassQuery.graphql';
import classQuery from './generated/relay/relayClassQuery.graphql';
import type { relayPostMutation, relayPostMutation$data } from './generated/relay/relayPostMutation.graphql';
import postMutation from './generated/relay/relayPostMutation.graphql';
import type { relaySeeQuery } from './generated/relay/relaySeeQuery.graphql';
import seeQuery from './generated/relay/relaySeeQuery.graphql';
import { BASE_URL, SUBJECT, CLASS_CODE, accessToken, another, equal, judged, there } from './hour';

const graphql = (_document: TemplateStringsArray) => undefined;

graphql`
  query relayClassQuery($code: [String!]!, $after: String) {
    schools(orderBy: [{ field: name }]) { edges { node { id name } } }
    windows(where: { state: ["open"] }) { edges { node { code } } }
    groups(first: 1, where: { kind: ["class"], code: $code }) {
      edges {
        node {
          pupils(first: 6, after: $after) @connection(key: "relayClass_pupils") {
            edges {
              node {
                id
                school { id }
                latestJudgements { edges { node { subjectCode grade } } }
                currentTargets { edges { node { subjectCode grade } } }
              }
            }
          }
        }
      }
    }
  }
`;
// Relay keeps what has an `id` under it. A result is not the row it names, so that its `id` goes by another name.
graphql`
  mutation relayPostMutation($batch: JudgementBatchInput!) {
    recordJudgements(input: $batch, return: "representation") { created updated results { row: id } }
  }
`;
graphql`
  query relaySeeQuery($id: ID!) {
    node(id: $id) { ... on Judgement { grade } }
  }
`;

const authorization = `Bearer ${await accessToken()}`;
const network = Network.create(async ({ text }, variables): Promise<GraphQLResponse> => {
  const answer = await fetch(`${BASE_URL}/graphql`, {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/json' },
    body: JSON.stringify({ query: text, variables }),
  });
  return answer.json();
});
const environment = new Environment({ network, store: new Store(new RecordSource()) });

const found = await fetchQuery<relayClassQuery>(environment, classQuery, { code: [CLASS_CODE] }).toPromise();
const window = there(found?.windows.edges[0], 'open window').node.code;
const pupil = there(found?.groups.edges[0]?.node.pupils.edges[5], 'pupil').node;
const school = there(found?.schools.edges.find(({ node }) => node.id === pupil.school?.id), 'school').node.id;
const latest = there(pupil.latestJudgements.edges.filter(({ node }) => node.subjectCode === SUBJECT).at(-1), 'judgement').node;
there(pupil.currentTargets.edges.find(({ node }) => node.subjectCode === SUBJECT)?.node.grade, 'target');

const post = (grade: string) =>
  new Promise<relayPostMutation$data>((resolve, reject) =>
    commitMutation<relayPostMutation>(environment, {
      mutation: postMutation as GraphQLTaggedNode,
      variables: { batch: { school: { id: school }, window, entries: [{ id: pupil.id, ...judged(grade) }] } },
      onCompleted: (data, errors) => (errors?.length ? reject(new Error(errors[0]?.message)) : resolve(data)),
      onError: reject,
    }),
  );
const refusal = await post('no such grade').then(() => 'none', (error: Error) => error.message);
equal(refusal, '1 issue; each names its place.', 'the refusal');
const grade = another(latest.grade);
const recorded = there((await post(grade)).recordJudgements, 'answer');
equal(recorded.created + recorded.updated, 1, 'the count of rows written');

const seen = await fetchQuery<relaySeeQuery>(environment, seeQuery, { id: there(recorded.results?.[0]?.row, 'result') }).toPromise();
equal(seen?.node?.grade, grade, 'the grade');
