"""What is known of a host's files from one pass to the next."""

from __future__ import annotations

from pathlib import Path

from reconciler.xl.digest_cache import DigestCache


def test_a_digest_outlives_the_process(tmp_path: Path) -> None:
    DigestCache(tmp_path / "digests/alpha.json").remember({"/boot/linux 5 7 9": "abc"})
    assert DigestCache(tmp_path / "digests/alpha.json").known() == {"/boot/linux 5 7 9": "abc"}


def test_a_cache_that_cannot_be_stored_is_still_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = DigestCache(tmp_path / "file/alpha.json")
    cache.remember({"/boot/linux 5 7 9": "abc"})
    assert cache.known() == {"/boot/linux 5 7 9": "abc"}
