"""Connections of Airflow as the variables that chatlake reads. Values are secrets: they go into an environment and nowhere else."""

from __future__ import annotations

from airflow.sdk import Connection

from chatlake_airflow.exceptions import AirflowFailException

# Templated fields are shown in the UI, so these are not taken from there.
SECRETS = frozenset({"STREAM_API_SECRET", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"})

# What a connection stands in for: of two keys from two places chatlake would refuse the pair, or sign with the wrong one.
STREAM_CREDENTIALS = ("STREAM_API_KEY", "STREAM_API_SECRET", "STREAM_API_KEY_FILE", "STREAM_API_SECRET_FILE")
S3_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")

# Extras that ask for more than a pair of keys.
ROLES = ("role_arn", "assume_role_method", "profile_name")


def stream_env(connection: Connection) -> dict[str, str]:
    """Login is the app's key, password its secret; a host is where Stream's API is, if it is elsewhere."""
    env = _given(STREAM_API_KEY=connection.login, STREAM_API_SECRET=connection.password)
    if len(env) < 2:
        raise AirflowFailException(
            f"connection `{connection.conn_id}` lacks the key (login) or the secret (password) of the Stream app"
        )
    if connection.host:
        host = connection.host if "://" in connection.host else f"{connection.schema or 'https'}://{connection.host}"
        env["STREAM_BASE_URL"] = f"{host}:{connection.port}" if connection.port else host
    return env


def s3_env(connection: Connection) -> dict[str, str]:
    """An AWS connection with keys. Roles are left to the worker's environment, which chatlake reads itself."""
    extra = connection.extra_dejson
    asked = [name for name in ROLES if extra.get(name)]
    if asked:
        raise AirflowFailException(
            f"connection `{connection.conn_id}` sets {', '.join(asked)}: give the worker that role, and leave out s3_conn_id"
        )
    return _given(
        AWS_ACCESS_KEY_ID=connection.login,
        AWS_SECRET_ACCESS_KEY=connection.password,
        AWS_SESSION_TOKEN=extra.get("aws_session_token"),
        AWS_REGION=extra.get("region_name"),
        AWS_ENDPOINT_URL=extra.get("endpoint_url"),
    )


def _given(**variables: str | None) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value}
