"""An index of a school's pupils in the order of their names."""

from migrations.steps import build_index

revision, down_revision, branch_labels, depends_on = "0019", "0018", None, None


def upgrade() -> None:
    build_index("pupils_by_name_order", "pupils", "(tenant_id, school_id, surname_key, forename_key, id)")
