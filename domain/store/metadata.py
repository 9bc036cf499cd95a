"""The tables that the domain's statements name."""

from sqlalchemy import MetaData

metadata = MetaData()
