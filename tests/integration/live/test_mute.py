"""Interpreters that give no snapshot: they end with their reason, and hold up nobody else's."""

from __future__ import annotations

from tests.integration.live.conftest import LIVE_MAX, talk
from tests.servers import Server
from tests.waiting import wait_until

MUTE = "class Slow:\n    def __reduce__(self):\n        import time\n        time.sleep(3600)\nslow = Slow()"


def test_a_mute_interpreter_is_lost_with_a_reason_and_others_are_stored(small: Server) -> None:
    mute = talk(small)
    mute.run(MUTE)
    fine = talk(small)
    fine.run("kept = 1")
    for _ in range(LIVE_MAX):
        talk(small).run("1")
    wait_until(lambda: fine.state == "stored" and mute.state == "none", 60, "both are gone")
    assert fine.result("kept") == "1"
    run = mute.run("'slow' in globals()")
    assert (run["result"], run["state"]["status"]) == ("False", "lost")
    assert "did not give its variables" in run["state"]["reason"]
