"""The endpoint that a stream of HTTP+SSE announces is where its client posts, and nobody is posted to elsewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.mcp import endpoint_url, is_same_origin, leads_elsewhere

STREAM = "http://10.0.0.1:3001/api/sse?x=1"
HOST = "127.0.0.1:8080"


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("/messages?session_id=abc", "http://10.0.0.1:3001/messages?session_id=abc"),
        ("messages", "http://10.0.0.1:3001/api/messages"),
        ("?s=1", "http://10.0.0.1:3001/api/sse?s=1"),
        ("", STREAM),
        ("../m/./n", "http://10.0.0.1:3001/m/n"),
        ("  /m ", "http://10.0.0.1:3001/m%20"),
        ("/m#there", "http://10.0.0.1:3001/m"),
        ("/a b/é?q=ü%20", "http://10.0.0.1:3001/a%20b/%C3%A9?q=%C3%BC%20"),
        ("/m\r\nx-evil: 1", "http://10.0.0.1:3001/mx-evil:%201"),
        ("/m\0", "http://10.0.0.1:3001/m%00"),
        ("http://127.0.0.1:8080/m", "http://10.0.0.1:3001/m"),
        ("https://127.0.0.1:8080/m", "http://10.0.0.1:3001/m"),
        ("//127.0.0.1:8080/m", "http://10.0.0.1:3001/m"),
        ("http://10.0.0.1:3001/m", "http://10.0.0.1:3001/m"),
        ("http://elsewhere/m", "http://elsewhere/m"),
        ("http://user@127.0.0.1:8080/m", "http://user@127.0.0.1:8080/m"),
        ("file:///etc/passwd", "file:///etc/passwd"),
    ],
)
def test_an_endpoint_is_made_absolute_as_clients_do_it(endpoint, url):
    assert endpoint_url(endpoint, STREAM, HOST) == url


@pytest.mark.parametrize("endpoint", ["http://[bad", "//[::1", "http://[x]/"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint):
    with pytest.raises(ValueError, match=r"IP|IPv6|URL|appear"):
        endpoint_url(endpoint, STREAM, HOST)


@pytest.mark.parametrize(
    ("endpoint", "host", "elsewhere"),
    [
        ("/messages", HOST, False),
        ("", HOST, False),
        ("http://127.0.0.1:8080/m", HOST, False),
        ("http://LOCALHOST/m", "localhost", False),
        ("http://127.0.0.1/m", HOST, True),
        ("http://10.0.0.1:3001/m", HOST, True),
        ("http://127.0.0.1:8080/m", None, True),
        ("file:///x", HOST, False),
        ("http://[bad", HOST, True),
    ],
)
def test_an_endpoint_leads_elsewhere_when_it_names_another_host_than_its_client(endpoint, host, elsewhere):
    assert leads_elsewhere(endpoint, host) is elsewhere


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://a.example/x", True),
        ("https://A.EXAMPLE:443/y?z", True),
        ("https://user:secret@a.example/", True),
        ("http://a.example/", False),
        ("https://a.example:444/", False),
        ("https://b.example/", False),
        ("https://a.example.evil/", False),
        ("file:///x", False),
        ("", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(url, same):
    assert is_same_origin(url, "https://a.example/sse") is same


@pytest.mark.parametrize("url", ["http://a:99999999/", "http://a:x/"])
def test_a_port_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match=r"[Pp]ort"):
        is_same_origin(url, STREAM)


@given(st.text())
def test_whatever_is_announced_gives_a_url_without_anything_that_could_end_a_line(endpoint):
    try:
        url = endpoint_url(endpoint, STREAM, HOST)
        is_on_server = is_same_origin(url, STREAM)
    except ValueError:
        return
    if is_on_server:
        path = url.partition("://")[2].partition("/")[2]
        assert path.isascii()
        assert not set(path) & set("\r\n\0 \t")
