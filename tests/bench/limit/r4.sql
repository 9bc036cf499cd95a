WITH counted AS (
    SELECT e.school_id, w.no AS window_no, p.subject_no, e.pupil_id,
        COALESCE(g.eligible, true) AS eligible, COALESCE(g.valid, false) AS valid, COALESCE(g.expected, false) AS expected, COALESCE(g.higher, false) AS higher
    FROM windows w
    JOIN enrolments e ON e.tenant_id = w.tenant_id AND e.status IN ('C', 'M') AND e.from_on <= w.census_on AND COALESCE(e.to_on, 'infinity') >= w.census_on
    JOIN pins p ON p.tenant_id = w.tenant_id AND p.window_no = w.no AND p.school_id = e.school_id AND p.aspect_no = 0
    LEFT JOIN judgements j ON j.tenant_id = w.tenant_id AND j.academic_year = w.academic_year AND j.pupil_id = e.pupil_id
        AND j.window_no = w.no AND j.subject_no = p.subject_no AND j.aspect_no = 0
    LEFT JOIN grades g ON g.tenant_id = w.tenant_id AND g.scheme_version_no = j.scheme_version_no AND g.no = j.grade_no
    WHERE w.tenant_id = :tenant AND w.state <> 'planned'
), subject_or_combined AS (
    SELECT school_id, window_no, subject_no, eligible, valid, expected, higher FROM counted
    UNION ALL
    SELECT school_id, window_no, (SELECT no FROM subjects WHERE tenant_id = :tenant AND code = 'rwm'),
        bool_and(eligible), bool_and(valid), bool_and(expected), bool_and(higher)
    FROM counted
    WHERE subject_no IN (SELECT no FROM subjects WHERE tenant_id = :tenant AND code IN ('reading', 'writing', 'maths'))
    GROUP BY school_id, window_no, pupil_id HAVING count(*) = 3
), grouped AS (
    SELECT school_id, subject_no, window_no, count(*) FILTER (WHERE eligible) AS eligible, count(*) FILTER (WHERE valid) AS valid,
        count(*) FILTER (WHERE expected) AS expected, count(*) FILTER (WHERE higher) AS higher
    FROM subject_or_combined GROUP BY school_id, subject_no, window_no
)
SELECT json_agg(json_build_object(
    'schoolUrn', c.urn, 'subject', s.code, 'window', w.code, 'eligible', t.eligible, 'valid', t.valid, 'expected', t.expected, 'higher', t.higher))
FROM grouped t
JOIN schools c ON c.id = t.school_id
JOIN subjects s ON s.tenant_id = :tenant AND s.no = t.subject_no
JOIN windows w ON w.tenant_id = :tenant AND w.no = t.window_no;
