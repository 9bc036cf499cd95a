// What the journeys share: where the server is, who asks, and the class and subject of the developer's first hour.
export const { BASE_URL = '', CLIENT_ID = '', CLIENT_SECRET = '' } = process.env;
/** The code of a class of the demonstration. */
export const CLASS_CODE = '4A';
export const SUBJECT = 'reading';

/** A judgement of the subject, made now. */
export const judged = (grade: string) => ({ subject: SUBJECT, grade, actor: 'staff-42', recordedAt: new Date().toISOString() });

/** A grade of the demonstration's scheme that is not this one. */
export const another = (grade: string | null | undefined) => (grade === 'EXS' ? 'GDS' : 'EXS');

/** The value, which must be there. */
export function there<T>(value: T | null | undefined, what: string): T {
  if (value === null || value === undefined) throw new Error(`there is no ${what}`);
  return value;
}

export function equal(found: unknown, expected: unknown, what: string): void {
  if (found !== expected) throw new Error(`${what} is ${JSON.stringify(found)}, not ${JSON.stringify(expected)}`);
}

/** A token for the journeys whose client speaks GraphQL alone. */
export async function accessToken(): Promise<string> {
  const answer = await fetch(`${BASE_URL}/oauth/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`${CLIENT_ID}:${CLIENT_SECRET}`)}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  });
  return there((await answer.json()).access_token, 'access token');
}
