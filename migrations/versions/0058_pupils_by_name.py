"""Pupils of a tenant by name, whichever schools they are at: a list that is sorted by name reads no more rows than it shows."""

from migrations.steps import build_index

revision, down_revision, branch_labels, depends_on = "0058", "0057", None, None


def upgrade() -> None:
    build_index("pupils_of_tenant_by_name", "pupils", "(tenant_id, surname_key, forename_key, id)")
    build_index("pupils_of_tenant_by_preferred_name", "pupils", "(tenant_id, preferred_surname_key, preferred_forename_key, id)")
