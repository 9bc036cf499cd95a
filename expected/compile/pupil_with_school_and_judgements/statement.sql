SELECT x.r0
FROM (SELECT set_config('markonce.caller', CAST($1::UUID AS TEXT), true) AS s LIMIT ALL OFFSET 0) AS c
  JOIN LATERAL (
    SELECT (
      SELECT '{"id":"'
        || CAST(pupils1.id AS TEXT)
        || '","school":'
        || coalesce(
          (
            SELECT '{"name":' || CAST(to_json(schools2.name) AS TEXT) || '}' AS anon_2
            FROM schools AS schools2
            WHERE schools2.id = pupils1.school_id
              AND (
                (EXISTS (
                  SELECT 1
                  FROM reach AS reach_1
                  WHERE reach_1.client_id = $1::UUID
                    AND reach_1.school_id = schools2.id
                    AND reach_1.starts_at <= now()
                    AND (reach_1.ends_at IS NULL OR reach_1.ends_at > now())
                    AND 'schools:read' = ANY (reach_1.scopes)
                ))
                  OR (EXISTS (
                    SELECT 1
                    FROM reach AS reach_2
                    WHERE reach_2.client_id = $1::UUID
                      AND reach_2.tenant_id = '00000000-0000-0000-0000-000000000000'::uuid
                      AND reach_2.starts_at <= now()
                      AND (reach_2.ends_at IS NULL OR reach_2.ends_at > now())
                      AND 'schools:read' = ANY (reach_2.scopes)
                  ))
              )
            LIMIT 1
          ),
          'null'
        )
        || ',"judgements":'
        || (
          SELECT '{"data":['
            || coalesce(
              string_agg(
                '{"grade":'
                  || coalesce(
                    CAST(
                      to_json((
                        SELECT scheme_grades_1.code
                        FROM scheme_grades AS scheme_grades_1
                        WHERE scheme_grades_1.tenant_id = judgements3p.tenant_id
                          AND scheme_grades_1.scheme_version_no = judgements3p.scheme_version_no
                          AND scheme_grades_1.no = judgements3p.grade_no
                      )) AS TEXT
                    ),
                    'null'
                  )
                  || ',"window":'
                  || coalesce(
                    (
                      SELECT '{"code":' || CAST(to_json(windows4.code) AS TEXT) || '}' AS anon_4
                      FROM windows AS windows4
                      WHERE windows4.tenant_id = judgements3p.tenant_id
                        AND windows4.no = judgements3p.window_no
                        AND (EXISTS (
                          SELECT 1
                          FROM reach AS reach_3
                          WHERE reach_3.client_id = $1::UUID
                            AND reach_3.tenant_id = windows4.tenant_id
                            AND reach_3.starts_at <= now()
                            AND (reach_3.ends_at IS NULL OR reach_3.ends_at > now())
                            AND 'windows:read' = ANY (reach_3.scopes)
                        ))
                      LIMIT 1
                    ),
                    'null'
                  )
                  || '}',
                ','
                ORDER BY judgements3p.tenant_id ASC,
                  judgements3p.academic_year ASC,
                  judgements3p.pupil_id ASC,
                  judgements3p.window_no ASC,
                  judgements3p.subject_no ASC,
                  judgements3p.aspect_no ASC
              )
                FILTER (WHERE judgements3p.row_no <= $2::INTEGER),
              ''
            )
            || ']'
            || coalesce(
              E'\x01#judgements|'
                || CAST(
                  array_agg(judgements3p.tenant_id) FILTER (WHERE judgements3p.row_no <= $2::INTEGER) AS TEXT
                )
                || '|'
                || CAST(
                  array_agg(judgements3p.recorded_at_school_id)
                    FILTER (WHERE judgements3p.row_no <= $2::INTEGER) AS TEXT
                )
                || '|'
                || CAST(
                  array_agg(
                    CAST(judgements3p.window_no AS BIGINT) * 4294967296 + judgements3p.subject_no * 65536 + judgements3p.aspect_no
                  )
                    FILTER (WHERE judgements3p.row_no <= $2::INTEGER) AS TEXT
                )
                || E'\x01',
              ''
            )
            || ',"page":{"hasMore":'
            || CASE WHEN (count(*) > $2::INTEGER) THEN 'true' ELSE 'false' END
            || ',"endCursor":'
            || coalesce(
              max(
                E'\x01~0:'
                  || encode(
                    convert_to(
                      CAST(
                        json_build_array(
                          CAST(judgements3p.tenant_id AS TEXT),
                          CAST(judgements3p.academic_year AS TEXT),
                          CAST(judgements3p.pupil_id AS TEXT),
                          CAST(judgements3p.window_no AS TEXT),
                          CAST(judgements3p.subject_no AS TEXT),
                          CAST(judgements3p.aspect_no AS TEXT)
                        ) AS TEXT
                      ),
                      'UTF8'
                    ),
                    'hex'
                  )
                  || E'\x01'
              )
                FILTER (
                  WHERE judgements3p.row_no <= $2::INTEGER
                    AND (judgements3p.row_no = $2::INTEGER OR judgements3p.is_last)
                ),
              'null'
            )
            || '}}' AS anon_3
          FROM (
            SELECT judgements3.tenant_id AS tenant_id,
              judgements3.academic_year AS academic_year,
              judgements3.pupil_id AS pupil_id,
              judgements3.window_no AS window_no,
              judgements3.subject_no AS subject_no,
              judgements3.aspect_no AS aspect_no,
              judgements3.scheme_version_no AS scheme_version_no,
              judgements3.grade_no AS grade_no,
              judgements3.recorded_at_school_id AS recorded_at_school_id,
              row_number()
                OVER (
                  ORDER BY judgements3.tenant_id ASC,
                    judgements3.academic_year ASC,
                    judgements3.pupil_id ASC,
                    judgements3.window_no ASC,
                    judgements3.subject_no ASC,
                    judgements3.aspect_no ASC
                ) AS row_no,
              lead(1)
                OVER (
                  ORDER BY judgements3.tenant_id ASC,
                    judgements3.academic_year ASC,
                    judgements3.pupil_id ASC,
                    judgements3.window_no ASC,
                    judgements3.subject_no ASC,
                    judgements3.aspect_no ASC
                ) IS NULL AS is_last
            FROM judgements AS judgements3
            WHERE judgements3.tenant_id = pupils1.tenant_id
              AND judgements3.pupil_id = pupils1.id
              AND (
                (EXISTS (
                  SELECT 1
                  FROM reach AS reach_4
                  WHERE reach_4.client_id = $1::UUID
                    AND reach_4.tenant_id = judgements3.tenant_id
                    AND reach_4.school_id = judgements3.school_id
                    AND reach_4.starts_at <= now()
                    AND (reach_4.ends_at IS NULL OR reach_4.ends_at > now())
                    AND 'judgements:read' = ANY (reach_4.scopes)
                ))
                  OR (EXISTS (
                    SELECT 1
                    FROM shared_pupils AS shared_pupils_1
                    WHERE shared_pupils_1.tenant_id = judgements3.tenant_id
                      AND shared_pupils_1.pupil_id = judgements3.pupil_id
                      AND (EXISTS (
                        SELECT 1
                        FROM reach AS reach_5
                        WHERE reach_5.client_id = $1::UUID
                          AND reach_5.tenant_id = judgements3.tenant_id
                          AND reach_5.school_id = shared_pupils_1.school_id
                          AND reach_5.starts_at <= now()
                          AND (reach_5.ends_at IS NULL OR reach_5.ends_at > now())
                          AND 'judgements:read' = ANY (reach_5.scopes)
                      ))
                  ))
              )
            ORDER BY judgements3.tenant_id ASC,
              judgements3.academic_year ASC,
              judgements3.pupil_id ASC,
              judgements3.window_no ASC,
              judgements3.subject_no ASC,
              judgements3.aspect_no ASC
            LIMIT $2::INTEGER + 1
          ) AS judgements3p
          HAVING count(*) >= 0
        )
        || '}' AS anon_1
      FROM pupils AS pupils1
      WHERE pupils1.id = $3::UUID
        AND (
          (EXISTS (
            SELECT 1
            FROM reach AS reach_6
            WHERE reach_6.client_id = $1::UUID
              AND reach_6.tenant_id = pupils1.tenant_id
              AND reach_6.school_id = pupils1.school_id
              AND reach_6.starts_at <= now()
              AND (reach_6.ends_at IS NULL OR reach_6.ends_at > now())
              AND 'pupils:read' = ANY (reach_6.scopes)
          ))
            OR (EXISTS (
              SELECT 1
              FROM shared_pupils AS shared_pupils_2
              WHERE shared_pupils_2.tenant_id = pupils1.tenant_id
                AND shared_pupils_2.pupil_id = pupils1.id
                AND (EXISTS (
                  SELECT 1
                  FROM reach AS reach_7
                  WHERE reach_7.client_id = $1::UUID
                    AND reach_7.tenant_id = pupils1.tenant_id
                    AND reach_7.school_id = shared_pupils_2.school_id
                    AND reach_7.starts_at <= now()
                    AND (reach_7.ends_at IS NULL OR reach_7.ends_at > now())
                    AND 'pupils:read' = ANY (reach_7.scopes)
                ))
            ))
        )
      LIMIT 1
    ) AS r0
    WHERE c.s IS NOT NULL
    LIMIT ALL OFFSET 0
  ) AS x ON true
