"""What no program needs any more and is dropped a release later: by its name, the first migration whose program no longer uses it.

A migration may drop what stands here, if it came later, and it then raises `schema_compatibility.oldest_program` to that number (docs/migrations.md).
"""

LATER: dict[str, str] = {"relation current_targets": "0016"}
"""Such as {"relation contributions": "0016", "column pupils.nickname": "0017"}; tests/system_catalogue.py names things so."""
