"""open_store: the URL chooses the store, or is refused in one line."""

from pathlib import Path

import pytest

from service.errors import StartupError
from service.history import open_store
from service.history.memory import MemoryHistoryStore


async def test_the_url_chooses_the_store(tmp_path: Path) -> None:
    """memory:// needs nothing; sqlite:/// makes the file and its folder."""
    memory = open_store("memory://", max_items=1)
    sqlite = open_store(f"sqlite:///{tmp_path}/new/folder/histories.sqlite3", max_items=1)

    assert isinstance(memory, MemoryHistoryStore)
    assert (tmp_path / "new" / "folder" / "histories.sqlite3").exists()

    await sqlite.close()


@pytest.mark.parametrize("url", ["", "sqlite", "sqlite:///", "sqlite://x", "redis+foo://h", "/a/b"])
def test_other_urls_are_refused(url: str) -> None:
    """The line says what was found and what is expected."""
    with pytest.raises(StartupError, match=r"expected sqlite:///PATH, memory://, redis://HOST"):
        open_store(url, max_items=1)


def test_a_refused_url_does_not_show_its_password() -> None:
    """The line may end up in a log."""
    with pytest.raises(StartupError) as error:
        open_store("mysql://ann:secret@db/x", max_items=1)

    assert "secret" not in str(error.value)
    assert "mysql://ann:***@db/x" in str(error.value)
