import nbformat
import pytest

from tools import colab, execute


def test_every_chapter_installs_aelib_first(tmp_path):
    colab.main(tmp_path, "Somebody/book")
    for chapter in execute.chapters():
        ours, theirs = (nbformat.read(execute.path_of(chapter, root), 4) for root in (execute.ROOT, tmp_path))
        first, *others = theirs.cells
        assert [cell.source for cell in others] == [cell.source for cell in ours.cells]
        assert '"aelib[retrieval] @ git+https://github.com/Somebody/book"' in first.source
        nbformat.validate(theirs)


def test_nothing_is_installed_where_aelib_is():
    ran = []
    code = colab.INSTALL.format(repository="Somebody/book")
    head, _, command = code.partition("    %")
    exec(head + "    ran.append(1)", {"ran": ran})
    assert ran == []
    assert command.startswith("pip install --quiet")
    assert "tensorflow" not in command


@pytest.mark.parametrize("repository", ["", "book", "https://github.com/Somebody/book"])
def test_a_repository_has_an_owner_and_a_name(tmp_path, repository):
    with pytest.raises(SystemExit, match="GITHUB_REPOSITORY must be owner/name"):
        colab.main(tmp_path, repository)
    assert not any(tmp_path.iterdir())
