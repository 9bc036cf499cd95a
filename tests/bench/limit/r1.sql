\set n :first + random(0, :pupils - 1)
SELECT json_build_object(
    'id', p.id, 'forename', p.forename, 'surname', p.surname, 'sex', p.sex, 'yearGroup', p.year_group,
    'latestJudgements', (
        SELECT json_agg(json_build_object(
            'subjectCode', s.code, 'windowCode', l.window_code, 'grade', g.code, 'expected', g.expected, 'recordedAt', l.recorded_at))
        FROM (
            SELECT DISTINCT ON (j.subject_no, j.aspect_no) j.*, w.code AS window_code
            FROM judgements j JOIN windows w ON w.tenant_id = j.tenant_id AND w.no = j.window_no
            WHERE j.tenant_id = :tenant AND j.pupil_id = p.id AND j.grade_no IS NOT NULL
            ORDER BY j.subject_no, j.aspect_no, w.census_on DESC, w.no DESC
        ) l
        JOIN subjects s ON s.tenant_id = :tenant AND s.no = l.subject_no
        JOIN grades g ON g.tenant_id = :tenant AND g.scheme_version_no = l.scheme_version_no AND g.no = l.grade_no
    ),
    'currentTargets', (
        SELECT json_agg(json_build_object(
            'subjectCode', s.code, 'horizonPoint', t.horizon_point, 'grade', g.code, 'basis', t.basis, 'recordedAt', t.recorded_at))
        FROM (
            SELECT t.*, rank() OVER (PARTITION BY t.subject_no, t.aspect_no ORDER BY t.horizon_year) AS nearness
            FROM targets t
            WHERE t.tenant_id = :tenant AND t.pupil_id = p.id
                AND t.horizon_year >= extract(year FROM (now() AT TIME ZONE 'Europe/London') - interval '8 months')
        ) t
        JOIN subjects s ON s.tenant_id = :tenant AND s.no = t.subject_no
        JOIN grades g ON g.tenant_id = :tenant AND g.scheme_version_no = t.scheme_version_no AND g.no = t.grade_no
        WHERE t.nearness = 1
    )
)
FROM pupils p
WHERE p.tenant_id = :tenant AND p.id = ('0190f6a0-0000-7004-8000-' || lpad(to_hex(:n::bigint), 12, '0'))::uuid;
