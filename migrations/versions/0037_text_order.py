"""The weights of characters in Unicode's root order, by which the database sorts texts, and the function that makes keys of them.

`python -m api migrate` fills the table from domain/roster/root_order.txt and writes the function anew (domain/roster/text_order.py). The one here makes empty keys.
"""

from alembic import op

revision, down_revision, branch_labels, depends_on = "0037", "0036", None, None

STATEMENTS = (
    """
    CREATE TABLE sort_weights (
        letter text COLLATE "C" PRIMARY KEY,
        letter_weight text COLLATE "C" NOT NULL,
        accent text COLLATE "C" NOT NULL,
        capital text COLLATE "C" NOT NULL
    )
    """,
    "COMMENT ON TABLE sort_weights IS 'The place of each character in Unicode''s root order, as characters by whose code points a key is sorted. It belongs to no tenant'",
    "GRANT SELECT ON sort_weights TO markonce_app, markonce_operator",
    "CREATE FUNCTION make_sort_key(value text) RETURNS text LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$ BEGIN RETURN ''; END $$",
    "REVOKE ALL ON FUNCTION make_sort_key FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION make_sort_key TO markonce_app, markonce_operator",
    """
    CREATE FUNCTION fill_name_key() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
    BEGIN
        NEW.name_key := make_sort_key(NEW.name);
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION fill_group_keys() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
    BEGIN
        NEW.name_key := make_sort_key(NEW.name);
        NEW.code_key := make_sort_key(NEW.code);
        RETURN NEW;
    END $$
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
