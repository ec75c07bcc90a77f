"""Make a bucket at an S3 endpoint: make_bucket.py ENDPOINT NAME, with credentials from AWS_*."""

import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

READY_SECONDS = 60
OURS_ALREADY = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


def main() -> None:
    endpoint, name = sys.argv[1:]
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, connect_timeout=5, read_timeout=30)
    s3 = boto3.client("s3", endpoint_url=endpoint, config=config)
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            s3.create_bucket(Bucket=name)
            return
        except ClientError as error:
            if error.response["Error"]["Code"] in OURS_ALREADY:
                return
            problem = error
        except BotoCoreError as error:
            problem = error
        if time.monotonic() > deadline:
            sys.exit(f"cannot make bucket {name} at {endpoint}: {problem}")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
