import gzip
import threading
import urllib.request

import pytest

from tools import read


@pytest.mark.enable_socket
def test_text_is_sent_compressed_and_pictures_as_they_are(tmp_path):
    (tmp_path / "index.html").write_text("<p>words</p>" * 100)
    (tmp_path / "a.png").write_bytes(b"picture" * 100)
    with read.server(tmp_path, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def get(path, **headers):
            request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}{path}", headers=headers)
            with urllib.request.urlopen(request, timeout=1200) as answer:
                return answer.headers, answer.read()

        accept = {"Accept-Encoding": "gzip"}
        for path in ("/", "/index.html", "/index.html?q=1"):
            headers, body = get(path, **accept)
            assert headers["Content-Encoding"] == "gzip"
            assert headers["Content-Type"] == "text/html"
            assert len(body) < 100
            assert gzip.decompress(body) == (tmp_path / "index.html").read_bytes()
        assert get("/index.html")[1] == (tmp_path / "index.html").read_bytes()
        headers, body = get("/a.png", **accept)
        assert headers["Content-Encoding"] is None
        assert body == b"picture" * 100
        assert server.server_address[0] == "127.0.0.1"
        server.shutdown()
        thread.join()
