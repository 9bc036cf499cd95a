"""The catalogue: every readable resource and every command, in the order of the documentation, and the rows that expire."""

from domain.assessment.calendar_links import (
    CALENDAR_LINKS,
    create_school_calendar_link,
    create_trust_calendar_link,
    reapply_calendar_link,
    revoke_calendar_link,
)
from domain.assessment.change_subject import (
    create_aspect,
    create_subject,
    retire_aspect,
    retire_subject,
    update_aspect,
    update_subject,
)
from domain.assessment.change_window import delete_window, update_window
from domain.assessment.code_lists import CODES
from domain.assessment.collection_answers import COLLECTION_ANSWERS
from domain.assessment.collections import COLLECTIONS
from domain.assessment.common_scales import COMMON_SCALES, CROSSWALK_GRADES, CROSSWALKS
from domain.assessment.conjunctions import CONJUNCTION_PARTS
from domain.assessment.create_scale import create_common_scale, create_crosswalk
from domain.assessment.create_scheme import create_scheme, create_scheme_version, restore_scheme, retire_scheme
from domain.assessment.create_window import create_window
from domain.assessment.declare_progress import declare_scheme_progress, withdraw_scheme_progress
from domain.assessment.discount_pupil import create_window_discount, withdraw_discount
from domain.assessment.discounts import DISCOUNTS
from domain.assessment.judgement_changes import JUDGEMENT_CHANGES
from domain.assessment.judgements import JUDGEMENTS
from domain.assessment.lock_target import lock_target, unlock_target
from domain.assessment.merge_pupil import merge_pupil
from domain.assessment.open_close_window import close_window, lock_window, open_window, reopen_window, repin_window, unlock_window
from domain.assessment.publications import PUBLICATION_CHANGES, PUBLICATIONS
from domain.assessment.receipts import RECEIPTS
from domain.assessment.record_collection_answer import record_collection_answer
from domain.assessment.record_judgements import record_judgements
from domain.assessment.record_targets import record_targets
from domain.assessment.returns import RETURNS
from domain.assessment.scheme_versions import SCHEME_VERSIONS
from domain.assessment.schemes import GRADES, SCHEMES
from domain.assessment.sign_scale import sign_common_scale, sign_crosswalk
from domain.assessment.split_pupil import split_pupil
from domain.assessment.subjects import ASPECTS, SUBJECTS
from domain.assessment.target_changes import TARGET_CHANGES
from domain.assessment.target_outcomes import TARGET_OUTCOMES
from domain.assessment.targets import TARGETS
from domain.assessment.window_changes import WINDOW_CHANGES
from domain.assessment.window_subjects import WINDOW_SUBJECTS
from domain.assessment.windows import WINDOWS
from domain.clients.access_history import CLIENT_CHANGES, GRANT_CHANGES
from domain.clients.change_client import create_client, revoke_client, rotate_client_secret
from domain.clients.change_grant import confirm_grant, create_grant, end_grant, extend_grant, narrow_grant
from domain.clients.client_keys import PUBLIC_KEYS, remove_client_keys, set_client_keys
from domain.clients.given_grants import GRANTS
from domain.clients.own_clients import CLIENTS
from domain.clients.revocations import reapply_client, reapply_grant
from domain.clients.secrets import CLEANUP as CLIENT_SECRETS
from domain.clients.signing_keys import CLEANUP as SIGNING_KEYS
from domain.clients.tokens import CLEANUP as ASSERTIONS
from domain.declare.catalogue import link_resources
from domain.jobs.job import CLEANUP as OLD_JOBS
from domain.publishing.bases import CLEANUP as EDITION_BASES
from domain.publishing.preview_window import preview_window
from domain.publishing.publish_window import publish_window, reapply_publication, withdraw_publication
from domain.publishing.release_publication import release_publication
from domain.read.read_counts import CLEANUP as OLD_READ_COUNTS
from domain.roster.change_group import delete_group, update_group
from domain.roster.change_pupil import update_pupil
from domain.roster.change_school import update_school
from domain.roster.characteristics import CHARACTERISTICS
from domain.roster.data_issues import DATA_ISSUES
from domain.roster.distinguish_pupil import distinguish_pupil
from domain.roster.enrolments import ENROLMENTS
from domain.roster.gias.extract_day import require_register
from domain.roster.groups import GROUPS, MEMBERS
from domain.roster.new_identity import reidentify_pupil
from domain.roster.planned_rolls import PLANNED_ROLLS
from domain.roster.planned_rows import PLANNED_CHARACTERISTICS, PLANNED_ENROLMENTS, PLANNED_PUPILS
from domain.roster.pupils import PUPILS
from domain.roster.reapply import reapply_identity, reapply_released_upns
from domain.roster.record_changes import RECORD_CHANGES
from domain.roster.record_groups import record_groups
from domain.roster.record_pupils.command import record_pupils
from domain.roster.record_school_references import record_school_references
from domain.roster.release_pupil_upn import release_pupil_upn
from domain.roster.schools import MEMBERSHIPS, SCHOOLS
from domain.roster.trusts import TRUSTS
from domain.roster.withdraw_planned_roll import withdraw_planned_roll
from domain.store.ledger_reapply import Handler
from domain.write.findings import CLEANUP as OLD_DATA_ISSUES
from domain.write.idempotency import CLEANUP as IDEMPOTENCY_KEYS
from domain.write.receipts import CLEANUP as OLD_RECEIPTS

RESOURCES = link_resources(
    [
        TRUSTS,
        SCHOOLS,
        MEMBERSHIPS,
        PUPILS,
        ENROLMENTS,
        CHARACTERISTICS,
        RECORD_CHANGES,
        GROUPS,
        MEMBERS,
        CODES,
        SUBJECTS,
        CONJUNCTION_PARTS,
        ASPECTS,
        SCHEMES,
        SCHEME_VERSIONS,
        COMMON_SCALES,
        CROSSWALKS,
        CROSSWALK_GRADES,
        GRADES,
        WINDOWS,
        WINDOW_SUBJECTS,
        WINDOW_CHANGES,
        CALENDAR_LINKS,
        JUDGEMENTS,
        JUDGEMENT_CHANGES,
        TARGETS,
        TARGET_CHANGES,
        TARGET_OUTCOMES,
        PUBLICATIONS,
        PUBLICATION_CHANGES,
        RECEIPTS,
        RETURNS,
        COLLECTIONS,
        COLLECTION_ANSWERS,
        DATA_ISSUES,
        DISCOUNTS,
        PLANNED_ROLLS,
        PLANNED_PUPILS,
        PLANNED_ENROLMENTS,
        PLANNED_CHARACTERISTICS,
        CLIENTS,
        PUBLIC_KEYS,
        CLIENT_CHANGES,
        GRANTS,
        GRANT_CHANGES,
    ]
)

COMMANDS = {
    command.name: command
    for command in (
        record_pupils,
        withdraw_planned_roll,
        record_groups,
        update_group,
        delete_group,
        record_judgements,
        record_targets,
        lock_target,
        unlock_target,
        create_subject,
        update_subject,
        retire_subject,
        create_aspect,
        update_aspect,
        retire_aspect,
        create_scheme,
        create_scheme_version,
        retire_scheme,
        restore_scheme,
        declare_scheme_progress,
        withdraw_scheme_progress,
        create_common_scale,
        sign_common_scale,
        create_crosswalk,
        sign_crosswalk,
        create_window,
        open_window,
        close_window,
        reopen_window,
        lock_window,
        unlock_window,
        create_trust_calendar_link,
        create_school_calendar_link,
        revoke_calendar_link,
        record_collection_answer,
        create_window_discount,
        withdraw_discount,
        repin_window,
        publish_window,
        preview_window,
        withdraw_publication,
        release_publication,
        update_school,
        record_school_references,
        update_pupil,
        release_pupil_upn,
        distinguish_pupil,
        merge_pupil,
        split_pupil,
        reidentify_pupil,
        update_window,
        delete_window,
        create_client,
        rotate_client_secret,
        set_client_keys,
        remove_client_keys,
        revoke_client,
        create_grant,
        narrow_grant,
        extend_grant,
        end_grant,
        confirm_grant,
    )
}

LEDGER: dict[str, Handler] = {
    "identity": reapply_identity,
    "upns": reapply_released_upns,
    "client": reapply_client,
    "grant": reapply_grant,
    "calendar-link": reapply_calendar_link,
    "publication": reapply_publication,
    "register": require_register,
}
"""What applies each kind of entry of the ledger again."""

CLEANUP = (
    *OLD_JOBS,
    *IDEMPOTENCY_KEYS,
    *OLD_RECEIPTS,
    *OLD_READ_COUNTS,
    *OLD_DATA_ISSUES,
    *ASSERTIONS,
    *CLIENT_SECRETS,
    *SIGNING_KEYS,
    *EDITION_BASES,
)
"""What `tidy` removes."""
