"""MNIST and Fashion-MNIST, found on disk or downloaded from a local server."""

import gzip
import hashlib
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from ae_core.data import DataOptions, load
from ae_core.data.mnist import FILES, SHA256, URLS
from ae_core.errors import DataError

PARTS = dict(
    zip(
        FILES,
        (np.arange(5 * 784).reshape(5, 28, 28) % 251, np.arange(5), np.full((2, 28, 28), 7), np.array([8, 9])),
        strict=True,
    )
)


def _idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape) + array.astype("u1").tobytes()


def _write(folder, pack=bytes, suffix="", parts=PARTS):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in parts.items():
        (folder / f"{name}{suffix}").write_bytes(pack(_idx(array)))


def _check(dataset):
    expected = np.concatenate([PARTS[FILES[0]], PARTS[FILES[2]]]).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(dataset.images[..., 0], expected)
    np.testing.assert_array_equal(dataset.labels, [0, 1, 2, 3, 4, 8, 9])
    assert dataset.labels.dtype == np.int64


@pytest.mark.parametrize("place", ["mnist", "."])
@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz")])
def test_found_on_disk(tmp_path, place, pack, suffix):
    _write(tmp_path / place, pack, suffix)
    _check(load("mnist", (28, 28, 1), DataOptions(data_folder=tmp_path)))


def test_classes_of_garments_have_names(tmp_path):
    for name in ("mnist", "fashion-mnist"):
        _write(tmp_path / name)
    named, digits = (load(name, (28, 28, 1), DataOptions(data_folder=tmp_path)) for name in ("fashion-mnist", "mnist"))
    assert named.label_names[9] == "ankle boot"
    assert digits.label_names == ()


def test_own_folder_wins(tmp_path):
    """The files of one data set beside the folder of the other are not taken for it."""
    _write(tmp_path / "mnist")
    _write(tmp_path, parts={name: np.zeros_like(array) for name, array in PARTS.items()})
    _check(load("mnist", (28, 28, 1), DataOptions(data_folder=tmp_path)))


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (FILES[1], np.arange(4), r"labels are \(6,\), must be \(7,\)"),
        (FILES[2], np.zeros((2, 20, 20)), r"uint8 \(28, 28\) and uint8 \(20, 20\), must hold the same"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, name, array, message):
    _write(tmp_path / "mnist", parts={**PARTS, name: array})
    with pytest.raises(DataError, match=message):
        load("mnist", (28, 28, 1), DataOptions(data_folder=tmp_path))


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve the four files on the loopback, in place of the network, with digests of their own."""
    _write(tmp_path / "served", partial(gzip.compress, mtime=0), ".gz")
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(URLS, "mnist", f"http://127.0.0.1:{httpd.server_port}/")
    digests = [hashlib.sha256((tmp_path / "served" / f"{name}.gz").read_bytes()).hexdigest() for name in FILES]
    monkeypatch.setitem(SHA256, "mnist", tuple(digests))
    yield tmp_path / "served"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_download_once(tmp_path, server, capsys):
    options = DataOptions(data_folder=tmp_path / "data")
    _check(load("mnist", (28, 28, 1), options))
    assert _names(tmp_path / "data" / "mnist") == sorted(f"{name}.gz" for name in FILES)
    for path in server.iterdir():
        path.unlink()
    _check(load("mnist", (28, 28, 1), options))
    assert capsys.readouterr().out == ""


def test_download_only_what_is_missing(tmp_path, server):
    _write(tmp_path / "data" / "mnist", parts={FILES[0]: PARTS[FILES[0]]})
    (server / f"{FILES[0]}.gz").unlink()
    _check(load("mnist", (28, 28, 1), DataOptions(data_folder=tmp_path / "data")))


@pytest.mark.parametrize("content", [b"<html>log in to this network</html>", b""])
def test_wrong_digest_is_not_kept(tmp_path, server, content):
    (server / f"{FILES[1]}.gz").write_bytes(content)
    with pytest.raises(
        DataError, match=rf"{FILES[1]}\.gz: its SHA-256 is [0-9a-f]{{64}}, must be {SHA256['mnist'][1]}"
    ):
        load("mnist", (28, 28, 1), DataOptions(data_folder=tmp_path / "data"))
    assert _names(tmp_path / "data" / "mnist") == [f"{FILES[0]}.gz"]


def test_missing_on_the_server(tmp_path, server):
    (server / f"{FILES[0]}.gz").unlink()
    with pytest.raises(DataError, match=r"cannot be downloaded to .*mnist \(.*[Nn]ot [Ff]ound\): put "):
        load("mnist", (28, 28, 1), DataOptions(data_folder=tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def test_offline_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(URLS, "fashion-mnist", "http://127.0.0.1:9/")
    with pytest.raises(DataError) as caught:
        load("fashion-mnist", (28, 28, 1), DataOptions(data_folder=tmp_path))
    line = str(caught.value)
    assert "\n" not in line
    assert all(name in line for name in FILES)
    assert line.endswith(f"into {tmp_path / 'fashion-mnist'}")
    assert _names(tmp_path) == []


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DataError, match="cannot be downloaded to"):
        load("mnist", (28, 28, 1), DataOptions(data_folder=tmp_path / "data"))


def test_real_digests_are_well_formed():
    digests = [digest for name in URLS for digest in SHA256[name]]
    assert len(set(digests)) == 8
    assert all(len(bytes.fromhex(digest)) == 32 for digest in digests)
