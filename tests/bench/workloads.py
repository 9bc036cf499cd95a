"""All workloads by name, in the order in which they are measured: what fills tables comes last."""

from tests.bench.reads import R1, R2, R3, R4_10, R4_100, R5, REACH
from tests.bench.writes import M1, W1, W1_KEYED, W1_SCHOOL, W1_UNCHANGED, W2, W2_CONFIRMED, W2_CREATED, W2_UNCHANGED

WORKLOADS = {
    workload.name: workload
    for workload in (
        R1,
        R2,
        R3,
        R4_10,
        R4_100,
        R5,
        REACH,
        W1,
        W1_SCHOOL,
        W1_KEYED,
        W1_UNCHANGED,
        M1,
        W2,
        W2_UNCHANGED,
        W2_CONFIRMED,
        W2_CREATED,
    )
}
