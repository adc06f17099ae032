"""What `mvmic` says of errors: the cause, and what to do."""

import pytest

from mvmic_codec import api
from mvmic_codec.bitstream import ans
from mvmic_codec.cli import batch

INSTALL_AGAIN = (
    "a part of mvmic_codec is missing or out of date; install mvmic_codec again "
    "(python -m pip install -e .): "
)


def caught(code):
    with pytest.raises(ImportError) as error:
        exec(code)
    return batch.sentence(error.value)


@pytest.mark.parametrize(
    "code",
    [
        "from mvmic_codec.bitstream import an_extension",
        "import mvmic_codec.bitstream.an_extension",
        "from mvmic_codec.bitstream.ans import something_newer",
        "raise ImportError('ans.so: undefined symbol: newer', name='mvmic_codec.bitstream.ans')",
    ],
)
def test_a_part_of_this_package_is_to_be_installed_again(code):
    assert caught(code).startswith(INSTALL_AGAIN)


@pytest.mark.parametrize("name", ["torch._C", "mvmic_codec.bitstream.ans"])
@pytest.mark.parametrize(
    "said",
    [
        "x.so: failed to map segment from shared object",
        "x.so: cannot allocate memory in static TLS block",
        "x.so: cannot create shared object descriptor: Cannot allocate memory",
    ],
)
def test_want_of_memory_is_no_want_of_an_installation(name, said):
    sentence = caught(f"raise ImportError({said!r}, name={name!r})")
    assert sentence == f"a library cannot be loaded, perhaps for want of memory: {said}"


def test_another_library_that_is_missing():
    assert caught("import no_such_library") == (
        "a library is missing; install it, or mvmic_codec again: No module named 'no_such_library'"
    )


def test_an_extension_without_what_is_asked_of_it(mvmic, gray, monkeypatch):
    monkeypatch.setattr(api, "encode", lambda *arguments, **options: ans.something_newer)
    result = mvmic("encode", gray)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"mvmic: {INSTALL_AGAIN}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("of", [api, "", None])
def test_other_attributes_that_are_missing_are_bugs(mvmic, gray, monkeypatch, of):
    monkeypatch.setattr(api, "encode", lambda *arguments, **options: of.something_newer)
    with pytest.raises(AttributeError):
        mvmic("encode", gray)


def test_want_of_memory_stops_one_input_and_not_the_others(mvmic, gray, deep, monkeypatch):
    encode = api.encode

    def encode_small(image, *arguments, **options):
        if image.mode == "L":
            raise MemoryError
        return encode(image, *arguments, **options)

    monkeypatch.setattr(api, "encode", encode_small)
    result = mvmic("encode", gray, deep, "-o", f"{gray.parent}/out/")
    assert result.exit_code == 1
    assert result.stderr == f"mvmic: {gray}: there is not enough memory for this image\n"
    assert [path.name for path in (gray.parent / "out").iterdir()] == ["deep.mvm"]
