"""A bucket of moto, which speaks S3; there is no S3 here. Libraries are imported late: most tests need none of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

KEY = "testing"
"""The login and the password."""
REGION = "us-east-1"


@contextmanager
def bucket(name: str) -> Iterator[Any]:
    """An empty bucket, as a client of S3, for as long as the block runs.

    Args:
        name: Its name.
    """
    import boto3  # type: ignore[import-untyped]
    import httpx
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    try:
        # All servers of a process have the same buckets.
        httpx.post(f"{address}/moto-api/reset").raise_for_status()
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": KEY}
        client = boto3.client("s3", endpoint_url=address, region_name=REGION, **keys)
        client.create_bucket(Bucket=name)
        yield client
    finally:
        server.stop()
