// The audits of GraphQL over HTTP by graphql-http, against the server named in BASE_URL with the token in TOKEN.
import { auditServer } from 'graphql-http';

const authorised = (url, options = {}) =>
  fetch(url, { ...options, headers: { ...options.headers, authorization: `Bearer ${process.env.TOKEN}` } });

// Decided: /graphql takes POST only, since a query in a URL could hold a name or a UPN.
const DECIDED = /GET/;

const results = await auditServer({ url: `${process.env.BASE_URL}/graphql`, fetchFn: authorised });
const counts = {};
let wrong = 0;
for (const result of results) {
  const decided = result.status !== 'ok' && DECIDED.test(result.name);
  const kind = decided ? 'decided otherwise' : result.status;
  counts[kind] = (counts[kind] ?? 0) + 1;
  if (result.status !== 'ok') console.log(`${kind}: ${result.id} ${result.name}${result.reason ? `: ${result.reason}` : ''}`);
  if (!decided && ['error', 'warn'].includes(result.status)) wrong += 1;
}
console.log(`graphql-http: ${results.length} audits: ${JSON.stringify(counts)}`);
process.exit(wrong ? 1 : 0);
