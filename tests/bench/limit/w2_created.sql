SELECT nextval('created') - 1 AS at \gset
\set n :first + 1250 * (:at % :batches)
\set turn :at / :batches
INSERT INTO judgements AS j (tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no, school_id, scheme_version_no, grade_no,
    recorded_at, received_at, recorded_at_school_id, client_id)
SELECT p.tenant_id, w.academic_year, p.id, w.no, s.no, 0, p.school_id, x.scheme_version_no, 1, now(), now(), p.school_id, :client::uuid
FROM pupils p
JOIN windows w ON w.tenant_id = p.tenant_id AND w.no = 1000 + :turn::integer
JOIN subjects s ON s.tenant_id = p.tenant_id AND s.code IN ('reading', 'writing', 'maths', 'science')
JOIN pins x ON x.tenant_id = p.tenant_id AND x.window_no = w.no AND x.school_id = p.school_id AND x.subject_no = s.no AND x.aspect_no = 0
WHERE p.tenant_id = :tenant
    AND p.id >= ('0190f6a0-0000-7004-8000-' || lpad(to_hex(:n::bigint), 12, '0'))::uuid
    AND p.id < ('0190f6a0-0000-7004-8000-' || lpad(to_hex(:n::bigint + 1250), 12, '0'))::uuid
ORDER BY p.id, s.no;
