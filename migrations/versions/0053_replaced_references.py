"""References that were replaced are kept (external_ids of the kind 'replaced'), so that a rejected row which still has one keeps its pupil on roll.

They identify nobody. A merge moves them with the record, and a new identity retires them.
"""

from alembic import op

revision, down_revision, branch_labels, depends_on = "0053", "0052", None, None

HASHED = "            WHERE e.tenant_id = in_tenant AND e.kind = 'pupil' AND e.id = old_pupil\n    ) x ON CONFLICT DO NOTHING;"
HASHED_TOO = """            WHERE e.tenant_id = in_tenant AND e.kind = 'pupil' AND e.id = old_pupil
        UNION SELECT concat_ws(' ', 'reference', e.source, e.school_id, e.value) FROM external_ids e
            WHERE e.tenant_id = in_tenant AND e.kind = 'replaced' AND e.id = old_pupil AND NOT EXISTS (
                SELECT 1 FROM external_ids o WHERE o.tenant_id = in_tenant AND o.source = e.source AND o.kind = 'pupil' AND o.school_id = e.school_id AND o.value = e.value
            )
    ) x ON CONFLICT DO NOTHING;"""
PATCHES = (
    ("retire_identity", HASHED, HASHED_TOO, 1),
    (
        "retire_identity",
        "e.kind = 'pupil' AND e.id = old_pupil\n                AND e.source",
        "e.kind IN ('pupil', 'replaced') AND e.id = old_pupil\n                AND e.source",
        2,
    ),
    ("retire_identity", "AND kind = 'pupil' AND id = old_pupil", "AND kind IN ('pupil', 'replaced') AND id = old_pupil", 1),
    ("repoint_pupil", "AND kind = 'pupil' AND id = from_pupil", "AND kind IN ('pupil', 'replaced') AND id = from_pupil", 1),
)
"""Functions of which some lines are replaced, with how often these stand there."""


def upgrade() -> None:
    connection = op.get_bind()
    connection.exec_driver_sql(
        "COMMENT ON COLUMN external_ids.kind IS 'pupil: it identifies the pupil. replaced: another reference of the client replaced it, and it identifies nobody'"
    )
    for name, before, after, times in PATCHES:
        definition = connection.exec_driver_sql(
            f"SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = '{name}' AND pronamespace = 'public'::regnamespace"
        ).scalar_one()
        assert definition.count(before) == times, (name, before)
        connection.exec_driver_sql(definition.replace(before, after))
