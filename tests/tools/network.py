"""A network of our own: a proxy that ends TLS for hosts which do not exist, and writes down what passes.

    network.py DIR < CONFIG

CONFIG is one line of JSON, {"hosts": {HOST: "127.0.0.1:PORT"}}: where requests for a host go, in plain HTTP. Prints one line,
{"proxy": URL, "tls": URL, "ca": FILE, "credentials": URL}, and serves on loopback until its standard input ends.

- `proxy` is an HTTP proxy. It takes requests to http:// and tunnels (CONNECT); in a tunnel it is the host, with a certificate by `ca`.
- `tls` is https:// on loopback without a proxy, which forwards to the host named "tls".
- `credentials` gives temporary keys to who brings the token "container-token", as the agents of AWS' containers do. The proxy answers
  like this for 169.254.170.2.

DIR/requests.ndjson has a line for each request that was forwarded: {"via", "proxy_user", "host", "method", "path", "access_key", "has_session_token",
"headers"}, where headers are those that begin with x-amz-server-side-encryption.
"""

import asyncio
import base64
import json
import os
import pathlib
import ssl
import sys
from urllib.parse import urlsplit

import trustme

CONTAINER_TOKEN = "container-token"
CREDENTIALS = {
    "AccessKeyId": "KEYOFTHECONTAINER",
    "SecretAccessKey": "secret-of-the-container",
    "Token": "token-of-the-container",
    "Expiration": "2099-01-01T00:00:00Z",
}


class Network:
    def __init__(self, folder: pathlib.Path, hosts: dict[str, str]) -> None:
        self.hosts = hosts
        self.requests = (folder / "requests.ndjson").open("a", buffering=1)
        ca = trustme.CA()
        self.ca = folder / "ca.pem"
        ca.cert_pem.write_to_path(self.ca)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(*hosts, "127.0.0.1").configure_cert(self.context)

    async def proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        if head is None:
            return
        method, target, _ = head[0].split(" ", 2)
        _, _, said = headers_of(head).get("proxy-authorization", "").partition("Basic ")
        user = base64.b64decode(said).decode()
        if method != "CONNECT":
            await self.forward("proxy", urlsplit(target).hostname, head, reader, writer, user)
            return
        host = target.rsplit(":", 1)[0]
        if host not in self.hosts:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()
        await writer.start_tls(self.context)
        if (head := await read_head(reader)) is not None:
            await self.forward("tunnel", host, head, reader, writer, user)

    async def tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (head := await read_head(reader)) is not None:
            await self.forward("tls", "tls", head, reader, writer)

    async def credentials(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (head := await read_head(reader)) is not None:
            answer_with_credentials(headers_of(head).get("authorization") == CONTAINER_TOKEN, writer)

    async def forward(self, via, host, head, reader, writer, proxy_user="") -> None:
        """One request to a connection: the client is told that it is the last."""
        headers = headers_of(head)
        method, target, version = head[0].split(" ", 2)
        url = urlsplit(target)
        if host == "169.254.170.2":
            answer_with_credentials(True, writer)
            return
        credential = headers.get("authorization", "").partition("Credential=")[2]
        self.requests.write(json.dumps({
            "via": via,
            "proxy_user": proxy_user,
            "host": host,
            "method": method,
            "path": url.path,
            "query": url.query.split("&")[0].split("=")[0],
            "access_key": credential.split("/")[0],
            "has_session_token": "x-amz-security-token" in headers,
            "headers": {name: value for name, value in headers.items() if name.startswith("x-amz-server-side-encryption")},
        }) + "\n")
        address, port = self.hosts[host].rsplit(":", 1)
        from_server, to_server = await asyncio.open_connection(address, int(port))
        path = url._replace(scheme="", netloc="").geturl()
        kept = [line for line in head[1:] if not line.lower().startswith(("connection:", "proxy-"))]
        form = b""
        if method == "POST" and "content-length" not in headers:
            # AWS takes what it is asked in the query too, moto in the body only.
            form = url.query.encode()
            kept += [f"content-length: {len(form)}", "content-type: application/x-www-form-urlencoded"]
        lines = [f"{method} {path} {version}", *kept, "connection: close", "x-forwarded-proto: https", "", ""]
        to_server.write("\r\n".join(lines).encode("latin-1"))
        to_server.write(form)
        left = int(headers.get("content-length", 0))
        while left and (chunk := await reader.read(min(left, 65536))):
            to_server.write(chunk)
            await to_server.drain()
            left -= len(chunk)
        await to_server.drain()
        while chunk := await from_server.read(65536):
            writer.write(chunk)
            await writer.drain()
        to_server.close()


def answer_with_credentials(may_have_them: bool, writer: asyncio.StreamWriter) -> None:
    body = json.dumps(CREDENTIALS).encode() if may_have_them else b"{}"
    status = "200 OK" if may_have_them else "401 Unauthorized"
    writer.write(f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)


async def read_head(reader: asyncio.StreamReader) -> list[str] | None:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    except asyncio.IncompleteReadError:
        return None


def headers_of(head: list[str]) -> dict[str, str]:
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}


def ends(handler):
    """Whatever a client does ends its connection and nothing else."""

    async def serve(reader, writer):
        try:
            await handler(reader, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError) as error:
            print(f"{handler.__name__}: {error}", file=sys.stderr)
        finally:
            writer.close()

    return serve


async def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    network = Network(folder, json.loads(sys.stdin.readline())["hosts"])

    async def listen(handler, **options):
        server = await asyncio.start_server(ends(handler), "127.0.0.1", 0, **options)
        return "127.0.0.1:%d" % server.sockets[0].getsockname()[1]

    print(json.dumps({
        "proxy": "http://" + await listen(network.proxy),
        "tls": "https://" + await listen(network.tls, ssl=network.context),
        "credentials": "http://" + await listen(network.credentials),
        "ca": str(network.ca),
    }), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    # Connections that are kept open are nobody's any more.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
