"""Runs chatlake as tasks of Apache Airflow 3."""

from chatlake_airflow.operator import ChatlakeOperator
from chatlake_airflow.partitions import days_changed

__all__ = ["ChatlakeOperator", "days_changed"]
