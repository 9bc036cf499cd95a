"""The SQLAlchemy tables that the domain declares."""

from sqlalchemy import MetaData

metadata = MetaData()
