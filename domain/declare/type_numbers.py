"""The type number in the ids of each table (ids.py). A number is never given to another table: a new one gets one more
than the highest, and the gaps are spent.
"""

TRUST = 1
MEMBERSHIP = 2
SCHOOL = 3
PUPIL = 4
ENROLMENT = 5
SUBJECT = 6
SCHEME = 7
WINDOW = 8
TARGET = 9
GROUP = 10
ASPECT = 11
RECEIPT = 14
DATA_ISSUE = 15
RECORD_CHANGE = 16
DISCOUNT = 17
PLANNED_ROLL = 18
JOB = 19
CLIENT = 20
GRANT = 21
COMMON_SCALE = 22
CROSSWALK = 23
CALENDAR_LINK = 24
COLLECTION_ANSWER = 25
PUBLICATION = 26
