"""The seam goes in only where it fits, and comes out without a trace. What it does is tested in tests/e2e."""

import mitmproxy.version
import pytest
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.test import taddons

from shadowcat_addons import http_stream
from shadowcat_addons.suite import Shadowcat


def nothing(*_):
    """Neither answers for anybody nor cares who leaves."""


def test_the_seam_was_proved_on_this_mitmproxy():
    assert mitmproxy.version.VERSION in http_stream.PROVED_VERSIONS, (
        "run tests/e2e with this version; if they pass, add it to PROVED_VERSIONS"
    )


def test_the_seam_goes_in_and_out():
    original = http_layer.HttpStream
    seam = http_stream.Seam(nothing, nothing, nothing)
    assert http_layer.HttpStream is not original
    assert issubclass(http_layer.HttpStream, original)
    seam.restore()
    assert http_layer.HttpStream is original


def test_flows_are_led_from_when_somebody_leads_them():
    original = http_layer.HttpStream
    seam = http_stream.Seam(nothing, nothing, nothing)
    before = http_layer.HttpStream
    seam.lead(leader := object())
    assert http_layer.HttpStream is not before
    assert http_layer.HttpStream.relay is leader
    seam.restore()
    assert http_layer.HttpStream is original


def test_a_seam_laid_over_ours_is_not_torn_out(monkeypatch):
    monkeypatch.setattr(http_layer, "HttpStream", http_layer.HttpStream)
    seam = http_stream.Seam(nothing, nothing, nothing)

    class Others(http_layer.HttpStream):
        pass

    http_layer.HttpStream = Others
    seam.lead(object())
    seam.restore()
    assert http_layer.HttpStream is Others


def _no_method(monkeypatch):
    monkeypatch.delattr(http_layer.HttpStream, "handle_protocol_error")


def _other_parameters(monkeypatch):
    monkeypatch.setattr(http_layer.HttpStream, "state_stream_response_body", lambda self, event, more: None)


def _other_lookup(monkeypatch):
    monkeypatch.setattr(http_layer.HttpLayer, "make_stream", lambda self, stream_id: None)


@pytest.mark.parametrize("change", [_no_method, _other_parameters, _other_lookup])
def test_internals_of_another_shape_are_left_alone_and_said(monkeypatch, caplog, change):
    original = http_layer.HttpStream
    change(monkeypatch)
    with pytest.raises(http_stream.UnexpectedInternalsError):
        http_stream.Seam(nothing, nothing, nothing)
    with taddons.context(suite := Shadowcat()):
        assert http_layer.HttpStream is original
        assert "this mitmproxy is not as expected" in caplog.text
        suite.done()
