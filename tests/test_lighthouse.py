import copy

import pytest

from tools import lighthouse

REPORT = {
    "categories": {
        "performance": {"score": 0.94, "auditRefs": [{"id": "first-contentful-paint", "weight": 10}]},
        "accessibility": {"score": 0.5, "auditRefs": [{"id": "image-alt", "weight": 7}]},
    },
    "audits": {
        "image-alt": {"id": "image-alt", "title": "Images have alt text", "score": 1},
        "total-byte-weight": {"numericValue": 25_400},
        "first-contentful-paint": {"displayValue": "1.1 s", "score": 0.9},
        "largest-contentful-paint": {"displayValue": "2.2 s"},
        "total-blocking-time": {},
    },
}


def test_a_page_is_a_line():
    line = lighthouse.row("index", REPORT)
    assert " ".join(line.split()) == "index 94 50 FCP 1.1 s, LCP 2.2 s, TBT ?, 25 kB"


def test_findings_leave_speed_out():
    assert lighthouse.findings(REPORT) == []
    report = copy.deepcopy(REPORT)
    report["audits"]["image-alt"]["score"] = 0
    assert lighthouse.findings(report) == ["image-alt: Images have alt text"]


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(lighthouse.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="npm install --global lighthouse"):
        lighthouse.main(folder=tmp_path)
    monkeypatch.setattr(lighthouse.shutil, "which", lambda name: "/bin/false")
    with pytest.raises(SystemExit, match="not built: index; run `make book`"):
        lighthouse.main(["index"], folder=tmp_path)
