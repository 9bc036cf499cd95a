"""The demonstration: a fictional trust of six schools, brought up and served by one command."""
