// The developer's first hour with @graphql-codegen/cli and its client preset.
import type { TypedDocumentNode } from '@graphql-typed-document-node/core';
import { print } from 'graphql';
import { graphql } from './generated/graphql-codegen';
import { BASE_URL, SUBJECT, CLASS_CODE, accessToken, another, equal, judged, there } from './hour';

const CLASS = graphql(`
  query Class($code: [String!]!) {
    schools(orderBy: [{ field: name }]) { nodes { id name } }
    windows(where: { state: ["open"] }) { nodes { code } }
    groups(first: 1, where: { kind: ["class"], code: $code }) {
      nodes {
        pupils(first: 5) {
          nodes {
            id
            school { id }
            latestJudgements { nodes { subjectCode grade } }
            currentTargets { nodes { subjectCode grade } }
          }
        }
      }
    }
  }
`);
const POST = graphql(`
  mutation Post($batch: JudgementBatchInput!) {
    recordJudgements(input: $batch, return: "representation") { created updated results { id } }
  }
`);
const SEE = graphql(`query See($id: ID!) { judgement(id: $id) { grade } }`);

interface Answer<Data> {
  data?: Data | null;
  errors?: { message: string; extensions?: { problem?: { issues?: { at: string; code: string; message: string }[] } } }[];
}

const authorization = `Bearer ${await accessToken()}`;
async function ask<Data, Variables>(document: TypedDocumentNode<Data, Variables>, variables: Variables): Promise<Answer<Data>> {
  const answer = await fetch(`${BASE_URL}/graphql`, {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/json', accept: 'application/graphql-response+json' },
    body: JSON.stringify({ query: print(document), variables }),
  });
  return answer.json();
}

const { data: found } = await ask(CLASS, { code: [CLASS_CODE] });
const window = there(found?.windows.nodes[0], 'open window').code;
const pupil = there(found?.groups.nodes[0]?.pupils.nodes[4], 'pupil');
const school = there(found?.schools.nodes.find((one) => one.id === pupil.school?.id), 'school').id;
const latest = there(pupil.latestJudgements.nodes.filter((judgement) => judgement.subjectCode === SUBJECT).at(-1), 'judgement');
there(pupil.currentTargets.nodes.find((target) => target.subjectCode === SUBJECT)?.grade, 'target');

const post = (grade: string) =>
  ask(POST, { batch: { school: { id: school }, window, entries: [{ id: pupil.id, ...judged(grade) }] } });
const { errors } = await post('no such grade');
equal(errors?.[0]?.extensions?.problem?.issues?.[0]?.code, 'grade-unknown', 'the code of the issue');
const grade = another(latest.grade);
const recorded = there((await post(grade)).data?.recordJudgements, 'answer');
equal(recorded.created + recorded.updated, 1, 'the count of rows written');

const { data: seen } = await ask(SEE, { id: there(recorded.results?.[0]?.id, 'result') });
equal(seen?.judgement?.grade, grade, 'the grade');
