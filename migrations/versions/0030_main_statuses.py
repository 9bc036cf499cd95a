"""The statuses F and O are main registrations in every function that asks for main spells."""

from alembic import op

revision, down_revision, branch_labels, depends_on = "0030", "0029", None, None

FUNCTIONS = """
DO $do$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prokind = 'f' AND p.prosrc LIKE '%IN (''C'', ''M'')%' LOOP
        EXECUTE replace(pg_get_functiondef(f), $q$IN ('C', 'M')$q$, $q$IN ('C', 'M', 'F', 'O')$q$);
    END LOOP;
END $do$
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(FUNCTIONS)
