"""The public names, pinned: adding or losing one is a decision."""

from importlib.metadata import version

import pytest

import pauc_hub


def test_the_public_names_are_these() -> None:
    assert pauc_hub.__all__ == ["Model", "PaucError", "__version__", "load"]


@pytest.mark.parametrize("name", pauc_hub.__all__)
def test_every_public_name_is_there_and_shown(name: str) -> None:
    assert hasattr(pauc_hub, name)
    assert name in dir(pauc_hub)


def test_lazy_names_are_those_of_their_modules() -> None:
    from pauc_hub import errors
    from pauc_hub.inference import model

    assert pauc_hub.load is model.load
    assert pauc_hub.Model is model.Model
    assert pauc_hub.PaucError is errors.PaucError


def test_the_version_is_that_of_the_distribution() -> None:
    assert pauc_hub.__version__ == version("pauc-hub")


def test_other_names_are_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match=r"^module 'pauc_hub' has no attribute 'lode'$"):
        _ = pauc_hub.lode
