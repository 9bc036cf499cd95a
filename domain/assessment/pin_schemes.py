"""Pins the scheme versions that a window is judged in: of each school, subject and aspect that it collects."""

from domain.write.locks import SchoolLocks

_LINES = """
INSERT INTO pins (tenant_id, window_no, school_id, subject_no, aspect_no, scheme_version_no)
SELECT DISTINCT ON (s.id, c.subject_no, c.aspect_no) $1, $2, s.id, c.subject_no, c.aspect_no, v.no
FROM collects c
JOIN schools s ON s.tenant_id = $1 AND c.school_id IN (s.id, $1)
JOIN windows w ON w.tenant_id = $1 AND w.no = $2
CROSS JOIN LATERAL (SELECT newest_version($1, c.scheme_id, w.academic_year) AS no) v
WHERE c.tenant_id = $1 AND c.window_no = $2 AND v.no IS NOT NULL
ORDER BY s.id, c.subject_no, c.aspect_no, c.school_id = s.id DESC
ON CONFLICT (tenant_id, window_no, school_id, subject_no, aspect_no)
"""
_ADD = f"{_LINES} DO NOTHING"
_REPLACE = f"{_LINES} DO UPDATE SET scheme_version_no = excluded.scheme_version_no"


async def pin_schemes(locks: SchoolLocks, window_no: int, *, replaces: bool = False) -> None:
    """Pins the newest version of each scheme for the window's academic year, at every school of the tenant. All schools of the tenant are locked.

    `replaces`: also where an older version is pinned, which no judgement may name yet: while the window is planned.
    """
    await locks.connection.execute(_REPLACE if replaces else _ADD, locks.tenant_id, window_no)
