SELECT x.r0, x.snapshot, x.data_version, x.label_version
FROM (SELECT set_config('markonce.caller', CAST($1::UUID AS TEXT), true) AS s LIMIT ALL OFFSET 0) AS c
  JOIN LATERAL (
    SELECT (
      SELECT '{"data":['
        || coalesce(
          string_agg(
            E'\x01@'
              || CAST(judgements1p.tenant_id AS TEXT)
              || E'\x01'
              || '{"grade":'
              || coalesce(
                E'\x010:'
                  || CAST(judgements1p.scheme_version_no AS TEXT)
                  || '.'
                  || CAST(judgements1p.grade_no AS TEXT)
                  || E'\x01',
                'null'
              )
              || ',"pupil":'
              || coalesce(
                (
                  SELECT '{"id":"' || CAST(pupils3.id AS TEXT) || '"}' AS anon_2
                  FROM pupils AS pupils3
                  WHERE pupils3.tenant_id = $2::UUID AND pupils3.id = judgements1p.pupil_id
                  LIMIT 1
                ),
                'null'
              )
              || ',"school":'
              || coalesce(
                (
                  SELECT '{"urn":' || CAST(schools4.urn AS TEXT) || '}' AS anon_3
                  FROM schools AS schools4
                  WHERE schools4.id = judgements1p.school_id
                    AND (EXISTS (
                      SELECT 1
                      FROM reach AS reach_1
                      WHERE reach_1.client_id = $1::UUID
                        AND reach_1.school_id = schools4.id
                        AND reach_1.starts_at <= now()
                        AND (reach_1.ends_at IS NULL OR reach_1.ends_at > now())
                    ))
                  LIMIT 1
                ),
                'null'
              )
              || '}'
              || E'\x01/\x01',
            ','
            ORDER BY judgements1p.key0 ASC,
              judgements1p.tenant_id ASC,
              judgements1p.academic_year ASC,
              judgements1p.pupil_id ASC,
              judgements1p.window_no ASC,
              judgements1p.subject_no ASC,
              judgements1p.aspect_no ASC
          )
            FILTER (WHERE judgements1p.row_no <= $3::INTEGER),
          ''
        )
        || ']'
        || coalesce(
          E'\x01#judgements|'
            || '|'
            || CAST(
              array_agg(judgements1p.recorded_at_school_id)
                FILTER (WHERE judgements1p.row_no <= $3::INTEGER) AS TEXT
            )
            || '|'
            || CAST(
              array_agg(
                CAST(judgements1p.window_no AS BIGINT) * 4294967296 + judgements1p.subject_no * 65536 + judgements1p.aspect_no
              )
                FILTER (WHERE judgements1p.row_no <= $3::INTEGER) AS TEXT
            )
            || E'\x01',
          ''
        )
        || ',"page":{"hasMore":'
        || CASE WHEN (count(*) > $3::INTEGER) THEN 'true' ELSE 'false' END
        || ',"endCursor":'
        || coalesce(
          max(
            E'\x01~0:'
              || encode(
                convert_to(
                  CAST(
                    json_build_array(
                      CAST(judgements1p.key0 AS TEXT),
                      CAST(judgements1p.tenant_id AS TEXT),
                      CAST(judgements1p.academic_year AS TEXT),
                      CAST(judgements1p.pupil_id AS TEXT),
                      CAST(judgements1p.window_no AS TEXT),
                      CAST(judgements1p.subject_no AS TEXT),
                      CAST(judgements1p.aspect_no AS TEXT)
                    ) AS TEXT
                  ),
                  'UTF8'
                ),
                'hex'
              )
              || E'\x01'
          )
            FILTER (
              WHERE judgements1p.row_no <= $3::INTEGER
                AND (judgements1p.row_no = $3::INTEGER OR judgements1p.is_last)
            ),
          'null'
        )
        || '}}' AS anon_1
      FROM (
        SELECT judgements1.tenant_id AS tenant_id,
          judgements1.academic_year AS academic_year,
          judgements1.pupil_id AS pupil_id,
          judgements1.window_no AS window_no,
          judgements1.subject_no AS subject_no,
          judgements1.aspect_no AS aspect_no,
          judgements1.school_id AS school_id,
          judgements1.scheme_version_no AS scheme_version_no,
          judgements1.grade_no AS grade_no,
          judgements1.recorded_at_school_id AS recorded_at_school_id,
          judgements1.recorded_at AS key0,
          row_number()
            OVER (
              ORDER BY judgements1.recorded_at ASC,
                judgements1.tenant_id ASC,
                judgements1.academic_year ASC,
                judgements1.pupil_id ASC,
                judgements1.window_no ASC,
                judgements1.subject_no ASC,
                judgements1.aspect_no ASC
            ) AS row_no,
          lead(1)
            OVER (
              ORDER BY judgements1.recorded_at ASC,
                judgements1.tenant_id ASC,
                judgements1.academic_year ASC,
                judgements1.pupil_id ASC,
                judgements1.window_no ASC,
                judgements1.subject_no ASC,
                judgements1.aspect_no ASC
            ) IS NULL AS is_last
        FROM judgements AS judgements1
        WHERE judgements1.tenant_id = $2::UUID
          AND (
            (EXISTS (
              SELECT 1
              FROM reach AS reach_2
              WHERE reach_2.client_id = $1::UUID
                AND reach_2.tenant_id = $2::UUID
                AND reach_2.school_id = judgements1.school_id
                AND reach_2.starts_at <= now()
                AND (reach_2.ends_at IS NULL OR reach_2.ends_at > now())
            ))
              OR (EXISTS (
                SELECT 1
                FROM shared_pupils AS shared_pupils_1
                WHERE shared_pupils_1.tenant_id = $2::UUID
                  AND shared_pupils_1.pupil_id = judgements1.pupil_id
                  AND (EXISTS (
                    SELECT 1
                    FROM reach AS reach_3
                    WHERE reach_3.client_id = $1::UUID
                      AND reach_3.tenant_id = $2::UUID
                      AND reach_3.school_id = shared_pupils_1.school_id
                      AND reach_3.starts_at <= now()
                      AND (reach_3.ends_at IS NULL OR reach_3.ends_at > now())
                  ))
              ))
          )
          AND judgements1.recorded_at >= $4::TIMESTAMP WITH TIME ZONE
        ORDER BY judgements1.recorded_at ASC,
          judgements1.tenant_id ASC,
          judgements1.academic_year ASC,
          judgements1.pupil_id ASC,
          judgements1.window_no ASC,
          judgements1.subject_no ASC,
          judgements1.aspect_no ASC
        LIMIT $3::INTEGER + 1
      ) AS judgements1p
      HAVING count(*) >= 0
    ) AS r0,
      (
        SELECT clients.reach_version = $5::BIGINT
          AND ($6::TIMESTAMP WITH TIME ZONE IS NULL OR now() < $6::TIMESTAMP WITH TIME ZONE) AS anon_4
        FROM clients
        WHERE clients.id = $1::UUID
      ) AS snapshot,
      CAST((SELECT sum(data_versions.version) AS sum_1 FROM data_versions) AS TEXT)
        || '.'
        || CAST($7::DATE AS TEXT)
        || '.'
        || CAST(
          coalesce(
            EXTRACT(
              epoch
              FROM (
                SELECT max(window_instants.at) AS max_1
                FROM window_instants
                WHERE window_instants.at <= $8::TIMESTAMP WITH TIME ZONE
              )
            ),
            0
          ) AS TEXT
        )
        || '.'
        || CAST(reach_state($9::UUID[]) AS TEXT) AS data_version,
      CAST((SELECT sum(data_versions.version) AS sum_1 FROM data_versions) AS TEXT)
        || '.'
        || CAST($7::DATE AS TEXT)
        || '.'
        || CAST(
          coalesce(
            EXTRACT(
              epoch
              FROM (
                SELECT max(window_instants.at) AS max_1
                FROM window_instants
                WHERE window_instants.at <= $8::TIMESTAMP WITH TIME ZONE
              )
            ),
            0
          ) AS TEXT
        ) AS label_version
    WHERE c.s IS NOT NULL
    LIMIT ALL OFFSET 0
  ) AS x ON true
