"""Receipts as a resource: how many rows of each batch were accepted and rejected at each school.
domain/write/receipts.py writes them.
"""

from domain.access.client_names import find_client_name
from domain.access.reach import rows_of_school
from domain.assessment.subjects import JUDGED, aspects, code_of, subjects
from domain.assessment.windows import windows
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT, RECEIPT
from domain.declare.vocabulary import COUNT, declare_ids, declare_list
from domain.roster.schools import schools
from domain.roster.text_order import sort_by_text
from domain.write.receipts import OUTCOMES, receipts

r = receipts.c

_client_name = find_client_name(r.client_id)

_OUTCOME_DOCS = {
    "created": "Rows that were new.",
    "updated": "Rows that changed what was stored.",
    "unchanged": "Rows equal to what was stored.",
    "superseded": "Rows older than what was stored.",
    "withdrawn": "Values taken back.",
    "rejected": "Rows that were not accepted; all of them where the batch was refused whole.",
}

RECEIPTS = Resource(
    name="receipt",
    plural="receipts",
    versioned=False,
    doc="What became of a batch at a school (of judgements: in a window, subject and aspect), newest first; kept for 13 months. It holds counts, of"
    " small groups too, which aggregates would hide: so it is for those who may see the pupils.",
    source=receipts,
    scope=Scope.PUPILS_READ,
    order=("tenant_id", "received_at", "id"),
    descending=True,
    reach=rows_of_school(r.tenant_id, r.school_id),
    fields={
        "id": Field(r.id, "Stable id.", vocabulary=declare_ids(RECEIPT, "receipt")),
        "schoolId": Field(r.school_id, "The school's id."),
        "operation": Field(
            r.operation,
            "recordPupils, recordGroups, recordJudgements, recordTargets or recordSchoolReferences.",
            vocabulary=declare_list("recordPupils", "recordGroups", "recordJudgements", "recordTargets", "recordSchoolReferences"),
        ),
        "client": Field(_client_name, "Name of the client that sent it.", sort_key=sort_by_text(_client_name)),
        "clientId": Field(r.client_id, "Id of that client: names may be used again.", vocabulary=declare_ids(CLIENT, "client")),
        "receivedAt": Field(r.received_at, "When it arrived."),
        "accepted": Field(r.accepted, "Whether anything of the batch was accepted; false where it was refused whole."),
        "windowCode": Field(
            code_of(windows, r.tenant_id, r.window_no),
            "Of judgements, the window's code.",
            scope=Scope.WINDOWS_READ,
        ),
        "subjectCode": Field(
            code_of(subjects, r.tenant_id, r.subject_no),
            "Of judgements, the subject's code.",
            scope=Scope.WINDOWS_READ,
            vocabulary=JUDGED,
        ),
        "aspect": Field(code_of(aspects, r.tenant_id, r.aspect_no), "Of judgements, the aspect.", scope=Scope.WINDOWS_READ),
        "received": Field(r.received, "Rows received; the sum of the outcomes.", vocabulary=COUNT),
        **{outcome: Field(r[outcome], _OUTCOME_DOCS[outcome], vocabulary=COUNT) for outcome in OUTCOMES},
    },
    links={
        "school": Link(
            "school",
            ((r.tenant_id, schools.c.tenant_id), (r.school_id, schools.c.id)),
            "The school.",
            reverse="receipts",
            reverse_doc="What was last received for it, from whom.",
        )
    },
)
