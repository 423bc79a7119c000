"""`./run_all.sh lab`: the three notebooks are open, on this machine only, behind a token."""

import re
import urllib.error
import urllib.request

import psutil
import pytest
from lab_notebook import Server
from playwright.sync_api import Browser, expect

from peft_study.engine.steps import COMPARE, EXPLORE, TRAIN

pytestmark = pytest.mark.browser


def test_the_three_notebooks_are_open_in_order_and_for_nobody_else(browser: Browser, server: Server) -> None:
    page = browser.new_page()
    page.goto(server.address)
    tabs = page.locator("#jp-main-dock-panel .lm-TabBar-tab")
    expect(tabs).to_have_text([EXPLORE, TRAIN, COMPARE], timeout=60_000)
    expect(tabs.first).to_have_class(re.compile("lm-mod-current"))
    expect(page.locator(".jp-NotebookPanel:visible h1").first).to_contain_text("What is in the texts")
    page.close()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{server.url}/api/contents")
    port = int(server.url.split(":")[-1])
    listening = [c for c in psutil.net_connections() if c.status == "LISTEN" and c.laddr.port == port]
    assert listening and {c.laddr.ip for c in listening} <= {"127.0.0.1", "::1"}
