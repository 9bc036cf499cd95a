SELECT x.r0, x.snapshot, x.data_version
FROM (SELECT set_config('markonce.caller', CAST($1::UUID AS TEXT), true) AS s LIMIT ALL OFFSET 0) AS c
  JOIN LATERAL (
    SELECT (
      SELECT '{"data":['
        || coalesce(
          string_agg(
            '{"id":"'
              || CAST(pupils1p.id AS TEXT)
              || '","surname":'
              || coalesce(CAST(to_json(pupils1p.surname) AS TEXT), 'null')
              || '}',
            ','
            ORDER BY pupils1p.tenant_id ASC, pupils1p.id ASC
          )
            FILTER (WHERE pupils1p.row_no <= $2::INTEGER),
          ''
        )
        || '],"page":{"hasMore":'
        || CASE WHEN (count(*) > $2::INTEGER) THEN 'true' ELSE 'false' END
        || ',"endCursor":'
        || coalesce(
          max(
            E'\x01~0:'
              || encode(
                convert_to(
                  CAST(json_build_array(CAST(pupils1p.tenant_id AS TEXT), CAST(pupils1p.id AS TEXT)) AS TEXT),
                  'UTF8'
                ),
                'hex'
              )
              || E'\x01'
          )
            FILTER (
              WHERE pupils1p.row_no <= $2::INTEGER AND (pupils1p.row_no = $2::INTEGER OR pupils1p.is_last)
            ),
          'null'
        )
        || '}}' AS anon_1
      FROM (
        SELECT tenants.tenant_id AS tenant_id,
          pupils1t.id AS id,
          pupils1t.surname AS surname,
          row_number() OVER (ORDER BY tenants.tenant_id ASC, pupils1t.id ASC) AS row_no,
          lead(1) OVER (ORDER BY tenants.tenant_id ASC, pupils1t.id ASC) IS NULL AS is_last
        FROM (
          SELECT DISTINCT r_of_tenants.tenant_id AS tenant_id
          FROM reach AS r_of_tenants
          WHERE r_of_tenants.client_id = $1::UUID
            AND r_of_tenants.starts_at <= now()
            AND (r_of_tenants.ends_at IS NULL OR r_of_tenants.ends_at > now())
          ORDER BY r_of_tenants.tenant_id
          LIMIT $3::INTEGER
        ) AS tenants
          JOIN LATERAL (
            SELECT pupils1.tenant_id AS tenant_id, pupils1.id AS id, pupils1.surname AS surname
            FROM pupils AS pupils1
            WHERE pupils1.tenant_id = tenants.tenant_id
              AND (
                (EXISTS (
                  SELECT 1
                  FROM reach AS reach_1
                  WHERE reach_1.client_id = $1::UUID
                    AND reach_1.tenant_id = pupils1.tenant_id
                    AND reach_1.school_id = pupils1.school_id
                    AND reach_1.starts_at <= now()
                    AND (reach_1.ends_at IS NULL OR reach_1.ends_at > now())
                ))
                  OR (EXISTS (
                    SELECT 1
                    FROM shared_pupils AS shared_pupils_1
                    WHERE shared_pupils_1.tenant_id = pupils1.tenant_id
                      AND shared_pupils_1.pupil_id = pupils1.id
                      AND (EXISTS (
                        SELECT 1
                        FROM reach AS reach_2
                        WHERE reach_2.client_id = $1::UUID
                          AND reach_2.tenant_id = pupils1.tenant_id
                          AND reach_2.school_id = shared_pupils_1.school_id
                          AND reach_2.starts_at <= now()
                          AND (reach_2.ends_at IS NULL OR reach_2.ends_at > now())
                      ))
                  ))
              )
              AND (
                pupils1.main_spell IS NOT NULL
                  AND (pupils1.main_spell @> $4::DATE)
                  AND (EXISTS (
                    SELECT 1
                    FROM reach AS reach_3
                    WHERE reach_3.client_id = $1::UUID
                      AND reach_3.tenant_id = pupils1.tenant_id
                      AND reach_3.school_id = pupils1.school_id
                      AND reach_3.starts_at <= now()
                      AND (reach_3.ends_at IS NULL OR reach_3.ends_at > now())
                      AND 'pupils:read' = ANY (reach_3.scopes)
                  ))
                  OR (EXISTS (
                    SELECT 1
                    FROM enrolments AS enrolments_1
                    WHERE enrolments_1.tenant_id = pupils1.tenant_id
                      AND enrolments_1.pupil_id = pupils1.id
                      AND (EXISTS (
                        SELECT 1
                        FROM reach AS reach_4
                        WHERE reach_4.client_id = $1::UUID
                          AND reach_4.tenant_id = enrolments_1.tenant_id
                          AND reach_4.school_id = enrolments_1.school_id
                          AND reach_4.starts_at <= now()
                          AND (reach_4.ends_at IS NULL OR reach_4.ends_at > now())
                          AND 'pupils:read' = ANY (reach_4.scopes)
                      ))
                      AND (daterange(enrolments_1.from_on, enrolments_1.to_on, '[]') @> $4::DATE)
                    LIMIT ALL OFFSET 0
                  ))
              )
            ORDER BY pupils1.id ASC
            LIMIT $2::INTEGER + 1
          ) AS pupils1t ON true
        ORDER BY tenants.tenant_id ASC, pupils1t.id ASC
        LIMIT $2::INTEGER + 1
      ) AS pupils1p
      HAVING count(*) >= 0
    ) AS r0,
      (
        SELECT clients.reach_version = $5::BIGINT
          AND ($6::TIMESTAMP WITH TIME ZONE IS NULL OR now() < $6::TIMESTAMP WITH TIME ZONE) AS anon_2
        FROM clients
        WHERE clients.id = $1::UUID
      ) AS snapshot,
      CAST((SELECT sum(data_versions.version) AS sum_1 FROM data_versions) AS TEXT)
        || '.'
        || CAST($4::DATE AS TEXT)
        || '.'
        || CAST(
          coalesce(
            EXTRACT(
              epoch
              FROM (
                SELECT max(window_instants.at) AS max_1
                FROM window_instants
                WHERE window_instants.at <= $7::TIMESTAMP WITH TIME ZONE
              )
            ),
            0
          ) AS TEXT
        )
        || '.'
        || CAST(reach_state($8::UUID[]) AS TEXT) AS data_version
    WHERE c.s IS NOT NULL
    LIMIT ALL OFFSET 0
  ) AS x ON true
