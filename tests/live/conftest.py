"""Fixtures of servers that several files talk to."""

from .airflow_session import airflow, marks

__all__ = ["airflow", "marks"]
