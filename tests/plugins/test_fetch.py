"""plugins/fetch.py, which gets the headers from the machine's own Debian mirror."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """plugins/fetch.py on a Debian whose sources are empty."""
    spec = importlib.util.spec_from_file_location("fetch", ROOT / "plugins/fetch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    monkeypatch.setattr(module, "APT", tmp_path)
    monkeypatch.setattr(module, "OS_RELEASE", tmp_path / "os-release")
    return module


STANZAS = """# one
Types: deb
URIs: http://no.example/security
Suites: bookworm-security
Components: main

Types: deb
# where from
URIs: http://one.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
"""
LINES = """# deb http://no.example bookworm main
deb-src http://no.example bookworm main
deb http://no.example/security bookworm-security main
deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian bookworm main contrib
"""


def test_the_mirror_is_the_machines_own(fetch: ModuleType, tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    (parts / "other.sources").write_text("Types: deb\nURIs: http://no.example\nSuites: nodistro\nComponents: main\n")
    (tmp_path / "sources.list").write_text(LINES)
    assert fetch.mirror("trixie") == (
        "debian.list",
        "deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian trixie main\n",
    )
    (parts / "debian.sources").write_text(STANZAS)
    name, text = fetch.mirror("trixie")
    assert name == "debian.sources"
    assert {"types: deb", "uris: http://one.example/debian", "suites: trixie", "components: main"} <= set(
        text.splitlines()
    )
    assert "signed-by: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n" in text
    assert "security" not in text
    assert "components: non-free" in fetch.mirror("trixie", "non-free")[1]


def test_what_cannot_be_fetched_leaves_nothing(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = tmp_path / "build/headers"
    with pytest.raises(fetch.Unavailable, match="no source of bookworm was found below"):
        fetch.fetch(["libonnxruntime-dev"], "trixie", into)
    (tmp_path / "os-release").write_text("ID=ubuntu\n")
    with pytest.raises(fetch.Unavailable, match="this is ubuntu, and they are taken from Debian's archive"):
        fetch.fetch(["libonnxruntime-dev"], "trixie", into)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(fetch.Unavailable, match="this machine has no apt-get"):
        fetch.fetch(["libonnxruntime-dev"], "trixie", into)
    assert not into.parent.exists()
    into.mkdir(parents=True)
    fetch.fetch(["libonnxruntime-dev"], "trixie", into)  # there already: nothing is done


def test_a_download_that_fails_leaves_nothing(fetch: ModuleType, tmp_path: Path) -> None:
    if not shutil.which("apt-get"):
        pytest.skip("apt-get is not installed")
    (tmp_path / "sources.list").write_text("deb [trusted=yes] http://127.0.0.1:9 bookworm main\n")
    with pytest.raises(fetch.Unavailable, match="apt-get update: E: Failed to fetch"):
        fetch.fetch(["libonnxruntime-dev"], "trixie", tmp_path / "build/headers")
    assert list((tmp_path / "build").iterdir()) == []


@pytest.mark.parametrize("architecture", [None, "arm64"])
def test_another_architecture_is_asked_for_alone(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str | None
) -> None:
    (tmp_path / "sources.list").write_text("deb http://one.example/debian bookworm main\n")
    monkeypatch.setattr(fetch.shutil, "which", lambda name: f"/usr/bin/{name}")
    ran: list[list[str]] = []
    monkeypatch.setattr(fetch, "_run", lambda command, folder: ran.append(command))
    fetch.fetch(["libc6"], "bookworm", tmp_path / "build/sysroot", architecture)
    assert [command[-1] for command in ran] == ["update", "libc6"]
    for command in ran:
        asked = [option for option in command if option.startswith("APT::Architecture")]
        assert asked == (["APT::Architecture=arm64", "APT::Architectures=arm64"] if architecture else [])
