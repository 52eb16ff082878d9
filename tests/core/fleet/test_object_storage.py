"""Drives and results in S3 and in Google Cloud Storage, against local servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkseg_ros.commands.cli import main
from darkseg_ros.fleet.places import file_system_of, names_in, read_bytes
from tests.bundles import write_tiny_bundle
from tests.core.evaluation.fleet.drives import HW, write_drive

# botocore and aiobotocore leave their connections to the end of the process
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a server on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    with file_system_of("s3://nights") as (storage, path):
        storage.mkdir(path)
    yield "s3://nights"
    server.stop()


@pytest.fixture
def gs(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As `s3`, of the other kind."""
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="nights")
    server.start()
    host, port = server._api._httpd.server_address
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}:{port}")
    # else it asks Google for the kind of each bucket, which no emulator answers
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    yield "gs://nights"
    server.stop()


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_drives_are_read_from_a_bucket_and_results_written_there(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = request.getfixturevalue(kind)
    bundle = write_tiny_bundle(tmp_path / "bundle", HW)
    for index in range(2):
        write_drive(tmp_path / "drives" / f"drive_{index}", wrong_share=index / 4)
    with file_system_of(bucket) as (storage, path):
        storage.put(f"{tmp_path / 'drives'}/", f"{path}/drives/", recursive=True)
    options = ["--bundle", str(bundle), "--backend", "fake"]
    assert main(["evaluate", f"{bucket}/drives", "--out", f"{bucket}/out", *options]) == 0
    metrics = json.loads(read_bytes(f"{bucket}/out/metrics.json") or b"")
    assert metrics["drives"] == 2
    assert metrics["pixel_accuracy"] == 0.875
    assert len(names_in(f"{bucket}/out/drives", ending=".parquet")) == 2
    assert main(["evaluate", f"{bucket}/drives", "--out", f"{bucket}/out", "--resume", *options]) == 0
    assert "2 of 2 drives have their result already" in capsys.readouterr().out
    assert main(["segment", f"{bucket}/drives/*", "--out", f"{bucket}/maps", *options]) == 0
    assert names_in(f"{bucket}/maps/drive_0", ending=".png") == {f"drive_0_00000{index}.png" for index in range(3)}
    assert main(["evaluate", f"{bucket}/missing", "--out", f"{bucket}/out", *options]) == 1
    assert "leads to no drive" in capsys.readouterr().err
