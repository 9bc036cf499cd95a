"""Decides which rows of a publication are hidden, so that nobody can calculate what must not be found out.

Pure arithmetic on counts: no web, no SQL. The same counts, level and seed give the same decision, since limits count work and never time.
Needs numpy and scipy, which come with `markonce[publish]`; nothing that serves requests imports this package.

- A *population* is a group at a position: (trust or school) x (all years or one) x (all pupils, or one side of a split).
- A *split* divides a population into a first side and the rest: girls, disadvantaged, SEN, and within SEN those with a plan. What is not
  known of a pupil belongs to the rest.
- The unit of hiding is a *row*: a split at a position, both sides of it or neither, with all its figures. A split is then one table, schools and
  trust by years and all years, with one mask.
- A hidden figure is *proven* safe by other pupils that agree with all that is shown, and give it enough other values.
- The trust's rows pool only the schools whose own total for the same years is shown, so that a tiny school costs its neighbours nothing.
"""
