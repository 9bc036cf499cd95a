\set n :first + random(0, :pupils - 51)
SELECT json_agg(json_build_object(
    'id', p.id, 'forename', p.forename, 'surname', p.surname, 'yearGroup', p.year_group,
    'judgements', (
        SELECT json_agg(json_build_object(
            'grade', g.code, 'recordedAt', j.recorded_at,
            'subject', json_build_object('name', s.name), 'window', json_build_object('name', w.name)))
        FROM (
            SELECT * FROM judgements j WHERE j.tenant_id = :tenant AND j.pupil_id = p.id
            ORDER BY j.academic_year, j.window_no, j.subject_no, j.aspect_no LIMIT 15
        ) j
        JOIN subjects s ON s.tenant_id = :tenant AND s.no = j.subject_no
        JOIN windows w ON w.tenant_id = :tenant AND w.no = j.window_no
        LEFT JOIN grades g ON g.tenant_id = :tenant AND g.scheme_version_no = j.scheme_version_no AND g.no = j.grade_no
    )))
FROM (
    SELECT * FROM pupils
    WHERE tenant_id = :tenant AND id > ('0190f6a0-0000-7004-8000-' || lpad(to_hex(:n::bigint), 12, '0'))::uuid
    ORDER BY id LIMIT 50
) p;
