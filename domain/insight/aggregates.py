"""Aggregates: results pooled over pupils, for one caller and one question; the same answer in both doors.

A question groups by one to three dimensions; subject and window are each grouped by or filtered to one, since a sum over either would
count pupils again. Percentages are whole, rounded half up, and of *eligible* pupils, as in the performance tables (Department for
Education, "Primary school accountability": technical guidance for key stage 2); a trust's result pools its pupils and is never a mean
of its schools' percentages. An average is over pupils with a counting value that has a number, and null where such numbers come from
several schemes: a scaled score and a percentage have no mean.

Which schools count: those within reach with `aggregates:read` or `aggregates:internal` (which includes the former); with `trust`, those
that were its members on the window's census date, whoever controls their data today. A row that pools a school reached without
`aggregates:internal` may be suppressed (disclosure.py), and there a caller is taken to know what it sees unsuppressed: of such a row only
the pupils of the other schools are protected.

Suppression needs the whole answer, so filters come after it:
- Every subject is counted, whatever `subject` says.
- Schools are hidden among the schools of the same *population*, whose pooled result can be asked for: the trust they were in on the
  census date or, for schools without one, their local authority. All of it is counted, whatever `school` says.
- Schools named but not grouped by are pooled from their own rows, and a hidden one hides the sum: asking about some schools tells
  nothing that grouping by school does not.
"""

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product, starmap
from typing import Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import (
    CTE,
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Integer,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
    any_,
    bindparam,
    case,
    cast,
    column,
    distinct,
    exists,
    false,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    table,
    true,
)
