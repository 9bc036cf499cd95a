"""The history of one pupil's judgements is found by an index, as the judgements are."""

from migrations.steps import build_index

revision, down_revision, branch_labels, depends_on = "0042", "0041", None, None


def upgrade() -> None:
    build_index("judgement_history_by_pupil", "judgement_history", "(pupil_id)")
