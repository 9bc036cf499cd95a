"""An index of pupils by what a name is looked up by: the name, or its beginning."""

from migrations.steps import build_index

revision, down_revision, branch_labels, depends_on = "0020", "0019", None, None


def upgrade() -> None:
    build_index("pupils_by_folded_name", "pupils", "(tenant_id, school_id, surname_folded, forename_folded)")
