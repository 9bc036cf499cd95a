"""The demonstration: a fictional trust of six schools, created and served by one command."""
