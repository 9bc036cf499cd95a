SELECT x.r0, x.snapshot, x.data_version, x.label_version
FROM (SELECT set_config('markonce.caller', CAST($1::UUID AS TEXT), true) AS s LIMIT ALL OFFSET 0) AS c
  JOIN LATERAL (
    SELECT (
      SELECT E'\x01@'
        || CAST(groups1.tenant_id AS TEXT)
        || E'\x01'
        || '{"page":'
        || (
          SELECT '{"data":['
            || coalesce(
              string_agg(
                '{"id":"'
                  || CAST(group_pupils2p.id AS TEXT)
                  || '","forename":'
                  || coalesce(CAST(to_json(group_pupils2p.forename) AS TEXT), 'null')
                  || ',"surname":'
                  || coalesce(CAST(to_json(group_pupils2p.surname) AS TEXT), 'null')
                  || ',"latestJudgements":'
                  || (
                    SELECT '{"data":['
                      || coalesce(
                        string_agg(
                          '{"grade":'
                            || coalesce(
                              E'\x010:'
                                || CAST(latest_judgements3p.scheme_version_no AS TEXT)
                                || '.'
                                || CAST(latest_judgements3p.grade_no AS TEXT)
                                || E'\x01',
                              'null'
                            )
                            || '}',
                          ','
                          ORDER BY latest_judgements3p.tenant_id ASC,
                            latest_judgements3p.academic_year ASC,
                            latest_judgements3p.pupil_id ASC,
                            latest_judgements3p.window_no ASC,
                            latest_judgements3p.subject_no ASC,
                            latest_judgements3p.aspect_no ASC
                        )
                          FILTER (WHERE latest_judgements3p.row_no <= $2::INTEGER),
                        ''
                      )
                      || ']'
                      || coalesce(
                        E'\x01#judgements|'
                          || CAST(
                            array_agg(latest_judgements3p.tenant_id)
                              FILTER (WHERE latest_judgements3p.row_no <= $2::INTEGER) AS TEXT
                          )
                          || '|'
                          || CAST(
                            array_agg(latest_judgements3p.recorded_at_school_id)
                              FILTER (WHERE latest_judgements3p.row_no <= $2::INTEGER) AS TEXT
                          )
                          || '|'
                          || CAST(
                            array_agg(
                              CAST(latest_judgements3p.window_no AS BIGINT) * 4294967296 + latest_judgements3p.subject_no * 65536 + latest_judgements3p.aspect_no
                            )
                              FILTER (WHERE latest_judgements3p.row_no <= $2::INTEGER) AS TEXT
                          )
                          || E'\x01',
                        ''
                      )
                      || ',"page":{"hasMore":'
                      || CASE WHEN (count(*) > $2::INTEGER) THEN 'true' ELSE 'false' END
                      || ',"endCursor":'
                      || coalesce(
                        max(
                          E'\x01~1:'
                            || encode(
                              convert_to(
                                CAST(
                                  json_build_array(
                                    CAST(latest_judgements3p.tenant_id AS TEXT),
                                    CAST(latest_judgements3p.academic_year AS TEXT),
                                    CAST(latest_judgements3p.pupil_id AS TEXT),
                                    CAST(latest_judgements3p.window_no AS TEXT),
                                    CAST(latest_judgements3p.subject_no AS TEXT),
                                    CAST(latest_judgements3p.aspect_no AS TEXT)
                                  ) AS TEXT
                                ),
                                'UTF8'
                              ),
                              'hex'
                            )
                            || E'\x01'
                        )
                          FILTER (
                            WHERE latest_judgements3p.row_no <= $2::INTEGER
                              AND (latest_judgements3p.row_no = $2::INTEGER OR latest_judgements3p.is_last)
                          ),
                        'null'
                      )
                      || '}}' AS anon_3
                    FROM (
                      SELECT latest_judgements3.tenant_id AS tenant_id,
                        latest_judgements3.academic_year AS academic_year,
                        latest_judgements3.pupil_id AS pupil_id,
                        latest_judgements3.window_no AS window_no,
                        latest_judgements3.subject_no AS subject_no,
                        latest_judgements3.aspect_no AS aspect_no,
                        latest_judgements3.scheme_version_no AS scheme_version_no,
                        latest_judgements3.grade_no AS grade_no,
                        latest_judgements3.recorded_at_school_id AS recorded_at_school_id,
                        row_number()
                          OVER (
                            ORDER BY latest_judgements3.tenant_id ASC,
                              latest_judgements3.academic_year ASC,
                              latest_judgements3.pupil_id ASC,
                              latest_judgements3.window_no ASC,
                              latest_judgements3.subject_no ASC,
                              latest_judgements3.aspect_no ASC
                          ) AS row_no,
                        lead(1)
                          OVER (
                            ORDER BY latest_judgements3.tenant_id ASC,
                              latest_judgements3.academic_year ASC,
                              latest_judgements3.pupil_id ASC,
                              latest_judgements3.window_no ASC,
                              latest_judgements3.subject_no ASC,
                              latest_judgements3.aspect_no ASC
                          ) IS NULL AS is_last
                      FROM latest_judgements AS latest_judgements3
                      WHERE latest_judgements3.tenant_id = group_pupils2p.tenant_id
                        AND latest_judgements3.pupil_id = group_pupils2p.id
                      ORDER BY latest_judgements3.tenant_id ASC,
                        latest_judgements3.academic_year ASC,
                        latest_judgements3.pupil_id ASC,
                        latest_judgements3.window_no ASC,
                        latest_judgements3.subject_no ASC,
                        latest_judgements3.aspect_no ASC
                      LIMIT $2::INTEGER + 1
                    ) AS latest_judgements3p
                    HAVING count(*) >= 0
                  )
                  || '}',
                ','
                ORDER BY group_pupils2p.key0 ASC,
                  group_pupils2p.key1 ASC,
                  group_pupils2p.tenant_id ASC,
                  group_pupils2p.id ASC
              )
                FILTER (WHERE group_pupils2p.row_no <= $3::INTEGER),
              ''
            )
            || '],"page":{"hasMore":'
            || CASE WHEN (count(*) > $3::INTEGER) THEN 'true' ELSE 'false' END
            || ',"endCursor":'
            || coalesce(
              max(
                E'\x01~0:'
                  || encode(
                    convert_to(
                      CAST(
                        json_build_array(
                          CAST(group_pupils2p.key0 AS TEXT),
                          CAST(group_pupils2p.key1 AS TEXT),
                          CAST(group_pupils2p.tenant_id AS TEXT),
                          CAST(group_pupils2p.id AS TEXT)
                        ) AS TEXT
                      ),
                      'UTF8'
                    ),
                    'hex'
                  )
                  || E'\x01'
              )
                FILTER (
                  WHERE group_pupils2p.row_no <= $3::INTEGER
                    AND (group_pupils2p.row_no = $3::INTEGER OR group_pupils2p.is_last)
                ),
              'null'
            )
            || '}}' AS anon_2
          FROM (
            SELECT group_pupils2.tenant_id AS tenant_id,
              group_pupils2.id AS id,
              group_pupils2.surname AS surname,
              group_pupils2.forename AS forename,
              group_pupils2.surname_key AS key0,
              group_pupils2.forename_key AS key1,
              row_number()
                OVER (
                  ORDER BY group_pupils2.surname_key ASC,
                    group_pupils2.forename_key ASC,
                    group_pupils2.tenant_id ASC,
                    group_pupils2.id ASC
                ) AS row_no,
              lead(1)
                OVER (
                  ORDER BY group_pupils2.surname_key ASC,
                    group_pupils2.forename_key ASC,
                    group_pupils2.tenant_id ASC,
                    group_pupils2.id ASC
                ) IS NULL AS is_last
            FROM group_pupils AS group_pupils2
            WHERE group_pupils2.tenant_id = groups1.tenant_id
              AND group_pupils2.group_id = groups1.id
              AND (
                (EXISTS (
                  SELECT 1
                  FROM reach AS reach_1
                  WHERE reach_1.client_id = $1::UUID
                    AND reach_1.tenant_id = group_pupils2.tenant_id
                    AND reach_1.school_id = group_pupils2.school_id
                    AND reach_1.starts_at <= now()
                    AND (reach_1.ends_at IS NULL OR reach_1.ends_at > now())
                ))
                  OR (EXISTS (
                    SELECT 1
                    FROM shared_pupils AS shared_pupils_1
                    WHERE shared_pupils_1.tenant_id = group_pupils2.tenant_id
                      AND shared_pupils_1.pupil_id = group_pupils2.id
                      AND (EXISTS (
                        SELECT 1
                        FROM reach AS reach_2
                        WHERE reach_2.client_id = $1::UUID
                          AND reach_2.tenant_id = group_pupils2.tenant_id
                          AND reach_2.school_id = shared_pupils_1.school_id
                          AND reach_2.starts_at <= now()
                          AND (reach_2.ends_at IS NULL OR reach_2.ends_at > now())
                      ))
                  ))
              )
              AND group_pupils2.member_from <= coalesce($4::DATE, $5::DATE)
              AND coalesce(group_pupils2.member_to, 'infinity'::date) >= coalesce($4::DATE, $5::DATE)
              AND (EXISTS (
                SELECT *
                FROM enrolments AS enrolments_1
                WHERE enrolments_1.tenant_id = group_pupils2.tenant_id
                  AND enrolments_1.pupil_id = group_pupils2.id
                  AND enrolments_1.school_id = group_pupils2.group_school_id
                  AND enrolments_1.from_on <= coalesce($4::DATE, $5::DATE)
                  AND coalesce(enrolments_1.to_on, 'infinity'::date) >= coalesce($4::DATE, $5::DATE)
              ))
            ORDER BY group_pupils2.surname_key ASC,
              group_pupils2.forename_key ASC,
              group_pupils2.tenant_id ASC,
              group_pupils2.id ASC
            LIMIT $3::INTEGER + 1
          ) AS group_pupils2p
          HAVING count(*) >= 0
        )
        || '}'
        || E'\x01/\x01' AS anon_1
      FROM groups AS groups1
      WHERE groups1.id = $6::UUID
        AND (EXISTS (
          SELECT 1
          FROM reach AS reach_3
          WHERE reach_3.client_id = $1::UUID
            AND reach_3.tenant_id = groups1.tenant_id
            AND reach_3.school_id = groups1.school_id
            AND reach_3.starts_at <= now()
            AND (reach_3.ends_at IS NULL OR reach_3.ends_at > now())
        ))
      LIMIT 1
    ) AS r0,
      (
        SELECT clients.reach_version = $7::BIGINT
          AND ($8::TIMESTAMP WITH TIME ZONE IS NULL OR now() < $8::TIMESTAMP WITH TIME ZONE) AS anon_4
        FROM clients
        WHERE clients.id = $1::UUID
      ) AS snapshot,
      CAST((SELECT sum(data_versions.version) AS sum_1 FROM data_versions) AS TEXT)
        || '.'
        || CAST($5::DATE AS TEXT)
        || '.'
        || CAST(
          coalesce(
            EXTRACT(
              epoch
              FROM (
                SELECT max(window_instants.at) AS max_1
                FROM window_instants
                WHERE window_instants.at <= $9::TIMESTAMP WITH TIME ZONE
              )
            ),
            0
          ) AS TEXT
        )
        || '.'
        || CAST(reach_state($10::UUID[]) AS TEXT) AS data_version,
      CAST((SELECT sum(data_versions.version) AS sum_1 FROM data_versions) AS TEXT)
        || '.'
        || CAST($5::DATE AS TEXT)
        || '.'
        || CAST(
          coalesce(
            EXTRACT(
              epoch
              FROM (
                SELECT max(window_instants.at) AS max_1
                FROM window_instants
                WHERE window_instants.at <= $9::TIMESTAMP WITH TIME ZONE
              )
            ),
            0
          ) AS TEXT
        ) AS label_version
    WHERE c.s IS NOT NULL
    LIMIT ALL OFFSET 0
  ) AS x ON true
