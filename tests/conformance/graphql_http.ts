// The audits of GraphQL over HTTP by graphql-http.
import { auditServer } from 'graphql-http';
import { BASE_URL, accessToken } from './hour';

const authorization = `Bearer ${await accessToken()}`;
const authorised = (url: string, options: RequestInit = {}) => fetch(url, { ...options, headers: { ...options.headers, authorization } });

// Decided: /graphql takes POST only, since a query in a URL could hold a name or a UPN.
const DECIDED = /GET/;

const results = await auditServer({ url: `${BASE_URL}/graphql`, fetchFn: authorised });
const counts: Record<string, number> = {};
let wrong = 0;
for (const result of results) {
  const decided = result.status !== 'ok' && DECIDED.test(result.name);
  const kind = decided ? 'decided otherwise' : result.status;
  counts[kind] = (counts[kind] ?? 0) + 1;
  if (result.status !== 'ok') console.log(`${kind}: ${result.id} ${result.name}: ${result.reason}`);
  if (!decided && ['error', 'warn'].includes(result.status)) wrong += 1;
}
console.log(`${results.length} audits: ${JSON.stringify(counts)}`);
process.exit(wrong ? 1 : 0);
