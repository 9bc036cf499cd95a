"""Keys by which schools, trusts and groups are sorted by their names. Triggers fill them, so that a program that does not know them writes them too."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0038", "0037", None, None

KEY = """text COLLATE "C" NOT NULL DEFAULT ''"""
STATEMENTS = (
    f"ALTER TABLE schools ADD COLUMN IF NOT EXISTS name_key {KEY}",
    "CREATE OR REPLACE TRIGGER fill_name_key BEFORE INSERT OR UPDATE OF name ON schools FOR EACH ROW EXECUTE FUNCTION fill_name_key()",
    f"ALTER TABLE trusts ADD COLUMN IF NOT EXISTS name_key {KEY}",
    "CREATE OR REPLACE TRIGGER fill_name_key BEFORE INSERT OR UPDATE OF name ON trusts FOR EACH ROW EXECUTE FUNCTION fill_name_key()",
    f"ALTER TABLE groups ADD COLUMN IF NOT EXISTS name_key {KEY}, ADD COLUMN IF NOT EXISTS code_key {KEY}",
    "CREATE OR REPLACE TRIGGER fill_group_keys BEFORE INSERT OR UPDATE OF name, code ON groups FOR EACH ROW EXECUTE FUNCTION fill_group_keys()",
    """
    CREATE OR REPLACE VIEW pupil_groups WITH (security_invoker = true) AS
    SELECT g.tenant_id, g.id, g.school_id, g.kind, g.code, g.name, g.academic_year, g.version, g.changed_at, g.xid, m.pupil_id,
        m.from_on AS member_from, m.to_on AS member_to, g.name_key, g.code_key
    FROM group_members m JOIN groups g ON g.tenant_id = m.tenant_id AND g.id = m.group_id
    """,
)


def upgrade() -> None:
    run_each(*STATEMENTS)
