"""Protection decides what a publication hides; an attacker that shares no code with it solves what it shows. `make attack` tries 300 trusts."""

import random
from dataclasses import replace

import numpy as np
import pytest

from domain.protection.audits import WorkLimits
from domain.protection.families import form_families, protect_families
from domain.protection.figures import Layout, make_figures
from domain.protection.plan import Plan
from domain.protection.protect import Decision, protect
from domain.protection.rules import DEPARTMENT, LEVELS, STRICT, Level
from domain.protection.tables import TOTAL, SplitFigures, Tables
from tests.attack.generated_trusts import GeneratedTrust, Mark, Pupil, generate_trust
from tests.attack.readings import SUBJECTS
from tests.attack.verdicts import Verdicts, judge
from tests.fixtures.sizes import choose_size
from tests.protection.publications import ALL, LAYOUT, count_hidden, count_tables, describe, list_readings

TRUSTS = choose_size(3, 300)


def make_trust(number: int) -> GeneratedTrust:
    return generate_trust(1000 + number, 2 + number % 3, ("4", "5", "6")[: 1 + number % 3], 40 + 20 * (number % 3))


def attack(trust: GeneratedTrust, level: Level, tables: Tables, decision: Decision) -> Verdicts:
    return judge(trust, list_readings(trust, tables, decision), level.attainment_from)


@pytest.mark.parametrize("level", LEVELS)
def test_no_unsafe_group_is_found(level: str) -> None:
    """Of 300 trusts, or of a few: sizes keep five values and attainment two, unless a total that is shown says all."""
    everything = Verdicts()
    for number in range(TRUSTS):
        trust = make_trust(number)
        tables = count_tables(trust)
        everything.add(attack(trust, LEVELS[level], tables, protect(tables, LEVELS[level])))
    assert (everything.exact_sizes, everything.narrow_sizes, everything.exact_counts) == ([], [], [])
    assert everything.sizes > 20
    assert everything.counts > 100


LESS = {
    "few programmes and no other turn": WorkLimits(programmes=40, turns=0, repairs=0),
    "moves alone": WorkLimits(programmes=0, joint_variables=0),
    "moves alone and no other turn": WorkLimits(programmes=0, turns=0),
}


@pytest.mark.parametrize("limits", list(LESS.values())[: choose_size(1, len(LESS))])
def test_less_work_hides_more_and_discloses_nothing(limits: WorkLimits) -> None:
    """What is not proven is hidden with all that leads to it: it is never only listed."""
    trust = make_trust(2)
    tables, others = count_tables(trust), count_tables(trust)
    decision = protect(tables, STRICT, limits=limits)
    assert decision.work.programmes <= limits.programmes
    found = attack(trust, STRICT, tables, decision)
    assert (found.exact_sizes, found.narrow_sizes, found.exact_counts) == ([], [], [])
    assert count_hidden(tables, decision)["hidden"] >= count_hidden(others, protect(others, STRICT))["hidden"]


def test_rules_without_complements_disclose() -> None:
    """The same attacker finds what primary hiding alone leaves to be calculated."""
    trust = make_trust(2)
    tables = count_tables(trust)
    plan = Plan(tables, DEPARTMENT, 1, np.zeros(tables.shape, np.bool_))
    everywhere = np.ones((tables.schools, tables.years + 1), np.bool_)
    found = attack(trust, DEPARTMENT, tables, Decision(plan.hidden, dict.fromkeys(plan.hidden, everywhere), plan.work))
    assert len(found.exact_sizes) > 3
    assert len(found.exact_counts) > 3


def test_the_same_pupils_in_another_order_give_the_same_decision() -> None:
    trust = make_trust(1)
    shuffled = replace(trust, pupils=random.Random(1).sample(trust.pupils, len(trust.pupils)))
    one, other = (protect(count_tables(each), STRICT) for each in (trust, shuffled))
    assert one.work == other.work
    assert all((one.hidden[name] == other.hidden[name]).all() for name in one.hidden)


def test_a_tiny_school_costs_its_neighbours_nothing() -> None:
    """The trust's rows leave it out, and say so."""
    trust = make_trust(1)
    school = len(trust.urns)
    mark = {subject: Mark("105", 2) for subject in LAYOUT.subjects}
    few = [Pupil(school, "4", dict(trust.pupils[0].values), mark) for _ in range(3)]
    larger = GeneratedTrust(trust.pupils + few, [*trust.urns, trust.urns[-1] + 1])
    tables = count_tables(larger)
    alone, together = protect(count_tables(trust), DEPARTMENT), protect(tables, DEPARTMENT)
    assert together.hidden[TOTAL][school].tolist() == [True, False, True]  # it has no pupils in the other year
    assert together.pooled["sex"][:, -1].tolist() == [True] * school + [False]
    for name, hidden in together.hidden.items():
        assert (np.delete(hidden, school, axis=0) == alone.hidden[name]).all(), name
    assert tables.splits[TOTAL].first[-1, -1, 0] == len(trust.pupils)


def test_a_trust_may_raise_the_numbers_and_never_lower_them() -> None:
    for sizes, attainment in ((5, 11), (6, 5), (12, 11)):
        with pytest.raises(ValueError, match="at least 6"):
            Level("own", sizes, attainment)
    trust = make_trust(2)
    hidden = []
    for level in (DEPARTMENT, Level("own", 6, 20)):
        tables = count_tables(trust)
        hidden.append(count_hidden(tables, protect(tables, level))["hidden"])
    assert hidden[0] < hidden[1]


def test_figures_and_what_is_published_are_the_same_numbers() -> None:
    trust = make_trust(2)
    figures = sum(map(describe, trust.pupils))
    assert (LAYOUT.conditions @ figures >= 0).all()
    published = figures @ LAYOUT.published
    assert LAYOUT.names[0] == ("", "eligible")
    assert dict(zip(LAYOUT.names, published.tolist(), strict=True))["maths", "expected"] == sum(
        pupil.marks["maths"].level >= 2 for pupil in trust.pupils
    )
    assert (make_figures(LAYOUT, published) == figures).all()


def test_tables_that_do_not_add_up_are_refused() -> None:
    total = np.ones((2, 1, LAYOUT.length), np.int64)
    for first in (total * 2, total[:1]):
        with pytest.raises(ValueError, match="sex"):
            Tables(LAYOUT, total, {"sex": SplitFigures(ALL, first)})
    with pytest.raises(ValueError, match="13"):
        Tables(LAYOUT, total[..., :12], {})


def test_a_large_trust_is_protected_in_families() -> None:
    """Its rows pool the families that show theirs; what is told of a family by the difference of two rows is protected too."""
    trust = generate_trust(8, 10, ("6",), 30)
    tables = count_tables(trust)
    decision = protect_families(tables, DEPARTMENT)
    found = attack(trust, DEPARTMENT, tables, decision)
    assert (found.exact_sizes, found.narrow_sizes, found.exact_counts) == ([], [], [])
    again = protect_families(count_tables(trust), DEPARTMENT)
    assert all((decision.hidden[name] == again.hidden[name]).all() for name in decision.hidden)
    for name, split in tables.splits.items():
        pooled = decision.pooled[name]
        sums = (split.first[:-1] * pooled[..., None]).sum(0)
        assert (split.first[-1] == sums).all()
        assert not decision.hidden[name][-1][(pooled & (split.frame[:-1] > 0)).any(0)].any()


def test_families_mix_large_and_small_schools() -> None:
    families = form_families([10 * school for school in range(100)])
    assert sorted(school for family in families for school in family) == list(range(100))
    assert {len(family) for family in families} == {6, 7}
    assert all(min(family) < 16 and max(family) > 83 for family in families)


def test_subjects_may_have_eligible_pupils_of_their_own() -> None:
    """Somebody who is not eligible in a subject is eligible in others; each subject is attacked by itself, the conjunction too."""
    layout = Layout(has_excused=True)
    trust = make_trust(2)
    draw = random.Random(3)
    for pupil in trust.pupils:
        for subject in layout.subjects:
            if draw.random() < 0.1:
                pupil.marks[subject] = Mark(None, -1)
    figures = [describe(pupil, layout) for pupil in trust.pupils]
    for number in (1, 2, 5, len(figures)):
        together = sum(draw.sample(figures, number))
        assert (layout.conditions @ together >= 0).all()
        published = together @ layout.published
        assert (make_figures(layout, published, np.array(number)) == together).all()
    tables = count_tables(trust, layout)
    readings = list_readings(trust, tables, protect(tables, DEPARTMENT))
    assert {len({reading.eligible for reading in readings if reading[:4] == (None,) * 4})} == {4}
    for subject in SUBJECTS:
        found = judge(trust, [reading for reading in readings if reading.subject == subject], subjects=[subject])
        assert (found.exact_sizes, found.narrow_sizes, found.exact_counts) == ([], [], [])
    with pytest.raises(ValueError, match="number of pupils"):
        make_figures(layout, published)
