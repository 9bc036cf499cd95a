\set n :first + random(0, :pupils - 101)
SELECT json_agg(json_build_object(
    'id', p.id, 'forename', p.forename, 'surname', p.surname, 'sex', p.sex, 'yearGroup', p.year_group, 'dateOfBirth', p.date_of_birth))
FROM (
    SELECT * FROM pupils
    WHERE tenant_id = :tenant AND id > ('0190f6a0-0000-7004-8000-' || lpad(to_hex(:n::bigint), 12, '0'))::uuid
    ORDER BY id LIMIT 100
) p;
