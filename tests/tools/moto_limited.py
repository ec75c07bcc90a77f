"""An S3 server whose one user may do some things only: moto_limited.py ACTION... (s3:GetObject, s3:ListBucket, ...), or moto_limited.py POLICY,
a policy as JSON for the bucket `limited`.

Prints one line of JSON, {"endpoint", "bucket", "key", "secret"}, and serves on loopback until its standard input ends.
"""

import json
import logging
import os
import sys

# What is called below, before the rights count: a user, a policy, a key, a bucket.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "4"

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "limited"


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    options = {
        "endpoint_url": endpoint,
        "region_name": "us-east-1",
        "aws_access_key_id": "anybody",
        "aws_secret_access_key": "anything",
    }
    iam = boto3.client("iam", **options)
    iam.create_user(UserName="user")
    policy = sys.argv[1]
    if not policy.startswith("{"):
        statement = {"Effect": "Allow", "Action": sys.argv[1:], "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="user", PolicyName="limited", PolicyDocument=policy)
    key = iam.create_access_key(UserName="user")["AccessKey"]
    boto3.client("s3", **options).create_bucket(Bucket=BUCKET)
    found = {"endpoint": endpoint, "bucket": BUCKET, "key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
    print(json.dumps(found), flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
