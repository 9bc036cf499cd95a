"""Publishes the results of windows: a window's figures are frozen, protected as one whole by a process of their own, and stored as an edition."""
