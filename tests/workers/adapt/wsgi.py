"""The routes of the load test as a WSGI app."""

import time
from urllib.parse import parse_qs


def app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if environ["PATH_INFO"] == "/slow":
        time.sleep(int(parse_qs(environ["QUERY_STRING"])["ms"][0]) / 1000)
    if environ["PATH_INFO"] != "/echo":
        body = b"hello"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
