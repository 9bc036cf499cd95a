SELECT x.r0 
FROM (SELECT set_config('markonce.caller', CAST($1::UUID AS TEXT), true) AS s
 LIMIT ALL OFFSET 0) AS c JOIN LATERAL (SELECT (SELECT '{"data":' || '[' || coalesce(string_agg('{"id":' || CAST(to_json(pupils_1p.id) AS TEXT) || ',"surname":' || coalesce(CAST(to_json(CASE WHEN ((EXISTS (SELECT 1 
FROM reach AS reach_1 
WHERE reach_1.client_id = $1::UUID AND reach_1.tenant_id = pupils_1p.tenant_id AND reach_1.school_id = pupils_1p.school_id AND reach_1.starts_at <= now() AND (reach_1.ends_at IS NULL OR reach_1.ends_at > now()) AND $2::VARCHAR = ANY (reach_1.scopes))) OR (EXISTS (SELECT 1 
FROM shared_pupils AS shared_pupils_1 
WHERE shared_pupils_1.tenant_id = pupils_1p.tenant_id AND shared_pupils_1.pupil_id = pupils_1p.id AND (EXISTS (SELECT 1 
FROM reach AS reach_2 
WHERE reach_2.client_id = $1::UUID AND reach_2.tenant_id = shared_pupils_1.tenant_id AND reach_2.school_id = shared_pupils_1.school_id AND reach_2.starts_at <= now() AND (reach_2.ends_at IS NULL OR reach_2.ends_at > now()) AND $3::VARCHAR = ANY (reach_2.scopes)))))) THEN pupils_1p.surname END) AS TEXT), $4::VARCHAR) || '}', ',' ORDER BY pupils_1p.n) FILTER (WHERE pupils_1p.n <= $5::INTEGER), $6::VARCHAR) || ']' || ',"page":' || '{"hasMore":' || CASE WHEN (count(*) > $5::INTEGER) THEN 'true' ELSE 'false' END || ',"endCursor":' || coalesce('"~' || $7::VARCHAR || '.0:' || (array_agg(pupils_1p.place ORDER BY pupils_1p.n DESC) FILTER (WHERE pupils_1p.n <= $5::INTEGER))[$8::INTEGER] || '~"', $9::VARCHAR) || '}' || '}' AS anon_1 
FROM (SELECT pupils_1.tenant_id AS tenant_id, pupils_1.id AS id, pupils_1.school_id AS school_id, pupils_1.upn AS upn, pupils_1.surname AS surname, pupils_1.forename AS forename, pupils_1.date_of_birth AS date_of_birth, pupils_1.sex AS sex, pupils_1.year_group AS year_group, pupils_1.version AS version, row_number() OVER (ORDER BY pupils_1.tenant_id ASC, pupils_1.id ASC) AS n, encode(convert_to(CAST(json_build_array(CAST(pupils_1.tenant_id AS TEXT), CAST(pupils_1.id AS TEXT)) AS TEXT), 'UTF8'), 'hex') AS place 
FROM pupils AS pupils_1 
WHERE (EXISTS (SELECT 1 
FROM reach AS reach_3 
WHERE reach_3.client_id = $1::UUID AND reach_3.tenant_id = pupils_1.tenant_id AND reach_3.school_id = pupils_1.school_id AND reach_3.starts_at <= now() AND (reach_3.ends_at IS NULL OR reach_3.ends_at > now()) AND $10::VARCHAR = ANY (reach_3.scopes))) OR (EXISTS (SELECT 1 
FROM shared_pupils AS shared_pupils_2 
WHERE shared_pupils_2.tenant_id = pupils_1.tenant_id AND shared_pupils_2.pupil_id = pupils_1.id AND (EXISTS (SELECT 1 
FROM reach AS reach_4 
WHERE reach_4.client_id = $1::UUID AND reach_4.tenant_id = shared_pupils_2.tenant_id AND reach_4.school_id = shared_pupils_2.school_id AND reach_4.starts_at <= now() AND (reach_4.ends_at IS NULL OR reach_4.ends_at > now()) AND $11::VARCHAR = ANY (reach_4.scopes))))) ORDER BY pupils_1.tenant_id ASC, pupils_1.id ASC 
 LIMIT $5::INTEGER + $12::INTEGER) AS pupils_1p 
HAVING count(*) >= 0) AS r0 
WHERE c.s IS NOT NULL
 LIMIT ALL OFFSET 0) AS x ON true
